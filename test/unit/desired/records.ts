import type { DriverContext } from '../../../core/desired/driver.js';
import { macForBridge } from '../../../core/mac.js';
import type { Carrier, DriverName, Endpoint, Network } from '../../../core/model.js';

export function newNetwork(driver: DriverName, changes: Partial<Network> = {}): Network {
  return {
    v: 1,
    generation: 1,
    id: '0a1b2c3d',
    name: 'frontend',
    driver,
    subnets: [
      { subnet: '10.64.0.0/20', gateway: '10.64.0.1' },
      { subnet: 'fd00:64::/64', gateway: 'fd00:64::1' },
    ],
    vni: driver === 'overlay' ? 8_388_609 : null,
    mtu: 1450,
    internal: false,
    labels: {},
    options: driver === 'macvlan' ? { parent: 'eth1' } : {},
    createdAt: '2026-01-01T00:00:00.000Z',
    ...changes,
  };
}

export function newContext(
  network: Network,
  addresses: readonly string[] = ['10.64.1.1', 'fd00:64::1:1'],
): DriverContext {
  return { network, self: { host: 'h1', vtep: '198.18.0.1', addresses }, vxlanPort: 4790 };
}

export function newCarrier(network: Network, host = 'h2', vtep = '198.18.0.2'): Carrier {
  const mac = macForBridge(network.id, host);
  return { v: 1, generation: 1, network: network.id, host, vtep, addresses: ['10.64.2.1', 'fd00:64::2:1'], mac };
}

export function newEndpoint(network: Network, host: string, changes: Partial<Endpoint> = {}): Endpoint {
  return {
    v: 1,
    generation: 1,
    id: host === 'h1' ? '1111111111111111' : '2222222222222222',
    network: network.id,
    host,
    addresses: host === 'h1' ? ['10.64.1.5', 'fd00:64::1:5'] : ['10.64.2.5', 'fd00:64::2:5'],
    mac: host === 'h1' ? '02:00:0a:40:01:05' : '02:00:0a:40:02:05',
    ifname: 'eth0',
    name: null,
    aliases: [],
    labels: {},
    state: 'attached',
    callerId: 'c1',
    sandbox: null,
    createdAt: '2026-01-01T00:00:00.000Z',
    ...changes,
  };
}
