import type { EndpointView } from './api/endpoint.js';
import type { HostView } from './api/host.js';
import type { NetworkView } from './api/network.js';
import type { Endpoint, Host, HostState, Network } from './model.js';

/** Records as users see them. The order of the keys is the order in JSON output. */

/**
 * A network as users see it.
 *
 * @param nameOf names of the networks joined to it, by id; those without one are left out.
 */
export function networkView(network: Network, nameOf: (id: string) => string | undefined): NetworkView {
  const joined = (network.joined ?? []).flatMap((id) => nameOf(id) ?? []).sort();
  return {
    id: network.id,
    name: network.name,
    driver: network.driver,
    subnets: network.subnets,
    vni: network.vni,
    mtu: network.mtu,
    internal: network.internal,
    labels: network.labels,
    options: network.options,
    ...(joined.length === 0 ? {} : { joined }),
    createdAt: network.createdAt,
    generation: network.generation,
  };
}

/** An endpoint as users see it, with its network's name in place of the id. */
export function endpointView(endpoint: Endpoint, networkName: string): EndpointView {
  return {
    id: endpoint.id,
    name: endpoint.name,
    aliases: endpoint.aliases,
    network: networkName,
    host: endpoint.host,
    addresses: endpoint.addresses,
    mac: endpoint.mac,
    ifname: endpoint.ifname,
    sandbox: endpoint.sandbox,
    generation: endpoint.generation,
    state: endpoint.state,
    labels: endpoint.labels,
    callerId: endpoint.callerId,
    ...(endpoint.ports === undefined ? {} : { ports: endpoint.ports }),
    ...(endpoint.bandwidth === undefined ? {} : { bandwidth: endpoint.bandwidth }),
    ...(endpoint.draining === undefined ? {} : { draining: endpoint.draining }),
    createdAt: endpoint.createdAt,
  };
}

/** A host as users see it; the state comes from its liveness, which no record holds. */
export function hostView(host: Host, state: HostState): HostView {
  return {
    name: host.name,
    vtep: host.vtep,
    state,
    lastSeen: host.lastSeen,
    underlayMtu: host.underlayMtu,
    version: host.version,
  };
}
