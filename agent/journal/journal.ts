import { join } from 'node:path';
import type { TsnetError } from '../../core/errors.js';
import type { Carrier } from '../../core/model.js';
import { AddressRecords } from './address-records.js';
import {
  acceptJournalEntry,
  journalKeys,
  type JournalValue,
  type OwnCarrier,
  type OwnEndpoint,
  type RestoredEntries,
  type Tombstone,
} from './entries.js';
import { Identity } from './identity.js';
import { JournalFile } from './journal-file.js';
import { openLog } from './open-log.js';
import { ResolvConfRecords } from './resolv-conf-records.js';

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
  /** What this host has of networks' addresses. */
  readonly addresses: AddressRecords;
  readonly resolvConfs: ResolvConfRecords;
  readonly #file: JournalFile;
  readonly #identity: Identity;
  readonly #rememberedGone = new Map<string, number>();
  readonly #listeners = new Set<(change: OwnChange) => void>();

  private constructor(file: JournalFile, isDamaged: boolean) {
    this.#file = file;
    this.#identity = new Identity(file, isDamaged);
    this.addresses = new AddressRecords(file);
    this.resolvConfs = new ResolvConfRecords(file);
  }

  /**
   * Opens or makes the journal of a data directory.
   * Errors: ERR_DISK_FULL, ERR_DATA_DIR_UNWRITABLE.
   */
  static open(dataDir: string, onFault: (error: TsnetError) => void = () => undefined): JournalOpening {
    const { log, warnings } = openLog<JournalValue>(join(dataDir, 'journal'), acceptJournalEntry, onFault);
    return { journal: new Journal(new JournalFile(log, onFault), warnings.length > 0), warnings };
  }

  /** Random per data directory. */
  get instance(): string {
    return this.#identity.instance;
  }

  /** Records may be missing: the file was new or damaged, and `restore` has not been called since, in this run or an earlier one. */
  get isIncomplete(): boolean {
    return this.#identity.isIncomplete;
  }

  /** Takes up what was lost with a missing or damaged file, all in one write; from then on the journal counts as complete. */
  restore(found: RestoredEntries): void {
    const carriers = found.carriers.map((record) => ({ record, publishedGeneration: record.generation }));
    const blocks = found.blocks.filter(
      ({ network, cidr, generation }) => (this.addresses.block(network, cidr)?.generation ?? -1) < generation,
    );
    this.#identity.complete(found, [
      ...found.endpoints.map((own) => [journalKeys.endpoint(own.record.id), own] as const),
      ...carriers.map((own) => [journalKeys.carrier(own.record.network), own] as const),
      ...found.hostAddresses.map((own) => [journalKeys.hostAddress(own.network, own.subnet), own] as const),
      ...blocks.map((block) => [journalKeys.block(block.network, block.cidr), block] as const),
    ]);
  }

  /** Epoch of the store that acknowledged generations refer to; null before the first contact. */
  get epoch(): string | null {
    return this.#identity.epoch;
  }

  /**
   * Takes note that the store is another one: nothing counts as published any more.
   * Returns whether it was another one; the first store ever counts as such.
   */
  setEpoch(epoch: string): boolean {
    if (this.#identity.epoch === epoch) return false;
    this.#identity.setEpoch(epoch);
    this.forgetPublished();
    return true;
  }

  /** Takes note that the store was set back: what it acknowledged may be lost. */
  forgetPublished(): void {
    const changes: [string, JournalValue][] = [];
    for (const own of this.#file.tables.endpoints.values())
      changes.push([journalKeys.endpoint(own.record.id), { ...own, publishedGeneration: 0 }]);
    for (const own of this.#file.tables.carriers.values())
      changes.push([journalKeys.carrier(own.record.network), { ...own, publishedGeneration: 0 }]);
    this.#file.write(changes);
  }

  /** The generation for a change of an own record: above all that this host ever gave. */
  nextGeneration(): number {
    return this.#identity.nextGeneration();
  }

  /** Takes note of a generation of this host that somebody else has seen: later ones will be above. */
  observeGeneration(generation: number): void {
    this.#identity.observeGeneration(generation);
  }

  endpoint(id: string): OwnEndpoint | undefined {
    return this.#file.tables.endpoints.get(id);
  }

  endpoints(): IterableIterator<OwnEndpoint> {
    return this.#file.tables.endpoints.values();
  }

  endpointsOf(network: string): OwnEndpoint[] {
    return [...this.#file.tables.endpoints.values()].filter((own) => own.record.network === network);
  }

  /** Writes an own endpoint; what a controller has acknowledged meanwhile is kept. Errors: ERR_DISK_FULL. */
  putEndpoint(own: OwnEndpoint): void {
    const known = this.#file.tables.endpoints.get(own.record.id)?.publishedGeneration;
    if (known === undefined) this.#file.assertRoom();
    const value = (known ?? 0) > own.publishedGeneration ? { ...own, publishedGeneration: known ?? 0 } : own;
    this.#file.writeOn([
      [journalKeys.endpoint(own.record.id), value],
      [journalKeys.gone(own.record.network, own.record.id), undefined],
    ]);
    // Half an attach or detach is nobody else's business, and telling would cost the caller's time.
    if (own.step === null) this.#tell({ kind: 'endpoint', id: own.record.id });
  }

  /** Removes an own endpoint; a tombstone stays until a controller knows. */
  removeEndpoint(id: string): void {
    const own = this.#file.tables.endpoints.get(id);
    if (own === undefined) return;
    const { network } = own.record;
    this.#file.writeOn([
      [journalKeys.endpoint(id), undefined],
      [journalKeys.gone(network, id), { network, id, generation: this.nextGeneration() }],
    ]);
    this.#tell({ kind: 'gone', network, id });
  }

  carrier(network: string): OwnCarrier | undefined {
    return this.#file.tables.carriers.get(network);
  }

  carriers(): IterableIterator<OwnCarrier> {
    return this.#file.tables.carriers.values();
  }

  /** Writes that this host carries a network, and with which addresses. Nothing is written when it says so already. */
  putCarrier(carrier: Omit<Carrier, 'v' | 'generation'>): OwnCarrier {
    const known = this.#file.tables.carriers.get(carrier.network);
    if (known !== undefined && isSameCarrier(known.record, carrier)) return known;
    if (known === undefined) this.#file.assertRoom();
    const own: OwnCarrier = {
      record: { v: 1, generation: this.nextGeneration(), ...carrier },
      publishedGeneration: known?.publishedGeneration ?? 0,
    };
    this.#file.write([
      [journalKeys.carrier(carrier.network), own],
      [journalKeys.gone(carrier.network, null), undefined],
    ]);
    this.#tell({ kind: 'carrier', network: carrier.network });
    return own;
  }

  /** Writes that this host no longer carries a network. */
  removeCarrier(network: string): void {
    if (!this.#file.tables.carriers.has(network)) return;
    this.#file.writeOn([
      [journalKeys.carrier(network), undefined],
      [journalKeys.gone(network, null), { network, id: null, generation: this.nextGeneration() }],
    ]);
    this.#tell({ kind: 'gone', network, id: null });
  }

  tombstones(): IterableIterator<Tombstone> {
    return this.#file.tables.gone.values();
  }

  tombstone(network: string, id: string | null): Tombstone | undefined {
    return this.#file.tables.gone.get(journalKeys.gone(network, id));
  }

  /**
   * Hears of a record of this host as the store has it. One that the journal does not know, or knows in an older
   * generation (it was lost or restored), is withdrawn or published again above the store's generation.
   */
  observeOwn(record: { readonly network: string; readonly id: string | null; readonly generation: number }): void {
    this.observeGeneration(record.generation);
    const { network, id } = record;
    const key = journalKeys.gone(network, id);
    const tombstone = this.#file.tables.gone.get(key);
    if (
      tombstone !== undefined
        ? tombstone.generation > record.generation
        : (this.#rememberedGone.get(key) ?? -1) >= record.generation
    )
      return;
    const own = id === null ? this.#file.tables.carriers.get(network) : this.#file.tables.endpoints.get(id);
    if (own !== undefined && own.record.generation >= record.generation) return;
    const generation = this.nextGeneration();
    if (own === undefined) {
      this.#file.write([[key, { network, id, generation }]]);
      this.#tell({ kind: 'gone', network, id });
    } else if ('step' in own) {
      this.#file.write([[journalKeys.endpoint(own.record.id), { ...own, record: { ...own.record, generation } }]]);
      this.#tell({ kind: 'endpoint', id: own.record.id });
    } else {
      this.#file.write([[journalKeys.carrier(network), { ...own, record: { ...own.record, generation } }]]);
      this.#tell({ kind: 'carrier', network });
    }
  }

  /** Takes note of what a controller has acknowledged, by generation, in one write. */
  acknowledge(records: readonly { readonly change: OwnChange; readonly generation: number }[]): void {
    const changes: [string, JournalValue | undefined][] = [];
    for (const { change, generation } of records) {
      if (change.kind === 'endpoint') {
        const own = this.#file.tables.endpoints.get(change.id);
        if (own === undefined || own.publishedGeneration >= generation) continue;
        changes.push([journalKeys.endpoint(change.id), { ...own, publishedGeneration: generation }]);
      } else if (change.kind === 'carrier') {
        const own = this.#file.tables.carriers.get(change.network);
        if (own === undefined || own.publishedGeneration >= generation) continue;
        changes.push([journalKeys.carrier(change.network), { ...own, publishedGeneration: generation }]);
      } else {
        const key = journalKeys.gone(change.network, change.id);
        if (this.#file.tables.gone.get(key)?.generation !== generation) continue;
        changes.push([key, undefined]);
        this.#remember(key, generation);
      }
    }
    this.#file.write(changes);
  }

  /** Calls `listener` after each change that a controller should hear of; returns how to stop it. */
  onChange(listener: (change: OwnChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when all written so far would survive a power cut. */
  sync(): Promise<void> {
    return this.#file.sync();
  }

  close(): Promise<void> {
    return this.#file.close();
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
}

function isSameCarrier(a: Omit<Carrier, 'v' | 'generation'>, b: Omit<Carrier, 'v' | 'generation'>): boolean {
  const ofHost = a.host === b.host && a.vtep === b.vtep && a.mac === b.mac;
  return ofHost && a.addresses.join() === b.addresses.join() && JSON.stringify(a.held) === JSON.stringify(b.held);
}
