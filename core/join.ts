import { parsePrefix, type Family } from './addr.js';
import { TsnetError } from './errors.js';
import type { Network } from './model.js';

/** How many networks one may be joined to: each host that carries one of them carries the others with it. */
export const maxJoined = 64;

/**
 * What a sandbox's own routes to joined networks have as metric: worse than the kernel's for a link that it has in the
 * other network itself (0 for IPv4, 256 for IPv6).
 */
export const joinedMetric = 2084;

const familiesOf = (network: Pick<Network, 'subnets'>): Set<Family> =>
  new Set(network.subnets.map(({ subnet }) => parsePrefix(subnet).family));

function unsupported(message: string, network: Network, other: Network): TsnetError {
  return new TsnetError('ERR_JOIN_UNSUPPORTED', message, { details: { network: network.name, other: other.name } });
}

/**
 * Checks that two networks can route to each other. What a host carries of both it routes between; replies come by the
 * host of whoever answers, so each network must reach all hosts that the other does.
 *
 * Errors: ERR_JOIN_UNSUPPORTED: a network with itself, one of driver macvlan, an overlay with a bridge of each host's
 * own, two without a family in common, too many.
 */
export function checkJoin(network: Network, other: Network): void {
  const names = `networks "${network.name}" and "${other.name}"`;
  if (network.id === other.id)
    throw unsupported(`network "${network.name}" cannot be joined to itself`, network, other);
  for (const each of [network, other]) {
    if (each.driver !== 'macvlan') continue;
    const message = `network "${each.name}" has driver macvlan: what its endpoints send does not pass the host`;
    throw unsupported(message, network, other);
  }
  if (network.driver !== other.driver) {
    const message = `${names} have drivers ${network.driver} and ${other.driver}: a bridge has a segment of its own on each host, which the other's sandboxes elsewhere do not reach`;
    throw unsupported(message, network, other);
  }
  const families = familiesOf(other);
  if (![...familiesOf(network)].some((family) => families.has(family)))
    throw unsupported(`${names} have no address family in common`, network, other);
}

/** Adds another network to those that one is joined to. Errors: ERR_JOIN_UNSUPPORTED beyond the limit. */
export function withJoined(network: Network, other: Network): Network {
  const joined = network.joined ?? [];
  if (joined.includes(other.id)) return network;
  if (joined.length >= maxJoined)
    throw unsupported(`network "${network.name}" is joined to ${maxJoined} others already`, network, other);
  return { ...network, generation: network.generation + 1, joined: [...joined, other.id] };
}

const unjoined = ({ joined: _, ...rest }: Network): Network => rest;

/** Takes another network from those that one is joined to. */
export function withoutJoined(network: Network, other: string): Network {
  const joined = network.joined ?? [];
  if (!joined.includes(other)) return network;
  const rest = unjoined(network);
  const left = joined.filter((id) => id !== other);
  return { ...rest, generation: network.generation + 1, ...(left.length === 0 ? {} : { joined: left }) };
}

/** The networks that one is joined to: those known that say so as well. */
export function joinedNetworks(network: Network, known: (id: string) => Network | undefined): Network[] {
  return (network.joined ?? []).flatMap((id) => {
    const other = known(id);
    return other?.joined?.includes(network.id) === true ? [other] : [];
  });
}
