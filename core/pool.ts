import type { Addr } from './addr.js';
import { addrWidth, formatAddr, formatPrefix, parseAddr, parsePrefix } from './addr.js';
import { Demand } from './demand.js';
import { TsnetError } from './errors.js';
import { blockContaining, isCarvedBlock, isGridBlock, usableCount } from './grid.js';
import type { Grid } from './grid.js';
import { parseFixedAddr } from './ipam.js';
import type { Block, Carve } from './model.js';
import { PoolBlock } from './pool-block.js';

export interface PoolCounts {
  readonly free: number;
  readonly used: number;
  readonly quarantined: number;
}

/** An address given up for another host. */
export interface CarvedOut {
  /** The grid block it is in. */
  readonly cidr: string;
  readonly address: string;
}

/** Blocks given up that the pool remembers; a record on its way longer than so many of them is not to be expected. */
const GONE_KEPT = 1024;

/** Under this part of the newest block free, the host asks for another block. */
const LOW_PART = 0.25;

/** A host keeps free what it has given out in this time, so that a burst of attaches does not wait for blocks one by one … */
const DEMAND_MS = 10_000;
/** … up to this part of the subnet, and no more than this. */
const DEMAND_PART = 1 / 16;
const DEMAND_MOST = 256;

/**
 * The addresses of one subnet that a host gives out without asking anyone: its blocks, and which of
 * their addresses are in use or rest after use. Lives in memory; the caller's journal says what to take
 * again after a restart. Times are handed in by the caller, in milliseconds of one monotonic clock.
 */
export class AddressPool {
  private readonly grid: Grid;
  private readonly quarantineMs: number;
  /** By CIDR, in the order they came. */
  private readonly blocks = new Map<string, PoolBlock>();
  /** Generations of blocks given up, so that a late copy of an old record does not bring one back. */
  private readonly gone = new Map<string, number>();
  private readonly demand = new Demand(DEMAND_MS);
  private readonly mostDemand: number;
  private current: PoolBlock | null = null;
  private newest: PoolBlock | null = null;

  constructor(grid: Grid, quarantineMs: number) {
    this.grid = grid;
    this.quarantineMs = quarantineMs;
    this.mostDemand = Math.min(DEMAND_MOST, Math.floor(Number(usableCount(grid)) * DEMAND_PART));
  }

  /** The block records held, in the order they came. */
  get held(): readonly Block[] {
    return [...this.blocks.values()].map(({ block }) => block);
  }

  /**
   * Takes a block, or a newer record of one held; an older record changes nothing, nor does one of a block given up
   * that is not newer than what was given up. Returns the used addresses that the record gives to others: their
   * endpoints must go.
   *
   * Errors: ERR_ADDRESS_OUTSIDE_SUBNET for a block of another subnet.
   */
  addBlock(record: Block): readonly string[] {
    const known = this.blocks.get(record.cidr);
    if (known !== undefined) {
      return record.generation < known.block.generation ? [] : known.update(record).map(formatAddr);
    }
    if (record.generation <= (this.gone.get(record.cidr) ?? -1)) return [];
    const prefix = parsePrefix(record.cidr, 'cidr');
    if (!isGridBlock(this.grid, prefix) && !isCarvedBlock(this.grid, prefix)) {
      const subnet = formatPrefix(this.grid.prefix);
      throw new TsnetError('ERR_ADDRESS_OUTSIDE_SUBNET', `cidr: ${record.cidr} is no block of ${subnet}`, {
        details: { field: 'cidr', value: record.cidr, subnet },
      });
    }
    const block = new PoolBlock(this.grid, record);
    this.gone.delete(record.cidr);
    this.blocks.set(record.cidr, block);
    this.newest = block;
    return [];
  }

  /**
   * Gives a block up, whatever state it is in, before the controller is told: a release that gets no
   * answer is repeated until it gets one. Returns the addresses in use: their endpoints must go.
   */
  removeBlock(cidr: string): readonly string[] {
    const block = this.blocks.get(cidr);
    if (block === undefined) return [];
    this.blocks.delete(cidr);
    this.gone.set(cidr, block.block.generation);
    for (const oldest of this.gone.keys()) {
      if (this.gone.size <= GONE_KEPT) break;
      this.gone.delete(oldest);
    }
    if (this.current === block) this.current = null;
    if (this.newest === block) this.newest = [...this.blocks.values()].at(-1) ?? null;
    return [...block.used].map((offset) => formatAddr(block.addr(offset)));
  }

  /**
   * Gives out an address: the next free one after the last given, staying with one block until it is
   * full so that others can be returned. Null when none is free.
   */
  allocate(nowMs: number): string | null {
    const found = this.findOpenBlock(nowMs);
    this.current = found;
    const addr = found?.takeNext() ?? null;
    if (addr !== null) this.demand.add(nowMs);
    return addr === null ? null : formatAddr(addr);
  }

  /**
   * Takes one certain address, also while it rests. False when no block held here can give it: ask the
   * controller for it.
   *
   * Errors: ERR_ADDRESS_IN_USE, ERR_INVALID_ADDRESS, ERR_ADDRESS_OUTSIDE_SUBNET, ERR_ADDRESS_RESERVED.
   */
  allocateFixed(text: string): boolean {
    const addr = parseFixedAddr(this.grid, text);
    const block = this.blockOf(addr);
    if (block === undefined) return false;
    const state = block.stateOf(block.offset(addr));
    if (state === 'carved' || state === 'offered') return false;
    if (state === 'used') {
      const value = formatAddr(addr);
      throw new TsnetError('ERR_ADDRESS_IN_USE', `address: ${value} is held by an endpoint of this host`, {
        details: { field: 'address', value },
      });
    }
    block.take(block.offset(addr));
    return true;
  }

  /** Reports whether an address is in use here. */
  isUsed(text: string): boolean {
    const addr = parseAddr(text);
    const block = this.blockOf(addr);
    return block !== undefined && block.used.has(block.offset(addr));
  }

  /** Takes an address back; it rests before it is given again. False when it was not in use. */
  release(text: string, nowMs: number): boolean {
    const addr = parseAddr(text);
    const block = this.blockOf(addr);
    if (block === undefined || !block.used.has(block.offset(addr))) return false;
    block.rest(block.offset(addr), nowMs + this.quarantineMs);
    return true;
  }

  /**
   * Gives up an address for a carve of another host: the one asked for, unless it is in use, or with null any free
   * one, from the block with most. It is withheld until `withdrawOffer` says that this carve is over. Null when there
   * is none to give. Singles are never given up this way, they are returned.
   */
  carveOut({ id, address }: Pick<Carve, 'id' | 'address'>, nowMs: number): CarvedOut | null {
    const found = address === null ? this.findSpare(nowMs) : this.findOffered(parseFixedAddr(this.grid, address));
    if (found === null) return null;
    found.block.offer(found.offset, id);
    return { cidr: found.block.block.cidr, address: formatAddr(found.block.addr(found.offset)) };
  }

  /** Withholds an address that was given up for a carve before a restart, whether its record lists it as carved or not. */
  restoreOffer(text: string, carve: string): void {
    const addr = parseAddr(text);
    const block = this.gridBlockOf(addr);
    block?.offer(block.offset(addr), carve);
  }

  /**
   * Ends an offer: its carve came to nothing, or the block's record lists the address as carved. Call it when the
   * carve's record is gone *and* every change of that revision is applied: before, the block's new record may still
   * be on its way.
   */
  withdrawOffer(text: string, carve: string): void {
    const addr = parseAddr(text);
    const block = this.gridBlockOf(addr);
    block?.withdrawOffer(block.offset(addr), carve);
  }

  counts(nowMs: number): PoolCounts {
    let free = 0;
    let used = 0;
    let quarantined = 0;
    for (const block of this.blocks.values()) {
      block.expire(nowMs);
      free += block.freeCount;
      used += block.used.size;
      quarantined += block.quarantined.size;
    }
    return { free, used, quarantined };
  }

  /** Reports whether it is time to ask for another block. */
  isLow(nowMs: number): boolean {
    const wanted = Math.min(this.demand.count(nowMs), this.mostDemand);
    return this.counts(nowMs).free < Math.max(this.lowWater(), wanted);
  }

  /**
   * Blocks that could be returned: nothing in them is in use or rests, and without them the pool keeps
   * twice what would make it ask again. Singles come first, then the blocks that came last.
   */
  idleBlocks(nowMs: number): readonly Block[] {
    let { free } = this.counts(nowMs);
    const newestFirst = [...this.blocks.values()].reverse();
    const candidates = [
      ...newestFirst.filter(({ isSingle }) => isSingle),
      ...newestFirst.filter(({ isSingle }) => !isSingle),
    ];
    const idle: Block[] = [];
    for (const block of candidates) {
      if (!block.isIdle || free - block.freeCount < 2 * this.lowWater()) continue;
      free -= block.freeCount;
      idle.push(block.block);
    }
    return idle;
  }

  private lowWater(): number {
    return Math.max(1, Math.floor((this.newest?.usable ?? 0) * LOW_PART));
  }

  private blockOf(addr: Addr): PoolBlock | undefined {
    if (addr.family !== this.grid.prefix.family) return undefined;
    const width = addrWidth(addr.family);
    const single = this.blocks.get(formatPrefix({ family: addr.family, base: addr.value, length: width }));
    return single ?? this.gridBlockOf(addr);
  }

  private gridBlockOf(addr: Addr): PoolBlock | undefined {
    if (addr.family !== this.grid.prefix.family) return undefined;
    return this.blocks.get(formatPrefix(blockContaining(this.grid.prefix, addr)));
  }

  private findOpenBlock(nowMs: number): PoolBlock | null {
    const inOrder = this.current === null ? this.blocks.values() : [this.current, ...this.blocks.values()];
    for (const block of inOrder) {
      block.expire(nowMs);
      if (block.freeCount > 0) return block;
    }
    return null;
  }

  private findSpare(nowMs: number): { block: PoolBlock; offset: number } | null {
    let best: PoolBlock | null = null;
    for (const block of this.blocks.values()) {
      block.expire(nowMs);
      if (!block.isSingle && block.freeCount > (best?.freeCount ?? 0)) best = block;
    }
    return best === null ? null : { block: best, offset: best.findSpare() };
  }

  private findOffered(addr: Addr): { block: PoolBlock; offset: number } | null {
    const block = this.blockOf(addr);
    if (block === undefined || block.isSingle) return null;
    const offset = block.offset(addr);
    const state = block.stateOf(offset);
    return state === null || state === 'quarantined' || state === 'offered' ? { block, offset } : null;
  }
}
