import { randomBytes } from 'node:crypto';
import { formatId } from '../core/ids.js';
import { epochKey, keyPrefix } from '../core/keys.js';
import type { Cursor } from '../core/model.js';
import { Backoff } from '../lib/sync/backoff.js';
import type { EtcdClient, Listing } from '../lib/etcd/client.js';
import { ensureEpoch, renewEpoch } from '../lib/etcd/epoch.js';
import { watchPrefix, type WatchBatch, type WatchEvent } from '../lib/etcd/watch.js';
import type { Logger } from '../lib/log.js';
import { ChangeRing } from './change-ring.js';
import { Records } from './records.js';
import type { Change, Tables } from './tables.js';

/** Changes that are kept for watchers who come back. */
const ringSize = 20_000;

/** A host that is wrong about its cursor does not make everybody start anew more often than this. */
const renewPauseMs = 60_000;

export interface MirrorListener {
  /** Changes in the order of their revisions; the mirror already shows them. */
  readonly onChanges: (changes: readonly Change[]) => void;
  /** The store is another one than before: nothing that was said holds. */
  readonly onReset: () => void;
}

export interface MirrorOptions {
  readonly client: EtcdClient;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Called whenever a store has been listed, with the epoch found; its failure is a failed listing. */
  readonly prepare?: () => Promise<void>;
  readonly ringSize?: number;
}

/**
 * All records of the store in memory, as of one revision: one list and one watch, however many
 * ask. Listens again from where it stood after an outage; lists again and diffs after a compaction.
 */
export class Mirror {
  readonly #options: MirrorOptions;
  readonly #listeners = new Set<MirrorListener>();
  readonly #waiters = new Set<() => void>();
  readonly #ring: ChangeRing;
  #records: Records;
  #epoch = '';
  #revision = 0;
  #connectedAt: number | undefined;
  #renewedAt = -Infinity;

  constructor(options: MirrorOptions) {
    this.#options = options;
    this.#ring = new ChangeRing(options.ringSize ?? ringSize);
    this.#records = new Records(options.log);
  }

  get tables(): Tables {
    return this.#records.tables;
  }

  /** Empty before the store was first read. */
  get epoch(): string {
    return this.#epoch;
  }

  get revision(): number {
    return this.#revision;
  }

  get isReady(): boolean {
    return this.#epoch !== '';
  }

  get isConnected(): boolean {
    return this.#connectedAt !== undefined;
  }

  /** How long the store has been heard without interruption, ms. */
  get connectedMs(): number {
    return this.#connectedAt === undefined ? 0 : performance.now() - this.#connectedAt;
  }

  listen(listener: MirrorListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Every change after a cursor, or undefined where only a full list can tell. */
  changesSince(cursor: Cursor): readonly Change[] | undefined {
    if (cursor.epoch !== this.#epoch || cursor.revision > this.#revision) return undefined;
    return this.#ring.since(cursor.revision);
  }

  /** Waits until the mirror shows a revision; false when it does not in time. */
  reached(revision: number, timeoutMs = 2000): Promise<boolean> {
    return this.until(() => this.#revision >= revision, timeoutMs);
  }

  /** Waits until a condition on the mirror holds; false when it does not in time. */
  async until(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    if (condition()) return true;
    return new Promise((resolve) => {
      const done = (result: boolean): void => {
        clearTimeout(timer);
        this.#waiters.delete(check);
        resolve(result);
      };
      const check = (): void => {
        if (condition()) done(true);
      };
      const timer = setTimeout(() => done(condition()), timeoutMs);
      this.#waiters.add(check);
    });
  }

  /**
   * Judges a cursor that is ahead of the mirror: another controller may only have been quicker, but where the store
   * itself is behind, it was restored from a backup, and gets a new epoch.
   */
  async catchUpWith(cursor: Cursor): Promise<void> {
    if (cursor.epoch !== this.#epoch || (await this.reached(cursor.revision, 500))) return;
    const { client } = this.#options;
    if (cursor.epoch !== this.#epoch || (await client.revision()) >= cursor.revision) return;
    if (performance.now() - this.#renewedAt < renewPauseMs) return;
    this.#renewedAt = performance.now();
    this.#options.log.error({ cursor, revision: this.#revision }, 'store is behind what a host has seen of it');
    await renewEpoch(client, epochKey, { from: cursor.epoch, to: newEpoch() });
    await this.until(() => this.#epoch !== cursor.epoch, 2000);
  }

  /** Mirrors until the signal. */
  async run(): Promise<void> {
    const { signal, log } = this.#options;
    const backoff = new Backoff(50, 1000);
    while (!signal.aborted) {
      try {
        await this.#list();
        backoff.reset();
        await this.#watch();
      } catch (error) {
        this.#setConnected(false);
        if (signal.aborted) return;
        log.warn({ err: error }, 'store cannot be read');
        await backoff.wait(signal);
      }
    }
  }

  async #list(): Promise<void> {
    const { client } = this.#options;
    let epoch = await ensureEpoch(client, epochKey, newEpoch);
    if (epoch === this.#epoch && (await client.revision()) < this.#revision) {
      this.#options.log.error({ epoch, revision: this.#revision }, 'store went back to an earlier state');
      await renewEpoch(client, epochKey, { from: epoch, to: newEpoch() });
      epoch = await ensureEpoch(client, epochKey, newEpoch);
    }
    await this.#options.prepare?.();
    const listing = await client.list(keyPrefix);
    if (this.#epoch !== epoch) this.#reset(epoch, listing);
    else this.#applyListing(listing);
    this.#wake();
  }

  async #watch(): Promise<void> {
    const { client, log } = this.#options;
    const again = new AbortController();
    const stop = (): void => again.abort();
    // It may have been aborted while the store was listed, and says so only once.
    if (this.#options.signal.aborted) return;
    this.#options.signal.addEventListener('abort', stop, { once: true });
    try {
      const outcome = await watchPrefix(client, {
        prefix: keyPrefix,
        fromRevision: this.#revision + 1,
        signal: again.signal,
        accept: async () => (await client.get(epochKey))?.value.toString('utf8') === this.#epoch,
        onConnected: () => this.#setConnected(true),
        onDisconnected: (error) => {
          if (this.isConnected) log.warn({ err: error }, 'store watch broke');
          this.#setConnected(false);
        },
        onBatch: (batch) => {
          if (batch.events.some((event) => eventKey(event) === epochKey)) stop();
          else this.#applyBatch(batch);
        },
      });
      if (!this.#options.signal.aborted) log.warn({ outcome }, 'store is listed again');
    } finally {
      this.#options.signal.removeEventListener('abort', stop);
      this.#setConnected(false);
    }
  }

  #setConnected(isConnected: boolean): void {
    if (!isConnected) this.#connectedAt = undefined;
    else this.#connectedAt ??= performance.now();
    this.#wake();
  }

  #reset(epoch: string, listing: Listing): void {
    const isFirst = this.#epoch === '';
    this.#records = new Records(this.#options.log);
    this.#epoch = epoch;
    for (const kv of listing.kvs) this.#records.put(kv);
    this.#revision = listing.revision;
    this.#ring.restart(listing.revision);
    if (!isFirst) for (const listener of this.#listeners) listener.onReset();
  }

  #applyListing(listing: Listing): void {
    if (listing.revision === this.#revision) return;
    const seen = new Set(listing.kvs.map((kv) => kv.key));
    const changes: Change[] = [];
    for (const kv of [...listing.kvs].sort((a, b) => a.modRevision - b.modRevision)) {
      if (kv.modRevision <= this.#revision) continue;
      const change = this.#records.put(kv);
      if (change !== undefined) changes.push(change);
    }
    for (const key of [...this.#records.keys()]) {
      if (seen.has(key)) continue;
      const change = this.#records.delete(key, listing.revision);
      if (change !== undefined) changes.push(change);
    }
    this.#revision = listing.revision;
    // What came and went in between is in no listing, so nobody can be brought over the gap.
    this.#ring.restart(listing.revision);
    this.#announce(changes);
  }

  #applyBatch(batch: WatchBatch): void {
    const changes: Change[] = [];
    for (const event of batch.events) {
      const change =
        event.type === 'put' ? this.#records.put(event.kv) : this.#records.delete(event.key, event.modRevision);
      if (change !== undefined) changes.push(change);
    }
    this.#revision = Math.max(this.#revision, batch.revision);
    this.#ring.push(changes);
    this.#announce(changes);
    this.#wake();
  }

  #announce(changes: readonly Change[]): void {
    if (changes.length > 0) for (const listener of this.#listeners) listener.onChanges(changes);
  }

  #wake(): void {
    for (const check of [...this.#waiters]) check();
  }
}

function eventKey(event: WatchEvent): string {
  return event.type === 'put' ? event.kv.key : event.key;
}

function newEpoch(): string {
  return formatId('epoch', randomBytes(16));
}
