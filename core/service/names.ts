import type { ZoneEndpoint } from '../dns/zone-endpoint.js';
import type { Service } from '../model.js';
import type { BackendEndpoint } from './backend.js';

/** Stands for a host where a name is every host's. */
const everyHost = '*';

/** Begins the ids of what a service has in the zone; `/` keeps them from being names themselves. */
export function serviceZonePrefix(service: Pick<Service, 'network' | 'name'>): string {
  return `service/${service.network}/${service.name}`;
}

/**
 * What discovery answers for a service: with mode vip its address, as long as it exists; with dnsrr each backend that is
 * ready. The ports of the service are there as SRV.
 */
export function serviceZone(service: Service, ready: readonly BackendEndpoint[]): ZoneEndpoint[] {
  const { name, network, generation, ports } = service;
  const base = {
    network,
    name,
    aliases: [],
    labels: {},
    state: 'attached',
    callerId: '',
    generation,
    ports: ports.map(({ port, protocol }) => ({
      hostAddress: null,
      hostPort: port,
      hostPortEnd: port,
      port,
      portEnd: port,
      protocol,
    })),
  } as const;
  const prefix = serviceZonePrefix(service);
  if (service.mode === 'vip')
    return [
      { ...base, id: prefix, host: everyHost, addresses: service.addresses, service: { target: name, isOwner: true } },
    ];
  return ready.map(({ id, host, addresses }) => ({
    ...base,
    id: `${prefix}/${id}`,
    host,
    addresses,
    service: { target: id, isOwner: false },
  }));
}
