import type { FoundEndpoint } from '../found-endpoint.js';
import type { Endpoint, Network } from '../model.js';

/** What discovery needs of a network. */
export type ZoneNetwork = Pick<Network, 'id' | 'name'> & { readonly subnets: readonly string[] };

/** What discovery needs of an endpoint. */
export type ZoneEndpoint = FoundEndpoint &
  Pick<Endpoint, 'generation' | 'ports'> & {
    /** A service's part in the zone: it goes before endpoints of its name. */
    readonly service?: {
      /** Name in the network that has the same addresses, for SRV. */
      readonly target: string;
      /** Whether the addresses are the service's own, or its backends'. */
      readonly isOwner: boolean;
    };
  };

/** A record without what discovery does not need, and without anything of the sandbox. */
export function zoneEndpoint(record: Endpoint): ZoneEndpoint {
  const { id, network, host, addresses, name, aliases, labels, state, callerId, generation, ports } = record;
  const endpoint = { id, network, host, addresses, name, aliases, labels, state, callerId, generation };
  return ports === undefined ? endpoint : { ...endpoint, ports };
}
