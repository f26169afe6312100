import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { HostView } from '../../core/api/host.js';
import type { NetworkView } from '../../core/api/network.js';
import { TsnetError } from '../../core/errors.js';

export interface StubRequest {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
  readonly token: string | undefined;
}

/** What the stub answers; undefined: 204. A thrown TsnetError becomes its body. */
export type Answer = (request: StubRequest) => unknown;

export interface StubApi {
  readonly socket: string;
  readonly requests: StubRequest[];
  readonly env: Readonly<Record<string, string>>;
  close(): Promise<void>;
}

/** A server on a unix socket that keeps what it was asked. */
export async function openStubApi(answer: Answer): Promise<StubApi> {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-cli-'));
  const socket = join(folder, 'api.sock');
  const requests: StubRequest[] = [];
  const server = createServer((request, response) => void respond(request, response));
  await new Promise<void>((done) => server.listen(socket, done));
  return {
    socket,
    requests,
    env: { TSNET_AGENT_SOCKET: socket },
    close: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
      rmSync(folder, { recursive: true });
    },
  };

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const sent = await text(request);
    const stubRequest = {
      method: request.method ?? '',
      path: request.url ?? '',
      body: sent === '' ? undefined : (JSON.parse(sent) as unknown),
      token: request.headers.authorization,
    };
    requests.push(stubRequest);
    try {
      const value = await answer(stubRequest);
      response.statusCode = value === undefined ? 204 : 200;
      response.end(value === undefined ? undefined : JSON.stringify(value));
    } catch (error) {
      if (!(error instanceof TsnetError)) throw error;
      response.statusCode = error.http;
      response.end(JSON.stringify(error.toBody()));
    }
  }
}

export const frontend: NetworkView = {
  // Not in the documented order: the CLI has to put it so.
  name: 'frontend',
  id: '1a2b3c4d',
  driver: 'overlay',
  subnets: [
    { subnet: '10.64.0.0/20', gateway: '10.64.0.1' },
    { subnet: 'fd74:736e::/64', gateway: 'fd74:736e::1' },
  ],
  vni: 8388609,
  mtu: 1450,
  internal: false,
  labels: { tier: 'web' },
  options: {},
  createdAt: '2026-01-02T03:04:05.000Z',
  generation: 3,
};

export const lan: NetworkView = {
  id: '5e6f7a8b',
  name: 'lan',
  driver: 'macvlan',
  subnets: [{ subnet: '198.18.4.0/24', gateway: null, range: '198.18.4.128/25' }],
  vni: null,
  mtu: 1500,
  internal: true,
  labels: {},
  options: { parent: 'eth1' },
  createdAt: '2026-01-02T03:04:06.000Z',
  generation: 1,
};

export const web: EndpointView = {
  id: '0123456789abcdef',
  name: 'web',
  aliases: ['www', 'shop'],
  network: 'frontend',
  host: 'node1',
  addresses: ['10.64.0.5', 'fd74:736e::5'],
  mac: '02:00:0a:40:00:05',
  ifname: 'eth0',
  sandbox: 'netns:/run/netns/blue',
  generation: 2,
  state: 'attached',
  labels: { tier: 'web' },
  callerId: 'cookie-4711',
  createdAt: '2026-01-02T03:04:07.000Z',
};

export const unnamed: EndpointView = {
  ...web,
  id: 'fedcba9876543210',
  name: null,
  aliases: [],
  network: 'lan',
  addresses: ['198.18.4.129'],
  labels: {},
  sandbox: null,
  state: 'reserved',
};

const resolver = {
  nameservers: ['10.64.0.1', 'fd74:736e::1'],
  search: ['frontend.tsnet.internal'],
  options: ['timeout:2', 'attempts:3'],
};

export const node1: HostView = {
  name: 'node1',
  vtep: '198.18.0.1',
  state: 'up',
  lastSeen: '2026-01-02T03:04:08.000Z',
  underlayMtu: 1500,
  version: '0.1.0',
};

const webName = {
  name: 'web.frontend.tsnet.internal',
  network: 'frontend',
  addresses: ['10.64.0.5', 'fd74:736e::5'],
  host: 'node1',
  endpoint: '0123456789abcdef',
  generation: 2,
};

const webAnswer = {
  name: 'web',
  status: 'NOERROR',
  reason: 'found',
  records: [
    {
      name: 'web',
      type: 'A',
      ttl: 2,
      value: '10.64.0.5',
      endpoint: '0123456789abcdef',
      network: 'frontend',
      host: 'node1',
      generation: 2,
    },
  ],
};

/** Answers as a small cluster does. */
export function answerCluster({ method, path, body }: StubRequest): unknown {
  const networks: Readonly<Record<string, NetworkView>> = { frontend, lan };
  const [, kind, name] = /^\/v1\/([a-z]+)\/?([^?]*)/.exec(path) ?? [];
  if (kind === 'networks' && name !== undefined && name !== '') {
    const network = networks[decodeURIComponent(name)];
    if (network === undefined)
      throw new TsnetError('ERR_NETWORK_UNKNOWN', `network: there is no "${decodeURIComponent(name)}"`);
    return method === 'DELETE' ? undefined : network;
  }
  if (kind === 'networks') return method === 'POST' ? { ...frontend, ...(body as object) } : [frontend, lan];
  if (kind === 'endpoints') return [web, unnamed];
  if (kind === 'hosts' && method === 'DELETE') return { name, blocks: 2, endpoints: 3 };
  if (kind === 'hosts' && method === 'POST') return { host: name, token: '0123456789abcdef'.repeat(4) };
  if (kind === 'hosts') return [node1];
  if (path === '/v1/status')
    return { version: '0.1.0', epoch: 'e1', revision: 42, store: 'ok', networks: 2, hosts: 1, endpoints: 2 };
  if (path === '/v1/agent/status') return agentStatus;
  if (path === '/v1/agent/attach') return web;
  if (path === '/v1/agent/detach') return { detached: [web.id] };
  if (path === '/v1/agent/endpoints') return [web];
  if (path === '/v1/agent/endpoints/web' && method === 'GET') return { ...web, resolver };
  if (path.startsWith('/v1/agent/endpoints/') && method === 'PATCH') return web;
  if (path === '/v1/agent/dns') return [webName];
  if (path === '/v1/agent/dns/query') return webAnswer;
  throw new TsnetError('ERR_NOT_FOUND', `${method} ${path}: there is no such route`);
}

const agentStatus = {
  version: '0.1.0',
  host: 'node1',
  vtep: '198.18.0.1',
  controller: 'http://198.18.0.9:7420',
  cursor: { epoch: 'e1', revision: 42 },
  endpoints: 1,
  networks: 1,
  unpublished: 0,
  reconcile: { objects: 12, repairs: 1, failing: [] },
  warnings: [{ code: 'ERR_MTU_UNDERLAY', message: 'frontend: MTU 1450 does not fit underlay MTU 1400' }],
};
