import type { WatchLine } from '../../../core/api/watch.js';
import type { Block, Carrier, ClusterSettings, Endpoint, Network, Service } from '../../../core/model.js';
import type { OwnEndpoint } from '../../../agent/journal/entries.js';

/** Records for tests, valid as they are. */

export const networkId = '0000000a';

export function newNetwork(change: Partial<Network> = {}): Network {
  return {
    v: 1,
    generation: 1,
    id: networkId,
    name: 'frontend',
    driver: 'overlay',
    subnets: [{ subnet: '10.64.0.0/24', gateway: '10.64.0.1' }],
    vni: 8388608,
    mtu: 1450,
    internal: false,
    labels: {},
    options: {},
    createdAt: '2026-01-01T00:00:00.000Z',
    ...change,
  };
}

export function newCarrier(change: Partial<Carrier> = {}): Carrier {
  return {
    v: 1,
    generation: 1,
    network: networkId,
    host: 'b',
    vtep: '198.18.0.2',
    addresses: ['10.64.0.9'],
    mac: '02:00:00:00:00:02',
    ...change,
  };
}

export function endpointId(number: number): string {
  return number.toString(16).padStart(16, '0');
}

export function newEndpoint(change: Partial<Endpoint> = {}): Endpoint {
  return {
    v: 1,
    generation: 1,
    id: endpointId(1),
    network: networkId,
    host: 'b',
    addresses: ['10.64.0.10'],
    mac: '02:00:0a:40:00:0a',
    ifname: 'eth0',
    name: 'web',
    aliases: [],
    labels: {},
    state: 'attached',
    callerId: 'c1',
    sandbox: 'netns:/run/netns/web',
    createdAt: '2026-01-01T00:00:00.000Z',
    ...change,
  };
}

export function newService(change: Partial<Service> = {}): Service {
  return {
    v: 1,
    generation: 1,
    name: 'web',
    network: networkId,
    mode: 'vip',
    addresses: ['10.64.0.40'],
    ports: [{ port: 80, target: 8080, protocol: 'tcp' }],
    selector: { app: 'web' },
    affinity: 'none',
    drainMs: 30_000,
    draining: [],
    createdAt: '2026-01-01T00:00:00.000Z',
    ...change,
  };
}

export function newOwn(change: Partial<Endpoint> = {}): OwnEndpoint {
  return {
    record: newEndpoint({ host: 'a', ...change }),
    cookie: '77',
    bootId: 'boot',
    ifindexHint: 5,
    publishedGeneration: 0,
    defaultRoutes: [4],
    step: null,
  };
}

export function newBlock(change: Partial<Block> = {}): Block {
  return { v: 1, generation: 1, network: networkId, cidr: '10.64.0.8/29', host: 'a', carved: [], ...change };
}

export const settings: ClusterSettings = {
  v: 1,
  generation: 1,
  vxlanPort: 4790,
  livenessMs: 15000,
  hostsManageNetworks: true,
};

export function hello(change: Partial<Extract<WatchLine, { type: 'hello' }>> = {}): WatchLine {
  return {
    type: 'hello',
    stream: '00000000000000aa',
    epoch: 'e1',
    revision: 10,
    beatMs: 1000,
    resumed: false,
    ...change,
  };
}

/** A full set of a scope at a revision. */
export function fullSet(
  scope: string,
  revision: number,
  records: readonly (Network | Carrier | Endpoint)[],
): WatchLine[] {
  return [
    { type: 'begin', scope, revision },
    ...records.map((value): WatchLine => put(value, revision)),
    { type: 'end', scope, revision },
  ];
}

export function put(value: Network | Carrier | Endpoint, revision: number): WatchLine {
  if ('subnets' in value) return { type: 'put', revision, kind: 'network', value };
  return 'vtep' in value
    ? { type: 'put', revision, kind: 'carrier', value }
    : { type: 'put', revision, kind: 'endpoint', value };
}
