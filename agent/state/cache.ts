import { join } from 'node:path';
import type { TsnetError } from '../../core/errors.js';
import type { Carrier, ClusterSettings, Cursor, Endpoint, Network, Policy, Service } from '../../core/model.js';
import type { KeyedLog } from '../../lib/keyed-log.js';
import { openLog } from '../journal/open-log.js';
import { isRecordOf } from './record-check.js';

/** That the carriers and endpoints of a network were received as a whole once: a stream may go on from the cursor. */
export interface LoadedMark {
  readonly loaded: true;
}

export type CacheValue = Network | Carrier | Endpoint | ClusterSettings | Policy | Service | Cursor | LoadedMark;

export interface CacheOptions {
  readonly dataDir: string;
  /** Between two writes, ms. */
  readonly intervalMs?: number;
  readonly onFault?: (error: TsnetError) => void;
}

/** What the cache is asked for when it writes: the value of a key now, undefined when it is gone. */
export type CacheReader = (key: string) => CacheValue | undefined;

/** Entries written between two turns of the event loop. */
const sliceEntries = 200;
const defaultIntervalMs = 250;
/** After a failed write. */
const retryMs = 5000;

export const cursorKey = 'cursor';

/** DATA-DIR/cache: the records of others that this host needs to rebuild itself alone. Written at a bounded rate. */
export class Cache {
  readonly warnings: readonly TsnetError[];
  readonly #log: KeyedLog<CacheValue>;
  readonly #options: CacheOptions;
  readonly #read: CacheReader;
  #dirty = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> | undefined;

  constructor(options: CacheOptions, read: CacheReader) {
    const opening = openLog<CacheValue>(join(options.dataDir, 'cache'), acceptCacheEntry, options.onFault);
    this.#log = opening.log;
    this.warnings = opening.warnings;
    this.#options = options;
    this.#read = read;
  }

  entries(): IterableIterator<[string, CacheValue]> {
    return this.#log.entries();
  }

  /** Has a key written soon. */
  touch(key: string): void {
    this.#dirty.add(key);
    this.#timer ??= this.#schedule(this.#options.intervalMs ?? defaultIntervalMs);
  }

  /** Writes what is due. The cursor comes last: it never runs ahead of the records it stands for. */
  flush(): Promise<void> {
    this.#flushing ??= this.#writeDirty().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#flushing;
    await this.flush().catch(() => undefined);
    clearTimeout(this.#timer);
    await this.#log.close();
  }

  #schedule(delayMs: number): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.#timer = undefined;
      this.flush().catch((error: TsnetError) => {
        this.#options.onFault?.(error);
        this.#timer ??= this.#schedule(retryMs);
      });
    }, delayMs);
    timer.unref();
    return timer;
  }

  async #writeDirty(): Promise<void> {
    const keys = this.#dirty;
    this.#dirty = new Set();
    const cursor = keys.delete(cursorKey) ? this.#read(cursorKey) : undefined;
    const list = [...keys];
    for (let at = 0; at < list.length; at += sliceEntries) {
      const slice = list.slice(at, at + sliceEntries);
      try {
        this.#log.write(slice.map((key) => [key, this.#read(key)]));
      } catch (error) {
        for (const key of list.slice(at)) this.#dirty.add(key);
        if (cursor !== undefined) this.#dirty.add(cursorKey);
        throw error;
      }
      if (at + sliceEntries < list.length) await new Promise((resolve) => setImmediate(resolve));
    }
    if (cursor !== undefined) this.#log.put(cursorKey, cursor);
  }
}

function acceptCacheEntry(key: string, value: unknown): CacheValue | null {
  const kind = key.split('/', 1)[0] ?? '';
  if (kind === 'loaded') return { loaded: true };
  return isRecordOf(kind, value) ? (value as CacheValue) : null;
}
