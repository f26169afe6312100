import type { Addr, Prefix } from './addr.js';
import {
  addrWidth,
  baseAddr,
  containsPrefix,
  formatAddr,
  formatPrefix,
  intersectPrefix,
  lastAddr,
  parseAddr,
} from './addr.js';
import { containsAddr, parsePrefix } from './addr.js';
import { TsnetError } from './errors.js';
import { blockAt, blockContaining, blockIndex, isReserved, isUsable, singleCidr, usableCount } from './grid.js';
import type { Grid } from './grid.js';
import { hash64 } from './mac.js';
import type { Block, Network } from './model.js';
import { serviceOwner } from './service/address.js';

/**
 * The controller's decisions on blocks, as plans: pure functions of the network's block records that
 * say which to put and which to delete. The caller commits a plan in one transaction that compares the
 * revisions read, and decides again when that fails.
 *
 * **Records.** A grid block with an owner; a single address (/32, /128) carved out of a grid block for
 * another host, which the grid block's record lists in `carved`; a grid block without owner, kept for
 * its carvings. A single whose grid block has no record may be there while hosts refill an emptied
 * store; it counts as carved all the same.
 *
 * **Generations** come from one counter a network, `nextGeneration`, in the guard record that every
 * transaction on the network's blocks compares and puts. It never goes back while the network lives,
 * also when records are deleted, so a block granted again has a larger generation than any grant of it
 * before. After a store was emptied or restored, the counter is raised past every generation that hosts
 * publish, see `planRefill`.
 */

/** What every plan is made from. */
export interface BlockState {
  readonly network: Pick<Network, 'id' | 'name'>;
  /** All block records of the network. */
  readonly blocks: readonly Block[];
  /** From the network's guard record; 1 where there is none. */
  readonly nextGeneration: number;
}

/** Records to put and to delete, and the counter to put into the guard record. */
export interface BlockChange {
  readonly put: readonly Block[];
  readonly remove: readonly Block[];
  readonly nextGeneration: number;
}

export interface BlockQuestion extends BlockState {
  readonly grid: Grid;
  readonly host: string;
  /** A fixed address. */
  readonly address?: string;
  /** Asked ahead of need: nothing is taken from another host. */
  readonly isAhead?: boolean;
  /** Owners that answered a carve with "none free". */
  readonly refusedBy?: ReadonlySet<string>;
}

export type BlockPlan =
  | ({ readonly kind: 'grant'; readonly block: Block } & BlockChange)
  /** The address is in a block that the host holds already. */
  | { readonly kind: 'yours'; readonly block: Block }
  /** The owner must give up the address first (null: any it has free in the subnet; `cidr` is where it should look). */
  | { readonly kind: 'carve'; readonly owner: string; readonly cidr: string; readonly address: string | null };

/** Block records by CIDR, with the singles of each grid block. */
export interface BlockIndex {
  readonly byCidr: ReadonlyMap<string, Block>;
  /** Addresses carved out of a grid block, by its CIDR: those its record lists, and singles found. */
  readonly carvedIn: (cidr: string) => readonly string[];
  /** Grid blocks that have singles but no record. */
  readonly orphaned: readonly string[];
}

/** Indexes the records that concern one subnet; those of other subnets do no harm. */
export function indexBlocks(grid: Grid, blocks: readonly Block[]): BlockIndex {
  const byCidr = new Map<string, Block>();
  const singles = new Map<string, string[]>();
  const width = addrWidth(grid.prefix.family);
  const ending = `/${width}`;
  for (const block of blocks) {
    byCidr.set(block.cidr, block);
    if (grid.blockLength === width || !block.cidr.endsWith(ending)) continue;
    const single = parsePrefix(block.cidr);
    if (!containsPrefix(grid.prefix, single)) continue;
    const cidr = formatPrefix(blockContaining(grid.prefix, baseAddr(single)));
    const list = singles.get(cidr);
    if (list === undefined) singles.set(cidr, [formatAddr(baseAddr(single))]);
    else list.push(formatAddr(baseAddr(single)));
  }
  return {
    byCidr,
    carvedIn: (cidr) => {
      const listed = byCidr.get(cidr)?.carved ?? [];
      const found = singles.get(cidr);
      return found === undefined ? listed : [...new Set([...listed, ...found])];
    },
    orphaned: [...singles.keys()].filter((cidr) => !byCidr.has(cidr)),
  };
}

/** Issues generations: larger than the counter and than every record there is. */
export function newGenerations(state: BlockState): { readonly next: () => number; readonly peek: () => number } {
  let generation = state.nextGeneration;
  for (const block of state.blocks) generation = Math.max(generation, block.generation + 1);
  return { next: () => generation++, peek: () => generation };
}

/** Addresses of a grid block that its owner could give: usable ones that are not carved out. */
function openCount(grid: Grid, block: Prefix, carved: readonly string[]): number {
  const taken = carved.filter((text) => isUsable(grid, parseAddr(text))).length;
  return Math.max(0, Number(usableCount(grid, block)) - taken);
}

/** The error for an address that somebody has. `holder` is a host, or what the owner said of its use. */
export function addressInUse(network: Pick<Network, 'name'>, address: string, holder: string): TsnetError {
  return new TsnetError(
    'ERR_ADDRESS_IN_USE',
    `address: ${address} of network ${JSON.stringify(network.name)} is held by ${holder}`,
    { details: { field: 'address', value: address, network: network.name, holder } },
  );
}

/** Who has a block, for people. */
function ownerText(host: string | null | undefined): string {
  if (host === serviceOwner) return 'a service';
  return typeof host === 'string' ? `host ${host}` : 'another host';
}

/**
 * Reads a fixed address and checks that the subnet can give it.
 *
 * Errors: ERR_INVALID_ADDRESS, ERR_ADDRESS_OUTSIDE_SUBNET, ERR_ADDRESS_RESERVED.
 */
export function parseFixedAddr(grid: Grid, text: string, field = 'address'): Addr {
  const addr = parseAddr(text, field);
  const value = formatAddr(addr);
  const part = containsAddr(grid.prefix, addr) ? grid.range : grid.prefix;
  if (!containsAddr(part, addr)) {
    const limit = formatPrefix(part);
    const what = part === grid.prefix ? 'subnet' : 'range';
    throw new TsnetError('ERR_ADDRESS_OUTSIDE_SUBNET', `${field}: ${value} lies outside the ${what} ${limit}`, {
      details: { field, value, [what]: limit },
    });
  }
  if (!isReserved(grid, addr)) return addr;
  throw new TsnetError('ERR_ADDRESS_RESERVED', `${field}: ${value} is reserved in ${formatPrefix(grid.prefix)}`, {
    details: { field, value, subnet: formatPrefix(grid.prefix) },
  });
}

interface Asked {
  readonly question: BlockQuestion;
  readonly index: BlockIndex;
}

function grantGridBlock({ question, index }: Asked, cidr: string): BlockPlan {
  const generations = newGenerations(question);
  const block: Block = {
    v: 1,
    generation: generations.next(),
    network: question.network.id,
    cidr,
    host: question.host,
    carved: index.carvedIn(cidr),
  };
  return { kind: 'grant', block, put: [block], remove: [], nextGeneration: generations.peek() };
}

/**
 * A grid block with no record, looked for from a point that hangs on the host's name, so that hosts
 * spread over the subnet and their transactions rarely want the same block. Each step passes one
 * record, or one of the few blocks with reserved addresses alone: no more steps than there are records.
 */
function findFreeBlock({ question, index }: Asked): string | null {
  const { grid, host, network } = question;
  const open = intersectPrefix(grid.range, grid.prefix);
  if (open === null) return null;
  const first = blockIndex(grid.prefix, baseAddr(open));
  const span = blockIndex(grid.prefix, lastAddr(open)) - first + 1n;
  const start = hash64(`${network.id}/${host}`) % span;
  const orphaned = new Set(index.orphaned);
  for (let step = 0n; step < span; step++) {
    const block = blockAt(grid.prefix, first + ((start + step) % span));
    const cidr = formatPrefix(block);
    if (!index.byCidr.has(cidr) && !orphaned.has(cidr) && usableCount(grid, block) > 0n) return cidr;
  }
  return null;
}

/** The ownerless grid block with the most addresses left beside its carvings. */
function findOwnerlessBlock({ question, index }: Asked): string | null {
  const { grid } = question;
  let best: { cidr: string; open: number } | null = null;
  const ownerless = [...index.byCidr.values()].filter(({ host }) => host === null).map(({ cidr }) => cidr);
  for (const cidr of [...ownerless, ...index.orphaned]) {
    const prefix = parsePrefix(cidr);
    if (prefix.length !== grid.blockLength || !containsPrefix(grid.prefix, prefix)) continue;
    const open = openCount(grid, prefix, index.carvedIn(cidr));
    if (open > (best?.open ?? 0)) best = { cidr, open };
  }
  return best?.cidr ?? null;
}

/** Who holds how much of the subnet in grid blocks, and each owner's fullest-looking block to take from. */
function sharesOf({ question, index }: Asked): ReadonlyMap<string, { share: number; cidr: string; most: number }> {
  const { grid } = question;
  const shares = new Map<string, { share: number; cidr: string; most: number }>();
  for (const { host, cidr } of index.byCidr.values()) {
    if (host === null) continue;
    const prefix = parsePrefix(cidr);
    if (prefix.length !== grid.blockLength || !containsPrefix(grid.prefix, prefix)) continue;
    const open = openCount(grid, prefix, index.carvedIn(cidr));
    const known = shares.get(host) ?? { share: 0, cidr, most: -1 };
    shares.set(host, {
      share: known.share + open,
      cidr: open > known.most ? cidr : known.cidr,
      most: Math.max(known.most, open),
    });
  }
  return shares;
}

function planCarveFromLargest(asked: Asked): BlockPlan | null {
  const { grid, host, refusedBy } = asked.question;
  if (grid.blockLength === addrWidth(grid.prefix.family)) return null;
  let best: { owner: string; cidr: string; share: number } | null = null;
  for (const [owner, { share, cidr }] of sharesOf(asked)) {
    if (owner === host || share === 0 || refusedBy?.has(owner) === true) continue;
    if (best === null || share > best.share || (share === best.share && owner < best.owner))
      best = { owner, cidr, share };
  }
  return best === null ? null : { kind: 'carve', owner: best.owner, cidr: best.cidr, address: null };
}

/** How many of a subnet's usable addresses hosts hold, in blocks and singly. */
export function heldCount(grid: Grid, blocks: readonly Block[]): number {
  let held = 0;
  const index = indexBlocks(grid, blocks);
  for (const { host, cidr } of index.byCidr.values()) {
    if (host === null) continue;
    const prefix = parsePrefix(cidr);
    if (containsPrefix(grid.prefix, prefix))
      held += openCount(grid, prefix, prefix.length === grid.blockLength ? index.carvedIn(cidr) : []);
  }
  return held;
}

function exhausted({ question }: Asked): TsnetError {
  const { grid, network, blocks, isAhead } = question;
  const subnet = formatPrefix(grid.prefix);
  const used = heldCount(grid, blocks);
  const free = Number(usableCount(grid)) - used;
  const why = isAhead === true ? 'has no block left' : 'has no address left';
  const message = `subnet ${subnet} of network ${JSON.stringify(network.name)} ${why}: ${used} used, ${free} free`;
  return new TsnetError('ERR_ADDRESS_EXHAUSTED', message, { details: { network: network.name, subnet, used, free } });
}

function planAny(asked: Asked): BlockPlan {
  const cidr = findFreeBlock(asked) ?? findOwnerlessBlock(asked);
  if (cidr !== null) return grantGridBlock(asked, cidr);
  const carve = asked.question.isAhead === true ? null : planCarveFromLargest(asked);
  if (carve !== null) return carve;
  throw exhausted(asked);
}

/** The two records of an address carved out for a host: the single, and the grid block that lacks it now. */
function carveOut({ question, index }: Asked, address: Addr, owner: string | null): BlockPlan {
  const { grid, network, host } = question;
  const generations = newGenerations(question);
  const cidr = formatPrefix(blockContaining(grid.prefix, address));
  const base = { v: 1, network: network.id } as const;
  const block: Block = { ...base, generation: generations.next(), cidr: singleCidr(address), host, carved: [] };
  const rest: Block = {
    ...base,
    generation: generations.next(),
    cidr,
    host: owner,
    carved: [...index.carvedIn(cidr), formatAddr(address)],
  };
  return { kind: 'grant', block, put: [block, rest], remove: [], nextGeneration: generations.peek() };
}

function planFixed(asked: Asked, text: string): BlockPlan {
  const { question, index } = asked;
  const { grid, host, network } = question;
  const addr = parseFixedAddr(grid, text);
  const address = formatAddr(addr);
  const single = index.byCidr.get(singleCidr(addr));
  if (single !== undefined && single.host === host) return { kind: 'yours', block: single };
  if (single !== undefined && single.host !== null) throw addressInUse(network, address, ownerText(single.host));
  const cidr = formatPrefix(blockContaining(grid.prefix, addr));
  if (index.carvedIn(cidr).includes(address)) throw addressInUse(network, address, 'another host');
  const block = index.byCidr.get(cidr);
  if (block !== undefined && block.host === host) return { kind: 'yours', block };
  if (block !== undefined && block.host !== null) return { kind: 'carve', owner: block.host, cidr, address };
  return grid.blockLength === addrWidth(grid.prefix.family) ? grantGridBlock(asked, cidr) : carveOut(asked, addr, null);
}

/**
 * Decides on a host's request for addresses of a subnet. Without a fixed address: a free grid block,
 * else an ownerless one with carvings, else one address from the owner with the largest share. With
 * one: that address alone, unless the host holds it already.
 *
 * Errors: ERR_ADDRESS_EXHAUSTED, ERR_ADDRESS_IN_USE, and those of `parseFixedAddr`.
 */
export function planBlock(question: BlockQuestion): BlockPlan {
  const asked = { question, index: indexBlocks(question.grid, question.blocks) };
  return question.address === undefined ? planAny(asked) : planFixed(asked, question.address);
}

/** An address that an owner gave up, to be given to `host`. */
export interface CarveGift extends BlockState {
  readonly grid: Grid;
  readonly host: string;
  readonly owner: string;
  readonly address: string;
}

/**
 * Gives an address that its block's owner gave up to the host that asked.
 *
 * Errors: ERR_STORE_CONFLICT when the block is not the owner's any more, ERR_ADDRESS_IN_USE, and those of `parseFixedAddr`.
 */
export function planCarved(gift: CarveGift): BlockPlan {
  const { grid, owner, host, network } = gift;
  const addr = parseFixedAddr(grid, gift.address);
  const asked = { question: gift, index: indexBlocks(grid, gift.blocks) };
  const cidr = formatPrefix(blockContaining(grid.prefix, addr));
  const single = asked.index.byCidr.get(singleCidr(addr));
  if (single !== undefined && single.host === host) return { kind: 'yours', block: single };
  if (asked.index.carvedIn(cidr).includes(formatAddr(addr))) {
    throw addressInUse(network, formatAddr(addr), ownerText(single?.host));
  }
  if (asked.index.byCidr.get(cidr)?.host === owner) return carveOut(asked, addr, owner);
  throw new TsnetError(
    'ERR_STORE_CONFLICT',
    `block ${cidr} of network ${JSON.stringify(network.name)} left host ${owner}`,
    {
      details: { network: network.name, cidr, owner },
    },
  );
}
