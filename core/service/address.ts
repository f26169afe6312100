import {
  addrAt,
  addrWidth,
  containsAddr,
  containsPrefix,
  formatAddr,
  offsetOf,
  parseAddr,
  parsePrefix,
  prefixSize,
  type Family,
} from '../addr.js';
import { isUsable, newGrid, type Grid } from '../grid.js';
import { TsnetError } from '../errors.js';
import type { Block, Network } from '../model.js';
import { invalidService } from './parse.js';

/** Owner of the blocks that virtual addresses come from: no host can be called so. */
export const serviceOwner = '~services';

/** A subnet that a service has an address of. */
export interface ServicePlace {
  readonly grid: Grid;
  readonly subnet: string;
  /** The one asked for. */
  readonly address?: string;
}

/**
 * Where a service's addresses come from: the subnets of those asked for, and of each other family the first.
 *
 * Errors: ERR_ADDRESS_OUTSIDE_SUBNET, ERR_INVALID_SERVICE.
 */
export function servicePlaces(network: Network, fixed: readonly string[]): ServicePlace[] {
  const places = network.subnets.map((subnet) => ({ grid: newGrid(subnet), subnet: subnet.subnet }));
  const asked = fixed.map((address) => {
    const place = places.find(({ grid }) => containsAddr(grid.prefix, parseAddr(address)));
    if (place !== undefined) return { ...place, address };
    throw new TsnetError(
      'ERR_ADDRESS_OUTSIDE_SUBNET',
      `addresses: ${address} lies in no subnet of network "${network.name}"`,
      { details: { field: 'addresses', value: address } },
    );
  });
  const inFamily = (family: Family) => (place: ServicePlace) => place.grid.prefix.family === family;
  return ([4, 6] as const).flatMap((family) => {
    const mine = asked.filter(inFamily(family));
    if (mine.length > 1) throw invalidService('addresses', 'a service has one address of each family');
    return mine.length > 0 ? mine : places.filter(inFamily(family)).slice(0, 1);
  });
}

/** The next free address of a block behind the one given last, so that one that was freed rests; null: there is none. */
export function nextAddress(
  grid: Grid,
  block: Block,
  isTaken: (address: string) => boolean,
  after?: string,
): string | null {
  const prefix = parsePrefix(block.cidr);
  const size = prefixSize(prefix);
  const last = after === undefined ? undefined : parseAddr(after);
  const start = last !== undefined && containsAddr(prefix, last) ? offsetOf(prefix, last) + 1n : 0n;
  for (let step = 0n; step < size; step++) {
    const addr = addrAt(prefix, (start + step) % size);
    const address = formatAddr(addr);
    if (isUsable(grid, addr) && !block.carved.includes(address) && !isTaken(address)) return address;
  }
  return null;
}

/** The blocks of services in a subnet, that with the newest address first. Single addresses were asked for and are left out. */
export function serviceBlocks(grid: Grid, blocks: Iterable<Block>, newest?: string): Block[] {
  const width = addrWidth(grid.prefix.family);
  const own = [...blocks].filter(({ host, cidr }) => {
    if (host !== serviceOwner) return false;
    const prefix = parsePrefix(cidr);
    return containsPrefix(grid.prefix, prefix) && (prefix.length < width || grid.blockLength === width);
  });
  const isNewest = ({ cidr }: Block): boolean =>
    newest !== undefined && containsAddr(parsePrefix(cidr), parseAddr(newest));
  return own.sort((a, b) => Number(isNewest(b)) - Number(isNewest(a)));
}
