import type { Publication, PublicationResult } from '../../core/api/publication.js';
import { toTsnetError, type TsnetError } from '../../core/errors.js';
import type { Network, Service } from '../../core/model.js';
import type { Logger } from '../../lib/log.js';
import type { Journal } from '../journal/journal.js';
import { Backoff } from '../../lib/sync/backoff.js';
import { Announcements, type Announcement } from './announcements.js';
import { Refusals, type PublishWarning } from './refusals.js';
import {
  itemKey,
  PublishQueue,
  type Batch,
  type ForeignRecords,
  type PublishItem,
  type SentItem,
} from './publish-queue.js';

export interface PublisherOptions {
  readonly journal: Journal;
  /** What is known of records that are not the journal's. */
  readonly foreign: ForeignRecords;
  readonly send: (publication: Publication) => Promise<PublicationResult>;
  readonly log: Logger;
  /** A block that the journal holds is another host's by now. */
  readonly onBlockFenced: (network: string, cidr: string) => void;
  readonly backoff?: Backoff;
  /** A refused record is tried again after this long at first, ms. Default 1 s; doubles up to a minute. */
  readonly refusedRetryMs?: number;
}

const batchLimit = 100;
/** Between the starts of two batches, while records keep coming. */
const batchSpacingMs = 40;
/** The same after a batch of so many, or more: a crowd of attaches, which it would take the processors from. */
const crowdSpacingMs = 120;
const crowd = 4;
const firstRefusedRetryMs = 1000;

/**
 * Tells controllers what this host has, from the journal: each record's latest state, in batches, one on its way at a
 * time. Nothing waits for it but an announcement.
 */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #queue: PublishQueue;
  readonly #backoff: Backoff;
  readonly #refusals: Refusals;
  readonly #announcements = new Announcements();
  readonly #unsubscribe: () => void;
  #ready = false;
  #inFlight = 0;
  #batchOnItsWay = false;
  #scheduled: NodeJS.Timeout | undefined;
  #nextSendMs = 0;
  #retry: NodeJS.Timeout | undefined;
  /** Shrinks while a batch as a whole is turned down, until the record that spoils it stands alone. */
  #limit = batchLimit;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#queue = new PublishQueue(options.journal, options.foreign);
    this.#backoff = options.backoff ?? new Backoff();
    this.#refusals = new Refusals(options.refusedRetryMs ?? firstRefusedRetryMs, (item, code) => {
      if (this.#isOrphan(item, code)) return;
      this.#queue.add(item);
      this.#schedule();
    });
    this.#queueUnacknowledged();
    this.#unsubscribe = options.journal.onChange((change) => this.#add(change));
  }

  /** Records that no controller has acknowledged. */
  get unpublished(): number {
    return this.#queue.size + this.#inFlight + this.#refusals.size;
  }

  get warnings(): readonly PublishWarning[] {
    return this.#refusals.warnings;
  }

  /** A controller can be reached: publishes what is not acknowledged. */
  resume(): void {
    this.#ready = true;
    this.#backoff.reset();
    clearTimeout(this.#retry);
    this.#retry = undefined;
    for (const item of this.#refusals.clear()) this.#queue.add(item);
    this.#queueUnacknowledged();
    this.#schedule();
  }

  /** No controller can be reached: keeps everything for later. */
  pause(): void {
    this.#ready = false;
    clearTimeout(this.#retry);
    this.#retry = undefined;
  }

  /** Publishes what a store lost: these, and the blocks of the journal. */
  refill(networks: Iterable<Network>, services: Iterable<Service>): void {
    for (const { id } of networks) this.#queue.add({ kind: 'network', network: id });
    for (const { network, name } of services) this.#queue.add({ kind: 'service', network, name });
    for (const { network, cidr } of this.#options.journal.addresses.blocks())
      this.#queue.add({ kind: 'block', network, cidr });
    this.#schedule();
  }

  /** Publishes one block that the store does not have as ours. */
  publishBlock(network: string, cidr: string): void {
    this.#add({ kind: 'block', network, cidr });
  }

  /**
   * Says that this host carries a network, before anything else that waits, and waits for the answer: 200 ms at most,
   * not at all while no controller can be reached. The journal has the carrier record already.
   */
  async announceCarrier(network: string): Promise<Announcement> {
    const own = this.#options.journal.carrier(network);
    if (own === undefined || own.publishedGeneration >= own.record.generation) return 'acknowledged';
    if (!this.#ready) return 'away';
    const announced = this.#announcements.wait(network);
    const item = { kind: 'carrier', network } as const;
    const batch = this.#queue.has(item) ? this.#queue.takeOne(item) : null;
    if (batch !== null) void this.#sendBatch(batch);
    return announced;
  }

  /** Stops sending; what is not acknowledged stays in the journal. */
  stop(): void {
    this.pause();
    this.#unsubscribe();
    this.#refusals.clear();
    clearTimeout(this.#scheduled);
  }

  #queueUnacknowledged(): void {
    const { journal } = this.#options;
    for (const { record, publishedGeneration } of journal.carriers()) {
      if (publishedGeneration < record.generation) this.#queue.add({ kind: 'carrier', network: record.network });
    }
    for (const { network, id } of journal.tombstones()) this.#queue.add({ kind: 'gone', network, id });
    for (const { record, publishedGeneration } of journal.endpoints()) {
      if (publishedGeneration < record.generation) this.#queue.add({ kind: 'endpoint', id: record.id });
    }
  }

  #add(item: PublishItem): void {
    this.#refusals.drop(itemKey(item));
    if (item.kind === 'gone')
      this.#supersede(
        item.id === null ? { kind: 'carrier', network: item.network } : { kind: 'endpoint', id: item.id },
      );
    if (item.kind === 'carrier') this.#supersede({ kind: 'gone', network: item.network, id: null });
    this.#queue.add(item);
    this.#schedule();
  }

  #supersede(item: PublishItem): void {
    this.#queue.delete(item);
    this.#refusals.drop(itemKey(item));
  }

  /** At once after a rest, else after a while with whatever has come by then: a batch costs as much as an attach. */
  #schedule(): void {
    if (!this.#ready || this.#batchOnItsWay || this.#retry !== undefined || this.#scheduled !== undefined) return;
    const waitMs = this.#nextSendMs - performance.now();
    this.#scheduled = setTimeout(
      () => {
        this.#scheduled = undefined;
        void this.#sendNext();
      },
      Math.max(0, waitMs),
    );
  }

  async #sendNext(): Promise<void> {
    if (!this.#ready || this.#batchOnItsWay) return;
    const batch = this.#queue.take(this.#limit);
    if (batch === null) return;
    this.#batchOnItsWay = true;
    // What waits in more than one batch is no crowd of attaches but a backlog, after an outage say.
    const isCrowd = batch.sent.length >= crowd && this.#queue.size < this.#limit;
    this.#nextSendMs = performance.now() + (isCrowd ? crowdSpacingMs : batchSpacingMs);
    await this.#sendBatch(batch);
    this.#batchOnItsWay = false;
    if (this.#queue.size > 0) this.#schedule();
  }

  async #sendBatch(batch: Batch): Promise<void> {
    const { sent } = batch;
    this.#inFlight += sent.length;
    try {
      this.#settle(sent, await this.#options.send(batch.publication));
      this.#backoff.reset();
      this.#limit = Math.min(batchLimit, this.#limit * 2);
    } catch (error) {
      this.#fail(sent, toTsnetError(error));
    } finally {
      this.#inFlight -= sent.length;
    }
  }

  #settle(sent: readonly SentItem[], result: PublicationResult): void {
    const refusals = new Map(result.refused.map((refusal) => [refusalKey(refusal.key), refusal]));
    const accepted: SentItem[] = [];
    for (const one of sent) {
      const refusal = refusals.get(refusalKey(one.key));
      if (refusal === undefined) accepted.push(one);
      else this.#refuse(one, { code: refusal.code, message: refusal.message });
    }
    const records = accepted.flatMap(({ item, generation }) =>
      item.kind === 'network' || item.kind === 'service' || item.kind === 'block' ? [] : [{ change: item, generation }],
    );
    for (const { item } of accepted) this.#refusals.accepted(item);
    try {
      this.#options.journal.acknowledge(records);
    } catch (error) {
      // The disk is full or read-only: the records are published again after the next connection, which does no harm.
      this.#options.log.warn(
        { code: toTsnetError(error).code },
        `publish: acknowledgement not written: ${toTsnetError(error).message}`,
      );
    }
    for (const { item } of accepted) if (item.kind === 'carrier') this.#announcements.acknowledge(item.network);
  }

  #fail(sent: readonly SentItem[], error: TsnetError): void {
    const isTurnedDown =
      !error.retryable &&
      error.code !== 'ERR_INTERNAL' &&
      error.code !== 'ERR_UNAUTHENTICATED' &&
      error.code !== 'ERR_FORBIDDEN';
    const [only, ...others] = sent;
    if (isTurnedDown && only !== undefined && others.length === 0) {
      this.#refuse(only, { code: error.code, message: error.message });
      return;
    }
    this.#queue.restore(sent);
    if (isTurnedDown) {
      this.#limit = Math.max(1, Math.floor(sent.length / 2));
      return;
    }
    this.#options.log.debug({ code: error.code }, `publish: ${error.message}`);
    if (!this.#ready || this.#retry !== undefined) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#schedule();
    }, this.#backoff.next());
    this.#retry.unref();
  }

  /** Sets a record aside with its reason, for a later try: it must not hold up the others. */
  #refuse(sent: SentItem, warning: PublishWarning): void {
    const { item, generation } = sent;
    if (item.kind === 'network') return;
    if (item.kind === 'block' && warning.code === 'ERR_BLOCK_FENCED') {
      this.#options.onBlockFenced(item.network, item.cidr);
      return;
    }
    if (this.#queue.has(item)) return;
    if (item.kind === 'service' && warning.code === 'ERR_FORBIDDEN') return;
    if (this.#isOrphan(item, warning.code)) {
      if (item.kind === 'gone') this.#options.journal.acknowledge([{ change: item, generation }]);
      return;
    }
    if (this.#refusals.add(sent, warning) === (isOfNetwork(item, warning.code) ? 1 : 0))
      this.#options.log.warn({ code: warning.code, record: sent.key }, `publish: refused: ${warning.message}`);
  }

  /** Its network was removed a moment ago: the record goes with it once the stream has said so. */
  #isOrphan(item: PublishItem, code: string): boolean {
    return isOfNetwork(item, code) && this.#options.foreign.network(item.network) === undefined;
  }
}

/** Whether a record was refused for want of its network, with which it may have to go. */
function isOfNetwork(item: PublishItem, code: string): item is Exclude<PublishItem, { readonly kind: 'endpoint' }> {
  return code === 'ERR_NETWORK_UNKNOWN' && item.kind !== 'endpoint';
}

/** A carrier's key names the host as well, which is always this one. */
function refusalKey(key: string): string {
  return key.startsWith('carrier/') ? key.split('/', 2).join('/') : key;
}
