import { containsAddr, formatAddr, parseAddr, parsePrefix, type Addr, type Family } from '../addr.js';
import { bridgeName } from '../ids.js';
import type { Carrier, Endpoint, Network, PortMapping } from '../model.js';
import { portAddresses } from '../ports.js';
import type { SetName } from './table-sets.js';

/** An element of a set or map of the host's table; equal in shape to lib/nft's. */
export interface TableElement {
  readonly set: SetName;
  readonly key: string;
  readonly value?: string;
}

const join = (...parts: readonly (string | number)[]): string => parts.join(' . ');
const quoted = (ifname: string): string => `"${ifname}"`;
const familyOf = (addr: string): Family => (addr.includes(':') ? 6 : 4);

/** Reports whether a network stands behind bridges of ours; macvlan endpoints stand in the LAN. */
export function isBridged(network: Network): boolean {
  return network.driver !== 'macvlan';
}

/** What every host needs of every network: where isolation holds and what counts as outside. */
export function definitionElements(network: Network): TableElement[] {
  if (!isBridged(network)) return [];
  return network.subnets.map(({ subnet }) => ({ set: `nets${parsePrefix(subnet).family}`, key: subnet }));
}

/** Reports whether traffic of a network leaves from the host's address; `--opt masquerade=false` leaves it as it is. */
export function isMasqueraded(network: Network): boolean {
  return !network.internal && network.options['masquerade'] !== 'false';
}

/**
 * What a host needs of a network that it carries.
 *
 * @param own the host's own addresses in the network.
 */
export function carriedElements(network: Network, own: readonly string[]): TableElement[] {
  if (!isBridged(network)) return [];
  const link = quoted(bridgeName(network.id));
  const elements: TableElement[] = [
    { set: 'links', key: link },
    { set: 'joined', key: join(link, link) },
  ];
  if (!network.internal) elements.push({ set: 'open', key: link });
  for (const { subnet } of network.subnets) {
    const prefix = parsePrefix(subnet);
    const address = own.find((text) => containsAddr(prefix, parseAddr(text)));
    if (address !== undefined) elements.push({ set: `own${prefix.family}`, key: subnet, value: address });
    for (const other of network.subnets) {
      if (parsePrefix(other.subnet).family === prefix.family)
        elements.push({ set: `same${prefix.family}`, key: join(subnet, other.subnet) });
    }
    if (isMasqueraded(network)) elements.push({ set: `masq${prefix.family}`, key: subnet });
  }
  return elements;
}

/** That a network's packets leave from one address of the host, which it must have. */
export function sourceElements(network: Network, source: Addr): TableElement[] {
  if (!isBridged(network) || !isMasqueraded(network)) return [];
  return network.subnets.flatMap(({ subnet }): TableElement[] =>
    parsePrefix(subnet).family === source.family
      ? [{ set: `source${source.family}`, key: subnet, value: formatAddr(source) }]
      : [],
  );
}

/** What a host needs of a network and another one that it carries as well and that is joined to it; one direction. */
export function routedElements(from: Pick<Network, 'id'>, to: Pick<Network, 'id'>): TableElement[] {
  return [{ set: 'routed', key: join(quoted(bridgeName(from.id)), quoted(bridgeName(to.id))) }];
}

/** What a host needs of another that carries a network with it: its VXLAN packets are expected. */
export function vtepElements(carrier: Pick<Carrier, 'vtep'>): TableElement[] {
  return [{ set: `vteps${familyOf(carrier.vtep)}`, key: carrier.vtep }];
}

/** How an endpoint's sandbox sends its replies. */
export interface ReplyPath {
  /** Families whose default route in the sandbox leads through this network. */
  readonly defaultRoutes: readonly Family[];
  /** Whether the sandbox is on other networks as well. */
  readonly isElsewhere: boolean;
}

/** Hundreds are made at once: hence texts put together without lists. */
function addMappingElements(elements: TableElement[], mapping: PortMapping, address: string): void {
  const family = familyOf(address);
  const { hostAddress, hostPort, hostPortEnd, port, protocol } = mapping;
  if (hostPort !== hostPortEnd && hostPort === port) {
    const ports = `${hostPort}-${hostPortEnd}`;
    elements.push(
      hostAddress === null
        ? { set: `range-${protocol}${family}`, key: ports, value: address }
        : { set: `range-at${family}`, key: `${hostAddress} . ${protocol} . ${ports}`, value: address },
    );
    return;
  }
  const set: SetName = hostAddress === null ? `port${family}` : `port-at${family}`;
  const before = hostAddress === null ? `${protocol} . ` : `${hostAddress} . ${protocol} . `;
  for (let offset = 0; offset <= hostPortEnd - hostPort; offset++)
    elements.push({ set, key: before + String(hostPort + offset), value: `${address} . ${port + offset}` });
}

/**
 * What the published ports of one of this host's endpoints need: one element for a single port and for each port of
 * a shifted range, one for a range that keeps its numbers, for each family.
 */
export function portElements(endpoint: Pick<Endpoint, 'addresses' | 'ports'>, path: ReplyPath): TableElement[] {
  const elements: TableElement[] = [];
  const reached = new Set<string>();
  for (const mapping of endpoint.ports ?? []) {
    for (const address of portAddresses(mapping, endpoint)) {
      addMappingElements(elements, mapping, address);
      reached.add(address);
    }
  }
  for (const address of reached) {
    const family = familyOf(address);
    if (!path.defaultRoutes.includes(family)) elements.push({ set: `detour${family}`, key: address });
    else if (path.isElsewhere) elements.push({ set: `crossed${family}`, key: address });
  }
  return elements;
}

/** What no sandbox may reach: an address and port of the cluster's own. */
export function guardedElements(
  places: readonly { readonly address: string; readonly port: number }[],
): TableElement[] {
  return places.map(({ address, port }) => ({ set: `guarded${familyOf(address)}`, key: join(address, port) }));
}

/** That a bridge of others passes frames on. */
export function passingElements(bridges: readonly string[]): TableElement[] {
  return bridges.map((bridge) => ({ set: 'passing', key: join(quoted(bridge), quoted(bridge)) }));
}

/** Places of the cluster's own on this host. */
export function guardedPortElements(places: readonly { readonly port: number }[]): TableElement[] {
  return places.map(({ port }) => ({ set: 'guarded-ports', key: String(port) }));
}

/** The identity of an element. */
export function elementKey(element: Pick<TableElement, 'set' | 'key'>): string {
  return `${element.set} ${element.key}`;
}
