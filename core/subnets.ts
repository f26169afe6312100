import type { SubnetRequest } from './api/network.js';
import type { Addr, Family, Prefix } from './addr.js';
import {
  addrAt,
  addrWidth,
  checkSubnet,
  compareAddr,
  baseAddr,
  containsAddr,
  containsPrefix,
  formatAddr,
  formatPrefix,
  overlaps,
  parseAddr,
  parsePrefix,
  prefixSize,
} from './addr.js';
import { TsnetError } from './errors.js';
import { newGrid, reservedAddrs, usableCount } from './grid.js';
import type { DriverName, Network, Subnet } from './model.js';

/** Which subnets a network gets: as asked, or from the pools. */

/** A range that subnets of one length are cut from. */
export interface SubnetPool {
  readonly prefix: Prefix;
  readonly length: number;
}

/** A prefix that is spoken for, and by whom, as a message says it. */
export interface TakenPrefix {
  readonly prefix: Prefix;
  readonly by: string;
}

/** What a choice of subnets has to keep clear of, and where it draws from. */
export interface SubnetContext {
  readonly networks: readonly Network[];
  /** Destinations of the hosts' own routes; default routes may be among them and are not looked at. */
  readonly hostRoutes: readonly Prefix[];
  /** Tried in order. */
  readonly pools: readonly SubnetPool[];
}

export interface SubnetsRequest {
  readonly driver: DriverName;
  readonly subnets?: readonly SubnetRequest[];
  readonly ipv6?: boolean;
  readonly internal?: boolean;
}

/**
 * Reads a pool, written `CIDR:LENGTH`: `10.64.0.0/10:20` means /20 subnets out of 10.64.0.0/10.
 *
 * Errors: ERR_INVALID_CIDR.
 */
export function parsePool(text: string, field = 'subnet-pool'): SubnetPool {
  const match = /^(.+\/\d{1,3}):(\d{1,3})$/.exec(text);
  const details = { field, value: text.slice(0, 64) };
  const hint = 'Write a pool as CIDR:LENGTH, for example 10.64.0.0/10:20 or fd00:64::/40:64.';
  if (match === null) {
    throw new TsnetError('ERR_INVALID_CIDR', `${field}: ${JSON.stringify(details.value)} is no pool`, {
      details,
      hint,
    });
  }
  const prefix = parsePrefix(match[1] ?? '', field);
  checkSubnet(prefix, field);
  const length = Number(match[2]);
  if (length >= prefix.length && length <= addrWidth(prefix.family) - 2) return { prefix, length };
  throw new TsnetError(
    'ERR_INVALID_CIDR',
    `${field}: no subnets of /${length} can be cut from ${formatPrefix(prefix)}`,
    {
      details,
      hint,
    },
  );
}

/** Writes a pool as `parsePool` reads it. */
export function formatPool(pool: SubnetPool): string {
  return `${formatPrefix(pool.prefix)}:${pool.length}`;
}

/** The first subnet at or behind `start` that overlaps nothing in `taken`, which is sorted by base. */
function firstFree(pool: SubnetPool, taken: readonly Prefix[], start: bigint): Prefix | null {
  const { family } = pool.prefix;
  const size = 1n << BigInt(addrWidth(family) - pool.length);
  const end = pool.prefix.base + prefixSize(pool.prefix);
  let base = start;
  for (const prefix of taken) {
    const behind = prefix.base + prefixSize(prefix);
    if (behind <= base) continue;
    if (prefix.base >= base + size) break;
    base = ((behind + size - 1n) / size) * size;
  }
  return base + size <= end ? { family, base, length: pool.length } : null;
}

/**
 * The next subnet of a pool that overlaps nothing taken, looking first behind `after` and then from the
 * pool's beginning; null when the pool is used up. A subnet given up is so used again as late as can be.
 */
export function chooseSubnet(pool: SubnetPool, taken: readonly Prefix[], after?: Prefix): Prefix | null {
  const sorted = taken
    .filter((prefix) => overlaps(prefix, pool.prefix))
    .sort((a, b) => compareAddr(baseAddr(a), baseAddr(b)) || a.length - b.length);
  const { base } = pool.prefix;
  const size = 1n << BigInt(addrWidth(pool.prefix.family) - pool.length);
  if (after !== undefined && containsPrefix(pool.prefix, after)) {
    const behind = after.base + prefixSize(after);
    const found = firstFree(pool, sorted, ((behind + size - 1n) / size) * size);
    if (found !== null) return found;
  }
  return firstFree(pool, sorted, base);
}

/** The default gateway: the first address that is neither network nor anycast address. */
function firstUsable(prefix: Prefix): Addr {
  const reserved = reservedAddrs(prefix, null);
  return reserved.length === 0 ? baseAddr(prefix) : addrAt(prefix, 1);
}

function planGateway(prefix: Prefix, asked: string | undefined, { driver, internal }: SubnetsRequest): string | null {
  if (asked === undefined) {
    return driver === 'macvlan' && internal === true ? null : formatAddr(firstUsable(prefix));
  }
  const gateway = parseAddr(asked, 'gateway');
  const details = { field: 'gateway', value: formatAddr(gateway), subnet: formatPrefix(prefix) };
  if (!containsAddr(prefix, gateway)) {
    throw new TsnetError('ERR_GATEWAY_OUTSIDE_SUBNET', `gateway: ${details.value} lies outside ${details.subnet}`, {
      details,
    });
  }
  if (reservedAddrs(prefix, null).some((addr) => addr.value === gateway.value)) {
    throw new TsnetError(
      'ERR_ADDRESS_RESERVED',
      `gateway: ${details.value} is the network, broadcast or anycast address of ${details.subnet}`,
      { details },
    );
  }
  return details.value;
}

function planRange(prefix: Prefix, asked: string): string {
  const range = parsePrefix(asked, 'range');
  const value = formatPrefix(range);
  if (containsPrefix(prefix, range)) return value;
  const subnet = formatPrefix(prefix);
  throw new TsnetError('ERR_ADDRESS_OUTSIDE_SUBNET', `range: ${value} lies outside ${subnet}`, {
    details: { field: 'range', value, subnet },
    hint: `Choose a range inside ${subnet}.`,
  });
}

/** Two addresses at least, since each host that carries the network takes one itself. */
function checkSize(subnet: Subnet): void {
  const { range, ...whole } = subnet;
  const usable = usableCount(newGrid(whole));
  const inRange = usableCount(newGrid(subnet));
  if (usable >= 2n && inRange >= 1n) return;
  const value = range === undefined || usable < 2n ? subnet.subnet : range;
  const left = usable < 2n ? usable : inRange;
  throw new TsnetError('ERR_SUBNET_TOO_SMALL', `subnet: ${value} has ${left} usable addresses`, {
    details: { field: 'subnet', value, usable: Number(left) },
  });
}

function planSubnet(prefix: Prefix, asked: SubnetRequest, request: SubnetsRequest): Subnet {
  const subnet: Subnet = {
    subnet: formatPrefix(prefix),
    gateway: planGateway(prefix, asked.gateway, request),
    ...(asked.range === undefined ? {} : { range: planRange(prefix, asked.range) }),
  };
  checkSize(subnet);
  return subnet;
}

/** Checks that a subnet overlaps nothing taken. Errors: ERR_SUBNET_OVERLAP, naming the other. */
function checkFree(prefix: Prefix, taken: readonly TakenPrefix[]): void {
  const other = taken.find((candidate) => overlaps(candidate.prefix, prefix));
  if (other === undefined) return;
  const value = formatPrefix(prefix);
  throw new TsnetError('ERR_SUBNET_OVERLAP', `subnet: ${value} overlaps ${formatPrefix(other.prefix)} of ${other.by}`, {
    details: { field: 'subnet', value, other: formatPrefix(other.prefix), by: other.by },
  });
}

/** The subnets of networks, with the network's name for messages. */
export function takenByNetworks(networks: readonly Network[]): readonly TakenPrefix[] {
  return networks.flatMap((network) =>
    network.subnets.map(({ subnet }) => ({
      prefix: parsePrefix(subnet),
      by: `network ${JSON.stringify(network.name)}`,
    })),
  );
}

function takenByRoutes(hostRoutes: readonly Prefix[]): readonly TakenPrefix[] {
  return hostRoutes.filter(({ length }) => length > 0).map((prefix) => ({ prefix, by: "a host's own routes" }));
}

/** The subnet of the newest network in a pool: the next choice starts behind it. */
function newestIn(pool: SubnetPool, networks: readonly Network[]): Prefix | undefined {
  const newestFirst = [...networks].sort((a, b) =>
    a.createdAt < b.createdAt ? 1 : a.createdAt > b.createdAt ? -1 : 0,
  );
  for (const { subnets } of newestFirst) {
    const found = subnets
      .map(({ subnet }) => parsePrefix(subnet))
      .find((prefix) => containsPrefix(pool.prefix, prefix));
    if (found !== undefined) return found;
  }
  return undefined;
}

function chooseFromPools(family: Family, context: SubnetContext, taken: readonly TakenPrefix[]): Prefix {
  const pools = context.pools.filter(({ prefix }) => prefix.family === family);
  const prefixes = taken.map(({ prefix }) => prefix);
  for (const pool of pools) {
    const chosen = chooseSubnet(pool, prefixes, newestIn(pool, context.networks));
    if (chosen !== null) return chosen;
  }
  const names = pools.map(formatPool);
  throw new TsnetError(
    'ERR_SUBNET_POOL_EXHAUSTED',
    names.length === 0
      ? `there is no IPv${family} subnet pool`
      : `no IPv${family} subnet is free in ${names.join(', ')}`,
    { details: { family, pools: names } },
  );
}

/**
 * The subnets that were asked for, checked. A macvlan network lies in the hosts' own LAN, so it may
 * overlap their routes; no other may.
 */
function planAsked(request: SubnetsRequest, context: SubnetContext, taken: TakenPrefix[]): Subnet[] {
  const routes = request.driver === 'macvlan' ? [] : takenByRoutes(context.hostRoutes);
  return (request.subnets ?? []).map((asked) => {
    const prefix = parsePrefix(asked.subnet);
    checkSubnet(prefix);
    checkFree(prefix, [...taken, ...routes]);
    taken.push({ prefix, by: 'the same request' });
    return planSubnet(prefix, asked, request);
  });
}

/**
 * The subnets of a new network. Those asked for are all there are, of one family or both; with none
 * there is one IPv4 subnet from the pools. `ipv6` adds an IPv6 subnet from the pools where none was
 * asked for. The gateway is the first usable address unless given; an internal macvlan network has
 * none unless given.
 *
 * Errors: ERR_INVALID_CIDR, ERR_INVALID_ADDRESS, ERR_SUBNET_OVERLAP, ERR_SUBNET_TOO_SMALL,
 * ERR_GATEWAY_OUTSIDE_SUBNET, ERR_ADDRESS_RESERVED, ERR_ADDRESS_OUTSIDE_SUBNET, ERR_SUBNET_POOL_EXHAUSTED.
 */
export function planSubnets(request: SubnetsRequest, context: SubnetContext): readonly Subnet[] {
  const taken = [...takenByNetworks(context.networks)];
  const subnets = planAsked(request, context, taken);
  const fromPool = (family: Family): Subnet => {
    const prefix = chooseFromPools(family, context, [...taken, ...takenByRoutes(context.hostRoutes)]);
    return planSubnet(prefix, { subnet: formatPrefix(prefix) }, request);
  };
  if (subnets.length === 0) subnets.push(fromPool(4));
  if (request.ipv6 === true && !subnets.some(({ subnet }) => subnet.includes(':'))) subnets.push(fromPool(6));
  return subnets;
}

/**
 * The subnets of a network after more were asked for: those it has, then the new ones.
 * `context.networks` holds the network itself too.
 *
 * Errors: as `planSubnets`, without the pools.
 */
export function planMoreSubnets(
  network: Network,
  asked: readonly SubnetRequest[],
  context: SubnetContext,
): readonly Subnet[] {
  const request = { driver: network.driver, internal: network.internal, subnets: asked };
  return [...network.subnets, ...planAsked(request, context, [...takenByNetworks(context.networks)])];
}
