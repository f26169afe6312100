import type { Addr, Prefix } from './addr.js';
import {
  addrWidth,
  addrAt,
  baseAddr,
  containsAddr,
  containsPrefix,
  formatPrefix,
  intersectPrefix,
  isSameAddr,
  lastAddr,
  offsetOf,
  parseAddr,
  parsePrefix,
  prefixOf,
  prefixSize,
} from './addr.js';
import type { Subnet } from './model.js';

/**
 * The fixed grid of blocks that a subnet is cut on. A block has 3/8 of the subnet's host bits, so
 * there are always many more blocks than addresses in one:
 *
 *     subnet   block   blocks   addresses a block
 *     /24      /29         32        8
 *     /20      /28        256       16
 *     /16      /26       1024       64
 *     v6 /64   /112      2^48    65536
 */

const LARGEST_BLOCK_BITS = 16;

/** The prefix length of a subnet's blocks. */
export function blockLength(subnet: Prefix): number {
  const width = addrWidth(subnet.family);
  const hostBits = width - subnet.length;
  return width - Math.min(LARGEST_BLOCK_BITS, Math.floor((hostBits * 3) / 8));
}

/** How many blocks a subnet has. */
export function blockCount(subnet: Prefix): bigint {
  return 1n << BigInt(blockLength(subnet) - subnet.length);
}

/** The block at a position of the grid. Errors: RangeError where there is none. */
export function blockAt(subnet: Prefix, index: bigint | number): Prefix {
  const length = blockLength(subnet);
  const step = 1n << BigInt(addrWidth(subnet.family) - length);
  return prefixOf(addrAt(subnet, BigInt(index) * step), length);
}

/** The block that an address of the subnet lies in. */
export function blockContaining(subnet: Prefix, addr: Addr): Prefix {
  return prefixOf(addr, blockLength(subnet));
}

/** The position of an address's block on the grid. */
export function blockIndex(subnet: Prefix, addr: Addr): bigint {
  return offsetOf(subnet, addr) >> BigInt(addrWidth(subnet.family) - blockLength(subnet));
}

/** A subnet with its texts read once, and what of it may be given to an endpoint. */
export interface Grid {
  readonly prefix: Prefix;
  readonly blockLength: number;
  /** Addresses come from here; the whole subnet where no range is set. */
  readonly range: Prefix;
  readonly gateway: Addr | null;
  /** Never given to anyone, in or out of the range. */
  readonly reserved: readonly Addr[];
}

/**
 * The addresses of a subnet that no endpoint can have: network and broadcast address in IPv4, the
 * subnet-router anycast address in IPv6, and the gateway.
 *
 * Source: RFC 3021 (/31 has neither), RFC 4291 §2.6.1, RFC 6164 (/127 has no anycast).
 */
export function reservedAddrs(prefix: Prefix, gateway: Addr | null): readonly Addr[] {
  const isPointToPoint = addrWidth(prefix.family) - prefix.length <= 1;
  const edges = isPointToPoint ? [] : prefix.family === 4 ? [baseAddr(prefix), lastAddr(prefix)] : [baseAddr(prefix)];
  if (gateway === null || edges.some((edge) => isSameAddr(edge, gateway))) return edges;
  return [...edges, gateway];
}

/** Reads a subnet record. Errors: ERR_INVALID_CIDR, ERR_INVALID_ADDRESS. */
export function newGrid(subnet: Subnet): Grid {
  const prefix = parsePrefix(subnet.subnet);
  const gateway = subnet.gateway === null ? null : parseAddr(subnet.gateway, 'gateway');
  return {
    prefix,
    blockLength: blockLength(prefix),
    range: subnet.range === undefined ? prefix : parsePrefix(subnet.range, 'range'),
    gateway,
    reserved: reservedAddrs(prefix, gateway),
  };
}

/** Reports whether an address is one of the subnet's reserved ones. */
export function isReserved(grid: Grid, addr: Addr): boolean {
  return grid.reserved.some((reserved) => isSameAddr(reserved, addr));
}

/** Reports whether an endpoint may have an address: inside subnet and range, and not reserved. */
export function isUsable(grid: Grid, addr: Addr): boolean {
  return containsAddr(grid.prefix, addr) && containsAddr(grid.range, addr) && !isReserved(grid, addr);
}

/** How many addresses of a part of the subnet an endpoint may have. */
export function usableCount(grid: Grid, part: Prefix = grid.prefix): bigint {
  const open = intersectPrefix(grid.range, part);
  if (open === null || !containsPrefix(grid.prefix, open)) return 0n;
  return prefixSize(open) - BigInt(grid.reserved.filter((addr) => containsAddr(open, addr)).length);
}

/** Reports whether a prefix is a block of the grid. */
export function isGridBlock(grid: Grid, prefix: Prefix): boolean {
  return prefix.length === grid.blockLength && containsPrefix(grid.prefix, prefix);
}

/** Reports whether a prefix is a single address carved out of a block; where blocks are single addresses there is none. */
export function isCarvedBlock(grid: Grid, prefix: Prefix): boolean {
  return (
    prefix.length === addrWidth(prefix.family) &&
    prefix.length > grid.blockLength &&
    containsPrefix(grid.prefix, prefix)
  );
}

/** The record key of the single-address block of an address: `10.1.0.5/32`. */
export function singleCidr(addr: Addr): string {
  return formatPrefix(prefixOf(addr, addrWidth(addr.family)));
}
