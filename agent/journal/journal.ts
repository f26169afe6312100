import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { toTsnetError, TsnetError } from '../../core/errors.js';
import { formatId } from '../../core/ids.js';
import type { Block, Carrier } from '../../core/model.js';
import { DiskReserve } from '../../lib/disk-reserve.js';
import type { KeyedLog } from '../../lib/keyed-log.js';
import {
  acceptJournalEntry,
  journalKeys,
  type BlockReturn,
  type CarveDecision,
  type HostAddress,
  type JournalMeta,
  type JournalValue,
  type OwnCarrier,
  type OwnEndpoint,
  type Resting,
  type RestoredEntries,
  type Tombstone,
} from './entries.js';
import { openLog } from './open-log.js';
import { JournalTables } from './tables.js';

export interface JournalOpening {
  readonly journal: Journal;
  /** ERR_JOURNAL_CORRUPT, to be logged, when something in the file could not be read. */
  readonly warnings: readonly TsnetError[];
}

/** A record of this host that a controller should hear of. */
export type OwnChange =
  | { readonly kind: 'endpoint'; readonly id: string }
  | { readonly kind: 'carrier'; readonly network: string }
  | { readonly kind: 'gone'; readonly network: string; readonly id: string | null };

/** Generations are promised to the file this many at a time. */
const generationStep = 1024;
/** Room for the ends of hundreds of endpoints, or for dozens of the largest records, on a disk that is full. */
const reserveBytes = 512 * 1024;
/** A power cut costs what was written within this time, ms. */
const syncMs = 100;
/** Tombstones are remembered this long after their acknowledgement, so that a late event of the record is known as late. */
const rememberedGone = 4096;

/**
 * The agent's own records at DATA-DIR/journal: written before the kernel is touched, and all that a
 * restarted agent believes of itself. Writes are synchronous and survive the death of the process.
 *
 * On a full disk nothing is begun, but what has begun is brought to an end: the room that this takes is held by a file
 * beside the journal, and without it the first write of an endpoint or carrier is refused.
 */
export class Journal {
  readonly #log: KeyedLog<JournalValue>;
  readonly #tables = new JournalTables();
  readonly #rememberedGone = new Map<string, number>();
  readonly #listeners = new Set<(change: OwnChange) => void>();
  readonly #onFault: (error: TsnetError) => void;
  readonly #reserve: DiskReserve;
  #meta: JournalMeta;
  #generation: number;
  #syncTimer: NodeJS.Timeout | undefined;

  private constructor(log: KeyedLog<JournalValue>, isDamaged: boolean, onFault: (error: TsnetError) => void) {
    this.#log = log;
    this.#onFault = onFault;
    this.#reserve = new DiskReserve(`${log.path}.reserve`, reserveBytes);
    let highest = 0;
    let meta: JournalMeta | undefined;
    for (const [key, value] of log.entries()) {
      highest = Math.max(highest, this.#tables.load(key, value));
      if (key === journalKeys.meta) meta = value as JournalMeta;
    }
    this.#meta = meta ?? newMeta();
    if (isDamaged && this.#meta.incomplete === undefined) this.#meta = { ...this.#meta, incomplete: 'damaged' };
    this.#generation = Math.max(highest, this.#meta.generationLimit);
    if (this.#meta !== meta) log.put(journalKeys.meta, this.#meta);
  }

  /**
   * Opens or makes the journal of a data directory.
   * Errors: ERR_DISK_FULL, ERR_DATA_DIR_UNWRITABLE.
   */
  static open(dataDir: string, onFault?: (error: TsnetError) => void): JournalOpening {
    const path = join(dataDir, 'journal');
    const opening = openLog<JournalValue>(path, acceptJournalEntry, onFault);
    const isDamaged = opening.warnings.length > 0;
    return { journal: new Journal(opening.log, isDamaged, onFault ?? (() => undefined)), warnings: opening.warnings };
  }

  /** Random per data directory. */
  get instance(): string {
    return this.#meta.instance;
  }

  /** Records may be missing: the file was new or damaged, and `restore` has not been called since, in this run or an earlier one. */
  get isIncomplete(): boolean {
    return this.#meta.incomplete !== undefined;
  }

  /** Takes up what was lost with a missing or damaged file, all in one write; from then on the journal counts as complete. */
  restore(found: RestoredEntries): void {
    const { incomplete, ...meta } = this.#meta;
    const instance = incomplete === 'new' ? (found.instance ?? meta.instance) : meta.instance;
    const carriers = found.carriers.map((record) => ({ record, publishedGeneration: record.generation }));
    const blocks = found.blocks.filter(
      ({ network, cidr, generation }) => (this.block(network, cidr)?.generation ?? -1) < generation,
    );
    this.#write([
      [journalKeys.meta, { ...meta, instance, generationLimit: Math.max(meta.generationLimit, found.generation) }],
      ...found.endpoints.map((own) => [journalKeys.endpoint(own.record.id), own] as const),
      ...carriers.map((own) => [journalKeys.carrier(own.record.network), own] as const),
      ...found.hostAddresses.map((own) => [journalKeys.hostAddress(own.network, own.subnet), own] as const),
      ...blocks.map((block) => [journalKeys.block(block.network, block.cidr), block] as const),
    ]);
    this.observeGeneration(found.generation);
  }

  /** Epoch of the store that acknowledged generations refer to; null before the first contact. */
  get epoch(): string | null {
    return this.#meta.epoch;
  }

  /**
   * Takes note that the store is another one: nothing counts as published any more.
   * Returns whether it was another one; the first store ever counts as such.
   */
  setEpoch(epoch: string): boolean {
    if (this.#meta.epoch === epoch) return false;
    this.#write([[journalKeys.meta, { ...this.#meta, epoch }]]);
    this.forgetPublished();
    return true;
  }

  /** Takes note that the store was set back: what it acknowledged may be lost. */
  forgetPublished(): void {
    const changes: [string, JournalValue][] = [];
    for (const own of this.#tables.endpoints.values())
      changes.push([journalKeys.endpoint(own.record.id), { ...own, publishedGeneration: 0 }]);
    for (const own of this.#tables.carriers.values())
      changes.push([journalKeys.carrier(own.record.network), { ...own, publishedGeneration: 0 }]);
    this.#write(changes);
  }

  /** The generation for a change of an own record: above all that this host ever gave. */
  nextGeneration(): number {
    const next = this.#generation + 1;
    if (next > this.#meta.generationLimit) {
      this.#writeOn([[journalKeys.meta, { ...this.#meta, generationLimit: next + generationStep }]]);
    }
    this.#generation = next;
    return next;
  }

  /** Takes note of a generation of this host that somebody else has seen: later ones will be above. */
  observeGeneration(generation: number): void {
    if (generation > this.#generation) this.#generation = generation;
  }

  endpoint(id: string): OwnEndpoint | undefined {
    return this.#tables.endpoints.get(id);
  }

  endpoints(): IterableIterator<OwnEndpoint> {
    return this.#tables.endpoints.values();
  }

  endpointsOf(network: string): OwnEndpoint[] {
    return [...this.#tables.endpoints.values()].filter((own) => own.record.network === network);
  }

  /** Writes an own endpoint; what a controller has acknowledged meanwhile is kept. Errors: ERR_DISK_FULL. */
  putEndpoint(own: OwnEndpoint): void {
    const known = this.#tables.endpoints.get(own.record.id)?.publishedGeneration;
    if (known === undefined) this.#assertRoom();
    const value = (known ?? 0) > own.publishedGeneration ? { ...own, publishedGeneration: known ?? 0 } : own;
    this.#writeOn([
      [journalKeys.endpoint(own.record.id), value],
      [journalKeys.gone(own.record.network, own.record.id), undefined],
    ]);
    // Half an attach or detach is nobody else's business, and telling would cost the caller's time.
    if (own.step === null) this.#tell({ kind: 'endpoint', id: own.record.id });
  }

  /** Removes an own endpoint; a tombstone stays until a controller knows. */
  removeEndpoint(id: string): void {
    const own = this.#tables.endpoints.get(id);
    if (own === undefined) return;
    const { network } = own.record;
    this.#writeOn([
      [journalKeys.endpoint(id), undefined],
      [journalKeys.gone(network, id), { network, id, generation: this.nextGeneration() }],
    ]);
    this.#tell({ kind: 'gone', network, id });
  }

  carrier(network: string): OwnCarrier | undefined {
    return this.#tables.carriers.get(network);
  }

  carriers(): IterableIterator<OwnCarrier> {
    return this.#tables.carriers.values();
  }

  /** Writes that this host carries a network, and with which addresses. Nothing is written when it says so already. */
  putCarrier(carrier: Omit<Carrier, 'v' | 'generation'>): OwnCarrier {
    const known = this.#tables.carriers.get(carrier.network);
    if (known !== undefined && isSameCarrier(known.record, carrier)) return known;
    if (known === undefined) this.#assertRoom();
    const own: OwnCarrier = {
      record: { v: 1, generation: this.nextGeneration(), ...carrier },
      publishedGeneration: known?.publishedGeneration ?? 0,
    };
    this.#write([
      [journalKeys.carrier(carrier.network), own],
      [journalKeys.gone(carrier.network, null), undefined],
    ]);
    this.#tell({ kind: 'carrier', network: carrier.network });
    return own;
  }

  /** Writes that this host no longer carries a network. */
  removeCarrier(network: string): void {
    if (!this.#tables.carriers.has(network)) return;
    this.#writeOn([
      [journalKeys.carrier(network), undefined],
      [journalKeys.gone(network, null), { network, id: null, generation: this.nextGeneration() }],
    ]);
    this.#tell({ kind: 'gone', network, id: null });
  }

  tombstones(): IterableIterator<Tombstone> {
    return this.#tables.gone.values();
  }

  tombstone(network: string, id: string | null): Tombstone | undefined {
    return this.#tables.gone.get(journalKeys.gone(network, id));
  }

  /**
   * Hears of a record of this host as the store has it. One that the journal does not know, or knows in an older
   * generation (it was lost or restored), is withdrawn or published again above the store's generation.
   */
  observeOwn(record: { readonly network: string; readonly id: string | null; readonly generation: number }): void {
    this.observeGeneration(record.generation);
    const { network, id } = record;
    const key = journalKeys.gone(network, id);
    const tombstone = this.#tables.gone.get(key);
    if (
      tombstone !== undefined
        ? tombstone.generation > record.generation
        : (this.#rememberedGone.get(key) ?? -1) >= record.generation
    )
      return;
    const own = id === null ? this.#tables.carriers.get(network) : this.#tables.endpoints.get(id);
    if (own !== undefined && own.record.generation >= record.generation) return;
    const generation = this.nextGeneration();
    if (own === undefined) {
      this.#write([[key, { network, id, generation }]]);
      this.#tell({ kind: 'gone', network, id });
    } else if ('step' in own) {
      this.#write([[journalKeys.endpoint(own.record.id), { ...own, record: { ...own.record, generation } }]]);
      this.#tell({ kind: 'endpoint', id: own.record.id });
    } else {
      this.#write([[journalKeys.carrier(network), { ...own, record: { ...own.record, generation } }]]);
      this.#tell({ kind: 'carrier', network });
    }
  }

  /** Takes note of what a controller has acknowledged, by generation, in one write. */
  acknowledge(records: readonly { readonly change: OwnChange; readonly generation: number }[]): void {
    const changes: [string, JournalValue | undefined][] = [];
    for (const { change, generation } of records) {
      if (change.kind === 'endpoint') {
        const own = this.#tables.endpoints.get(change.id);
        if (own === undefined || own.publishedGeneration >= generation) continue;
        changes.push([journalKeys.endpoint(change.id), { ...own, publishedGeneration: generation }]);
      } else if (change.kind === 'carrier') {
        const own = this.#tables.carriers.get(change.network);
        if (own === undefined || own.publishedGeneration >= generation) continue;
        changes.push([journalKeys.carrier(change.network), { ...own, publishedGeneration: generation }]);
      } else {
        const key = journalKeys.gone(change.network, change.id);
        if (this.#tables.gone.get(key)?.generation !== generation) continue;
        changes.push([key, undefined]);
        this.#remember(key, generation);
      }
    }
    this.#write(changes);
  }

  blocks(): IterableIterator<Block> {
    return this.#tables.blocks.values();
  }

  block(network: string, cidr: string): Block | undefined {
    return this.#tables.blocks.get(journalKeys.block(network, cidr));
  }

  putBlock(block: Block): void {
    this.#write([[journalKeys.block(block.network, block.cidr), block]]);
  }

  removeBlock(network: string, cidr: string): void {
    this.#writeOn([[journalKeys.block(network, cidr), undefined]]);
  }

  /** Blocks on their way back. */
  returns(): IterableIterator<BlockReturn> {
    return this.#tables.returns.values();
  }

  /** Gives a block up; it stays noted as on its way back until `finishReturn`. */
  startReturn(block: BlockReturn): void {
    const { network, cidr, generation } = block;
    this.#writeOn([
      [journalKeys.block(network, cidr), undefined],
      [journalKeys.return(network, cidr), { network, cidr, generation }],
    ]);
  }

  finishReturn(network: string, cidr: string): void {
    this.#write([[journalKeys.return(network, cidr), undefined]]);
  }

  resting(): IterableIterator<Resting> {
    return this.#tables.resting.values();
  }

  /** Notes addresses that rest, and drops those whose rest is over. */
  putResting(resting: readonly Resting[], nowMs: number): void {
    const over = [...this.#tables.resting.values()].filter(({ untilMs }) => untilMs <= nowMs);
    this.#write([
      ...over.map(({ network, address }) => [journalKeys.resting(network, address), undefined] as const),
      ...resting.map((entry) => [journalKeys.resting(entry.network, entry.address), entry] as const),
    ]);
  }

  hostAddresses(): IterableIterator<HostAddress> {
    return this.#tables.hostAddresses.values();
  }

  hostAddress(network: string, subnet: string): HostAddress | undefined {
    return this.#tables.hostAddresses.get(journalKeys.hostAddress(network, subnet));
  }

  putHostAddress(address: HostAddress): void {
    this.#write([[journalKeys.hostAddress(address.network, address.subnet), address]]);
  }

  removeHostAddress(network: string, subnet: string): void {
    this.#writeOn([[journalKeys.hostAddress(network, subnet), undefined]]);
  }

  carves(): IterableIterator<CarveDecision> {
    return this.#tables.carves.values();
  }

  carve(id: string): CarveDecision | undefined {
    return this.#tables.carves.get(journalKeys.carve(id));
  }

  putCarve(decision: CarveDecision): void {
    this.#write([[journalKeys.carve(decision.carve.id), decision]]);
  }

  removeCarve(id: string): void {
    this.#writeOn([[journalKeys.carve(id), undefined]]);
  }

  /** Calls `listener` after each change that a controller should hear of; returns how to stop it. */
  onChange(listener: (change: OwnChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when all written so far would survive a power cut. */
  sync(): Promise<void> {
    return this.#log.sync();
  }

  async close(): Promise<void> {
    clearTimeout(this.#syncTimer);
    await this.#log.close();
  }

  #tell(change: OwnChange): void {
    for (const listener of this.#listeners) listener(change);
  }

  #remember(key: string, generation: number): void {
    this.#rememberedGone.set(key, generation);
    if (this.#rememberedGone.size <= rememberedGone) return;
    const [oldest] = this.#rememberedGone.keys();
    if (oldest !== undefined) this.#rememberedGone.delete(oldest);
  }

  /** Refuses to begin what could not be brought to an end. */
  #assertRoom(): void {
    if (this.#reserve.take()) return;
    throw new TsnetError('ERR_DISK_FULL', `${this.#log.path}: no room is left for what would have to be written later`);
  }

  /** Writes what follows from something begun before; on a full disk in the room that is held for that. */
  #writeOn(changes: readonly (readonly [string, JournalValue | undefined])[]): void {
    for (;;) {
      try {
        this.#write(changes);
        return;
      } catch (error) {
        if (toTsnetError(error).code !== 'ERR_DISK_FULL' || !this.#reserve.release()) throw error;
      }
    }
  }

  /** File first: when that fails nothing has happened. */
  #write(changes: readonly (readonly [string, JournalValue | undefined])[]): void {
    this.#log.write(changes);
    for (const [key, value] of changes) {
      if (value === undefined) this.#tables.unload(key);
      else if (key === journalKeys.meta) this.#meta = value as JournalMeta;
      else this.#tables.load(key, value);
    }
    this.#syncTimer ??= this.#syncSoon();
  }

  #syncSoon(): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.#syncTimer = undefined;
      this.#log.sync().catch((error: unknown) => this.#onFault(toTsnetError(error)));
    }, syncMs);
    return timer.unref();
  }
}

function newMeta(): JournalMeta {
  return { instance: formatId('instance', randomBytes(16)), epoch: null, generationLimit: 0, incomplete: 'new' };
}

function isSameCarrier(a: Omit<Carrier, 'v' | 'generation'>, b: Omit<Carrier, 'v' | 'generation'>): boolean {
  return a.host === b.host && a.vtep === b.vtep && a.mac === b.mac && a.addresses.join() === b.addresses.join();
}
