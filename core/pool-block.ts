import type { Addr, Prefix } from './addr.js';
import {
  addrAt,
  baseAddr,
  containsAddr,
  intersectPrefix,
  offsetOf,
  parseAddr,
  parsePrefix,
  prefixSize,
} from './addr.js';
import { Bitmap } from './bitmap.js';
import { isCarvedBlock, usableCount } from './grid.js';
import type { Grid } from './grid.js';
import type { Block } from './model.js';

/** Why a held address cannot be given; null when it can. */
export type AddrState = 'used' | 'quarantined' | 'carved' | 'offered' | 'reserved' | null;

/**
 * One block of a host's pool. Addresses are offsets from its first, so that a block of 2^16 costs a
 * bitmap of 8 KiB and otherwise only what is in use.
 */
export class PoolBlock {
  readonly prefix: Prefix;
  readonly isSingle: boolean;
  /** Addresses that the block's owner can ever give. */
  readonly usable: number;
  readonly used = new Set<number>();
  /** Offset to the end of its rest, in the order of release. */
  readonly quarantined = new Map<number, number>();
  /**
   * Given up for other hosts, each with the carves that it was given up for. Each carve holds its offer until it is
   * over, whatever the record says meanwhile: between two carves of one address the record may show it free.
   */
  private readonly offers = new Map<number, Set<string>>();
  private record: Block;
  private readonly carved = new Set<number>();
  private readonly reserved = new Set<number>();
  private readonly busy: Bitmap;
  /** Offsets inside the subnet's range: from the first to before the second. */
  private readonly open: readonly [number, number];
  private lastGiven = -1;

  constructor(grid: Grid, record: Block) {
    this.record = record;
    this.prefix = parsePrefix(record.cidr, 'cidr');
    this.isSingle = isCarvedBlock(grid, this.prefix);
    this.usable = Number(usableCount(grid, this.prefix));
    const open = intersectPrefix(grid.range, this.prefix);
    const start = open === null ? 0 : this.offset(baseAddr(open));
    this.open = [start, start + (open === null ? 0 : Number(prefixSize(open)))];
    this.busy = new Bitmap(Number(prefixSize(this.prefix)));
    for (const addr of grid.reserved) {
      if (containsAddr(this.prefix, addr)) this.reserved.add(this.offset(addr));
    }
    for (let offset = 0; offset < this.open[0]; offset++) this.busy.set(offset);
    for (let offset = this.open[1]; offset < this.busy.size; offset++) this.busy.set(offset);
    for (const offset of this.reserved) this.busy.set(offset);
    this.update(record);
  }

  get block(): Block {
    return this.record;
  }

  get freeCount(): number {
    return this.busy.clearCount;
  }

  /** Reports whether nobody here has, had lately, or is about to get an address of it. */
  get isIdle(): boolean {
    return this.used.size === 0 && this.quarantined.size === 0 && this.offers.size === 0;
  }

  offset(addr: Addr): number {
    return Number(offsetOf(this.prefix, addr));
  }

  addr(offset: number): Addr {
    return addrAt(this.prefix, offset);
  }

  stateOf(offset: number): AddrState {
    if (this.used.has(offset)) return 'used';
    if (this.carved.has(offset)) return 'carved';
    if (this.offers.has(offset)) return 'offered';
    if (this.quarantined.has(offset)) return 'quarantined';
    return this.isOutside(offset) ? 'reserved' : null;
  }

  /** Takes a newer record: carvings that came or went. Returns the used addresses that it takes away. */
  update(record: Block): readonly Addr[] {
    this.record = record;
    const before = [...this.carved];
    this.carved.clear();
    for (const text of record.carved) {
      const addr = parseAddr(text);
      if (containsAddr(this.prefix, addr)) this.carved.add(this.offset(addr));
    }
    for (const offset of [...before, ...this.carved]) this.refresh(offset);
    return [...this.carved].filter((offset) => this.used.has(offset)).map((offset) => this.addr(offset));
  }

  /** Gives the next free address after the last one given; null when none is free. */
  takeNext(): Addr | null {
    const offset = this.busy.nextClear((this.lastGiven + 1) % this.busy.size);
    if (offset < 0) return null;
    this.lastGiven = offset;
    this.take(offset);
    return this.addr(offset);
  }

  take(offset: number): void {
    this.quarantined.delete(offset);
    this.used.add(offset);
    this.refresh(offset);
  }

  rest(offset: number, untilMs: number): void {
    this.used.delete(offset);
    this.quarantined.set(offset, untilMs);
    this.refresh(offset);
  }

  /** Ends the rest of addresses whose time has come. */
  expire(nowMs: number): void {
    for (const [offset, untilMs] of this.quarantined) {
      if (untilMs > nowMs) return;
      this.quarantined.delete(offset);
      this.refresh(offset);
    }
  }

  /** The free address farthest from where the next ones are taken, to be given up; -1 when none is free. */
  findSpare(): number {
    return this.busy.lastClear();
  }

  offer(offset: number, carve: string): void {
    const carves = this.offers.get(offset);
    if (carves === undefined) this.offers.set(offset, new Set([carve]));
    else carves.add(carve);
    this.refresh(offset);
  }

  withdrawOffer(offset: number, carve: string): void {
    const carves = this.offers.get(offset);
    if (carves?.delete(carve) !== true || carves.size > 0) return;
    this.offers.delete(offset);
    this.refresh(offset);
  }

  private isOutside(offset: number): boolean {
    return offset < this.open[0] || offset >= this.open[1] || this.reserved.has(offset);
  }

  private refresh(offset: number): void {
    if (this.stateOf(offset) === null) this.busy.clear(offset);
    else this.busy.set(offset);
  }
}
