import type { DnsNameView } from '../../core/api/dns.js';
import { endpointNames } from '../../core/dns/names.js';
import type { ZoneEndpoint } from '../../core/dns/zone-endpoint.js';
import { isListed } from '../../core/found-endpoint.js';
import type { Network } from '../../core/model.js';
import type { Journal } from '../journal/journal.js';
import type { ClusterState } from '../state/cluster-state.js';

export interface KnownNames {
  readonly domain: string;
  readonly state: ClusterState;
  readonly journal: Journal;
  readonly knownNetwork: (id: string) => Network | undefined;
  /** What a service of this host's networks answers with, by network and name; empty: there is none. */
  readonly serviceZone: (network: string, name: string) => readonly ZoneEndpoint[];
}

/** All names that this host answers, each once for each endpoint that has it. */
export function listNames(known: KnownNames): DnsNameView[] {
  const { domain, state, journal, knownNetwork, serviceZone } = known;
  const own = [...journal.endpoints()].map(({ record }) => record);
  const others = [...state.networks()].flatMap((network) => [...state.endpointsOf(network.id)]);
  const services = [...state.networks()].flatMap(({ id }) =>
    [...state.servicesOf(id)].flatMap(({ name }) => serviceZone(id, name)),
  );
  return [...own, ...others, ...services].filter(isListed).flatMap((record) => {
    const network = knownNetwork(record.network)?.name ?? record.network;
    const { addresses, host, id, generation } = record;
    const isDown = state.downHosts.has(host);
    const names = isDown ? [] : endpointNames(record);
    return names.map((name) => {
      const whole = `${name}.${network.toLowerCase()}.${domain}`;
      return { name: whole, network, addresses, host, endpoint: id, generation };
    });
  });
}
