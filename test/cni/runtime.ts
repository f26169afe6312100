import { readdirSync, readFileSync } from 'node:fs';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { LabHost } from '../lab/host.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { mustExecIn, type Sandbox } from '../lab/sandbox.js';
import { cniEnv, startPlugin, type PluginResult } from './program.js';

export interface ResultJson {
  readonly cniVersion: string;
  readonly interfaces: readonly { readonly name: string; readonly mac: string; readonly sandbox?: string }[];
  readonly ips: readonly { readonly address: string; readonly gateway?: string; readonly interface: number }[];
  readonly routes?: readonly { readonly dst: string; readonly gw?: string }[];
}

export const pathOf = (sandbox: Sandbox): string => sandbox.target.replace(/^netns:/, '');

/** A runtime on a host of the lab, with one network. */
export class Runtime {
  constructor(
    readonly host: LabHost,
    readonly config: Readonly<Record<string, unknown>> = {},
  ) {}

  call(
    command: string,
    container: { id: string; netns?: string; ifname?: string; args?: string },
    more: object = {},
  ): Promise<PluginResult> {
    return this.start(command, container, more).ended;
  }

  start(command: string, container: { id: string; netns?: string; ifname?: string; args?: string }, more: object = {}) {
    const stdin = JSON.stringify({
      cniVersion: '1.1.0',
      name: 'net',
      type: 'tsnet',
      agentSocket: this.host.socket,
      ...this.config,
      ...more,
    });
    return startPlugin({ env: cniEnv(command, container), stdin, enter: enterArgs(netnsPath(this.host.netns)) });
  }

  async add(id: string, sandbox: Sandbox, more: object = {}): Promise<ResultJson> {
    const result = await this.call('ADD', { id, netns: pathOf(sandbox) }, more);
    if (result.status !== 0) throw new Error(result.stdout);
    return result.json as ResultJson;
  }
}

/** Whether a plugin has connected to the agent and sleeps. */
export function isWaiting(pid: number): boolean {
  const state = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return state.includes('(tsnet) S') && readdirSync(`/proc/${pid}/fd`).some((fd) => Number(fd) > 2);
}

export const addressOf = (result: ResultJson): string => result.ips[0]?.address.split('/')[0] ?? '';
export const namesIn = async (sandbox: Sandbox): Promise<string[]> => {
  const links = JSON.parse(await mustExecIn(sandbox, 'ip', '-j', 'link')) as { ifname: string }[];
  return links.map(({ ifname }) => ifname).filter((name) => !name.startsWith('tsd-'));
};

/** The callers' ids of a host's endpoints. */
export async function idsOf(host: LabHost): Promise<string[]> {
  const endpoints = await host.api.call<EndpointView[]>('GET', '/v1/agent/endpoints');
  return endpoints.map(({ callerId }) => callerId).sort();
}
