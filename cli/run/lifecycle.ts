import { constants as osConstants } from 'node:os';
import type { AttachRequest, DetachRequest, DetachResult } from '../../core/api/attach.js';
import type { ResolverView } from '../../core/api/dns.js';
import type { EndpointView } from '../../core/api/endpoint.js';
import { formatPort } from '../../core/ports.js';
import { attachTimeoutMs } from '../commands/connect.js';
import type { Connections } from '../connection.js';
import type { CliContext } from '../context.js';
import { asTsnetError } from '../errors.js';
import { isForeground, openSandbox, startTimeOf, type Sandbox } from './sandbox.js';
import { relaySignals } from './signals.js';

export type AttachPlan = Omit<AttachRequest, 'target' | 'id'>;

export interface RunRequest {
  /** One for each network, in the order they are attached. */
  readonly attaches: readonly AttachPlan[];
  readonly command: readonly string[];
}

/**
 * Runs a command in a fresh sandbox: attaches it to every network, lets it start, waits for its end
 * and detaches it; resolves with its exit code. If an attach fails, the command never starts, what was
 * attached is detached, and the error is thrown.
 */
export async function runInSandbox(cli: CliContext, calls: Connections, request: RunRequest): Promise<number> {
  const abort = new AbortController();
  let stoppedBy: NodeJS.Signals | undefined;
  // Before the command is there a signal to it ends the attempt, wherever the signal came from.
  const relay = relaySignals(() => stage === 'running' && isForeground());
  let stage: 'attaching' | 'running' | 'ended' = 'attaching';
  relay.forward = (name) => {
    if (name === 'SIGWINCH') return;
    stoppedBy = name;
    abort.abort();
  };
  const attached: DetachRequest[] = [];
  try {
    const sandbox = await openSandbox(cli, request.command);
    const id = `run-${sandbox.pid}-${startTimeOf(sandbox.pid)}`;
    try {
      for (const plan of request.attaches) {
        // Noted first: an attach whose answer is lost may have been done.
        attached.unshift({ network: plan.network, id });
        const body: AttachRequest = { ...plan, target: `pid:${sandbox.pid}`, id };
        const made = await calls.agent<EndpointView>('POST', '/v1/agent/attach', {
          body,
          timeoutMs: attachTimeoutMs,
          signal: abort.signal,
        });
        sayChosen(cli, plan, made);
        if (stoppedBy !== undefined) break;
      }
    } catch (error) {
      await endSandbox(sandbox);
      if (stoppedBy === undefined) throw error;
    }
    const resolvConf = stoppedBy === undefined ? await resolvConfOf(calls, `pid:${sandbox.pid}`) : '';
    if (stoppedBy !== undefined) {
      await endSandbox(sandbox);
      return 128 + osConstants.signals[stoppedBy];
    }
    relay.forward = (name) => sandbox.signal(name);
    stage = 'running';
    sandbox.go(resolvConf);
    return await sandbox.exited;
  } finally {
    stage = 'ended';
    relay.forward = () => undefined;
    await detachAll(cli, calls, attached);
    relay.stop();
  }
}

/** Says which host ports were chosen; on standard error, for the output is the command's. */
function sayChosen(cli: CliContext, plan: AttachPlan, made: EndpointView): void {
  for (const [index, { hostPort }] of (plan.ports ?? []).entries()) {
    const mapping = made.ports?.[index];
    if (hostPort === 0 && mapping !== undefined) cli.stderr.write(`published: ${formatPort(mapping)}\n`);
  }
}

/** The resolv.conf of a sandbox; empty where the agent has no name server, or is an older one. */
async function resolvConfOf(calls: Connections, target: string): Promise<string> {
  try {
    const query = new URLSearchParams({ target }).toString();
    return (await calls.agent<ResolverView>('GET', `/v1/agent/resolver?${query}`)).text;
  } catch {
    return '';
  }
}

async function endSandbox(sandbox: Sandbox): Promise<void> {
  sandbox.cancel();
  await sandbox.exited;
}

/** Detaches everything, going on past errors: the agent removes by itself what a vanished sandbox leaves. */
async function detachAll(cli: CliContext, calls: Connections, attached: readonly DetachRequest[]): Promise<void> {
  for (const body of attached) {
    try {
      await calls.agent<DetachResult>('POST', '/v1/agent/detach', { body });
    } catch (error) {
      cli.stderr.write(`warning: not detached from ${body.network}: ${asTsnetError(error).message}\n`);
    }
  }
}
