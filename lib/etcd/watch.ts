import type { IWatchResponse } from 'etcd3';
import { Backoff } from '../sync/backoff.js';
import { EtcdFault, prefixEnd, type EtcdClient, type KeyValue, type WatchStream } from './client.js';

export type WatchEvent =
  | { readonly type: 'put'; readonly kv: KeyValue }
  | { readonly type: 'delete'; readonly key: string; readonly modRevision: number };

/** Events in order; a revision is never split over two batches. */
export interface WatchBatch {
  readonly events: readonly WatchEvent[];
  /** Everything up to here has been delivered. */
  readonly revision: number;
}

/** Why a watch ended. `compacted`, `future` and `foreign` mean: list again and diff. */
export type WatchOutcome =
  | { readonly kind: 'stopped' }
  /** History up to `compactRevision` is gone and the watch had not got that far. */
  | { readonly kind: 'compacted'; readonly compactRevision: number }
  /** The store is behind where the watch stood: it was emptied or restored. */
  | { readonly kind: 'future'; readonly revision: number }
  /** `accept` refused the store that was found after a reconnection. */
  | { readonly kind: 'foreign' };

export interface WatchOptions {
  readonly prefix: string;
  /** First revision wanted. */
  readonly fromRevision: number;
  readonly onBatch: (batch: WatchBatch) => void;
  readonly onConnected?: () => void;
  readonly onDisconnected?: (error: Error) => void;
  /** Asked after each connection before events are delivered: whether it is still the same store. */
  readonly accept?: () => Promise<boolean>;
  readonly signal: AbortSignal;
  /** How often a silent connection is probed; it counts as broken after twice that without an answer. */
  readonly probeMs?: number;
}

/**
 * Watches a prefix until stopped or until the history needed is gone, over any number of connections.
 * A new connection resumes after the last event delivered, never after a response header's revision:
 * during catch-up the header is ahead of the events.
 */
export async function watchPrefix(client: EtcdClient, options: WatchOptions): Promise<WatchOutcome> {
  const backoff = new Backoff();
  let next = options.fromRevision;
  while (!options.signal.aborted) {
    const session = new WatchSession(client, options, next);
    const outcome = await session.run();
    if (session.next > next || session.isConnected) backoff.reset();
    next = session.next;
    if (outcome.kind !== 'broken') return outcome;
    options.onDisconnected?.(outcome.error);
    await backoff.wait(options.signal);
  }
  return { kind: 'stopped' };
}

type SessionOutcome = WatchOutcome | { readonly kind: 'broken'; readonly error: Error };
type Response = IWatchResponse;

/** One connection's worth of a watch. */
class WatchSession {
  next: number;
  isConnected = false;
  readonly #client: EtcdClient;
  readonly #options: WatchOptions;
  #fragments: WatchEvent[] = [];
  #held: WatchBatch[] | undefined = [];
  #heardAt = performance.now();
  #finish: (outcome: SessionOutcome) => void = () => undefined;

  constructor(client: EtcdClient, options: WatchOptions, next: number) {
    this.#client = client;
    this.#options = options;
    this.next = next;
  }

  async run(): Promise<SessionOutcome> {
    let stream: WatchStream;
    try {
      stream = await this.#client.openWatch();
    } catch (error) {
      return { kind: 'broken', error: toError(error) };
    }
    const { signal } = this.#options;
    const stop = (): void => this.#finish({ kind: 'stopped' });
    const probeMs = this.#options.probeMs ?? 2500;
    const timer = setInterval(() => this.#probe(stream, probeMs), probeMs / 2);
    try {
      return await new Promise<SessionOutcome>((resolve) => {
        this.#finish = resolve;
        if (signal.aborted) stop();
        signal.addEventListener('abort', stop, { once: true });
        stream.on('data', (response) => this.#take(response));
        stream.on('error', (error) => resolve({ kind: 'broken', error }));
        stream.on('end', () => resolve({ kind: 'broken', error: new Error('etcd ended the watch stream') }));
        stream.write({
          create_request: {
            key: Buffer.from(this.#options.prefix),
            range_end: prefixEnd(this.#options.prefix),
            start_revision: this.next,
            progress_notify: true,
            fragment: true,
          },
        });
      });
    } finally {
      this.#finish = () => undefined;
      clearInterval(timer);
      signal.removeEventListener('abort', stop);
      // A cancelled call still reports an error, which has nobody else to go to.
      stream.on('error', () => undefined);
      stream.cancel();
    }
  }

  #probe(stream: WatchStream, probeMs: number): void {
    const silentMs = performance.now() - this.#heardAt;
    if (silentMs > 2 * probeMs) {
      this.#finish({ kind: 'broken', error: new Error(`etcd said nothing for ${Math.round(silentMs)} ms`) });
    } else if (silentMs > probeMs / 2) {
      // The answer may overtake events that are still to come (etcd before 3.4.25), so it moves nothing.
      stream.write({ progress_request: {} });
    }
  }

  #take(response: Response): void {
    this.#heardAt = performance.now();
    const revision = Number(response.header.revision);
    if (response.canceled) {
      const compactRevision = Number(response.compact_revision);
      if (compactRevision > 0) this.#finish({ kind: 'compacted', compactRevision });
      else this.#finish({ kind: 'broken', error: new Error(`etcd cancelled the watch: ${response.cancel_reason}`) });
      return;
    }
    if (response.created) {
      if (revision < this.next - 1) this.#finish({ kind: 'future', revision });
      else void this.#accept();
      return;
    }
    for (const event of response.events) this.#fragments.push(toWatchEvent(event));
    if (response.fragment) return;
    const events = this.#fragments;
    this.#fragments = [];
    const last = events.at(-1);
    if (last !== undefined)
      this.#deliver({ events, revision: last.type === 'put' ? last.kv.modRevision : last.modRevision });
    // An automatic notice is sent to this watcher only when it has caught up, in order with its events.
    else if (response.watch_id === '0' && revision >= this.next) this.#deliver({ events: [], revision });
  }

  async #accept(): Promise<void> {
    try {
      if (this.#options.accept !== undefined && !(await this.#options.accept())) {
        this.#finish({ kind: 'foreign' });
        return;
      }
    } catch (error) {
      this.#finish({ kind: 'broken', error: toError(error) });
      return;
    }
    const held = this.#held ?? [];
    this.#held = undefined;
    this.isConnected = true;
    this.#options.onConnected?.();
    for (const batch of held) this.#deliver(batch);
  }

  #deliver(batch: WatchBatch): void {
    if (this.#held !== undefined) {
      this.#held.push(batch);
      return;
    }
    this.next = Math.max(this.next, batch.revision + 1);
    this.#options.onBatch(batch);
  }
}

function toWatchEvent(event: Response['events'][number]): WatchEvent {
  const modRevision = Number(event.kv.mod_revision);
  const key = event.kv.key.toString('utf8');
  if (event.type === 'Delete') return { type: 'delete', key, modRevision };
  return {
    type: 'put',
    kv: {
      key,
      value: event.kv.value,
      modRevision,
      createRevision: Number(event.kv.create_revision),
      lease: event.kv.lease,
    },
  };
}

function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new EtcdFault('unreachable', String(thrown), thrown);
}
