import { closeSync, constants, fdatasync, ftruncateSync, openSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { TsnetError } from '../core/errors.js';
import {
  attempt,
  copyAside,
  diskError,
  openAppend,
  readWhole,
  removeQuietly,
  syncDirectory,
  writeWhole,
} from './disk-file.js';
import { countLines, encodeLine, parseLog, type LineOptions, type LoadedLog } from './keyed-log-lines.js';

export interface KeyedLogOptions<V> extends LineOptions<V> {
  /** Dead lines are tolerated up to this many before they are compared with the live ones. Default 1024. */
  readonly minDeadLines?: number;
  /** Hears of failures that no caller waits for: a compaction that could not be done. */
  readonly onFault?: (error: TsnetError) => void;
  /** Names the copy of a damaged file. Default: the time of day. */
  readonly now?: () => Date;
}

/** What opening a log came to. */
export interface KeyedLogOpening<V> {
  readonly log: KeyedLog<V>;
  /** Set when lines in the middle were unreadable: where the file as found was kept (null: it could not be copied), and how many lines were lost. */
  readonly corrupt: { readonly path: string | null; readonly lines: number } | null;
  /** Keys whose values `accept` turned down. */
  readonly refused: readonly string[];
}

const defaultMinDeadLines = 1024;
/** A compaction writes this much between two turns of the event loop. */
const sliceBytes = 64 * 1024;

const fdatasyncAsync = promisify(fdatasync);

/**
 * An append-only file of the last value of each key, kept in memory as well.
 *
 * Each line is `CRC32 LENGTH JSON`, JSON being `[key, value]` for a put and `[key]` for a delete. Writes reach the
 * kernel before the call returns, so they survive the death of the process; `sync` makes them survive a power cut.
 * A torn last line was never acknowledged and is cut; damage elsewhere costs the lines it hit and no others.
 * When dead lines outweigh the live ones, the file is rewritten beside itself and renamed over, in slices.
 */
export class KeyedLog<V> {
  readonly path: string;
  readonly #options: KeyedLogOptions<V>;
  readonly #live: Map<string, V>;
  #fd: number;
  #sizeBytes: number;
  #lines: number;
  /** The end of the file could not be cut after a failed write: nothing may follow before it is. */
  #torn = false;
  #closed = false;
  #syncRunning: Promise<void> | undefined;
  #syncNext: Promise<void> | undefined;
  #compaction: Promise<void> | undefined;
  /** Lines written since the running compaction took its snapshot. */
  #tail: Buffer[] | undefined;
  /** After a failed compaction the next waits until the file has grown by half. */
  #compactAtLines = 0;

  private constructor(path: string, fd: number, loaded: LoadedLog<V>, options: KeyedLogOptions<V>) {
    this.path = path;
    this.#options = options;
    this.#fd = fd;
    this.#live = loaded.live;
    this.#sizeBytes = loaded.sizeBytes;
    this.#lines = loaded.lines;
  }

  /**
   * Opens or creates the log at `path` (mode 0600) and reads it.
   *
   * Errors: ERR_DISK_FULL, ERR_DATA_DIR_UNWRITABLE; ERR_TOO_LARGE for a file beyond 1 GiB. Damage is no error: see KeyedLogOpening.
   */
  static open<V>(path: string, options: KeyedLogOptions<V> = {}): KeyedLogOpening<V> {
    const fd = openAppend(path);
    try {
      const bytes = readWhole(fd, path);
      const loaded = parseLog(bytes, options);
      const damaged = loaded.damaged > 0 || loaded.refused.length > 0;
      const copy = damaged ? copyAside(path, options.now?.() ?? new Date()) : null;
      if (loaded.sizeBytes < bytes.length) attempt(path, () => ftruncateSync(fd, loaded.sizeBytes));
      const log = new KeyedLog<V>(path, fd, loaded, options);
      // Without a copy the damaged lines stay where they are: each line is checked for itself, so they do no harm.
      if (copy !== null) log.compact().catch(() => undefined);
      return {
        log,
        corrupt: damaged ? { path: copy, lines: loaded.damaged + loaded.refused.length } : null,
        refused: loaded.refused,
      };
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  get size(): number {
    return this.#live.size;
  }

  get(key: string): V | undefined {
    return this.#live.get(key);
  }

  has(key: string): boolean {
    return this.#live.has(key);
  }

  /** The live entries whose key begins with `prefix`, in the order in which the keys were first put. */
  *entries(prefix = ''): IterableIterator<[string, V]> {
    for (const entry of this.#live) if (entry[0].startsWith(prefix)) yield entry;
  }

  /**
   * Puts a value. When this throws, neither the file nor memory has changed.
   *
   * Errors: ERR_DISK_FULL, ERR_DATA_DIR_UNWRITABLE, ERR_TOO_LARGE (the line).
   */
  put(key: string, value: V): void {
    this.#append([encodeLine(key, value, this.#options.maxLineBytes)]);
    this.#live.set(key, value);
    this.#compactWhenDue();
  }

  /** Deletes a key; false when there was none, which writes nothing. Errors: as `put`. */
  delete(key: string): boolean {
    if (!this.#live.has(key)) return false;
    this.#append([encodeLine(key, undefined, this.#options.maxLineBytes)]);
    this.#live.delete(key);
    this.#compactWhenDue();
    return true;
  }

  /** Puts (or, where the value is undefined, deletes) many keys in one write, all or none. Errors: as `put`. */
  write(changes: Iterable<readonly [string, V | undefined]>): void {
    const list = [...changes].filter(([key, value]) => value !== undefined || this.#live.has(key));
    if (list.length === 0) return;
    this.#append(list.map(([key, value]) => encodeLine(key, value, this.#options.maxLineBytes)));
    for (const [key, value] of list) {
      if (value === undefined) this.#live.delete(key);
      else this.#live.set(key, value);
    }
    this.#compactWhenDue();
  }

  /** Resolves when everything written before this call is on the disk; concurrent callers share one fdatasync. */
  sync(): Promise<void> {
    if (this.#closed) return Promise.reject(closedError(this.path));
    this.#syncNext ??= this.#startSync();
    return this.#syncNext;
  }

  /** Rewrites the file without dead lines. Concurrent callers share one run; entries written meanwhile are kept. */
  compact(): Promise<void> {
    if (this.#closed) return Promise.reject(closedError(this.path));
    this.#compaction ??= this.#runCompaction().finally(() => {
      this.#compaction = undefined;
      this.#tail = undefined;
    });
    return this.#compaction;
  }

  /** Waits for what is under way and closes the file. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.allSettled([this.#compaction, this.#syncNext, this.#syncRunning]);
    closeSync(this.#fd);
  }

  #append(lines: readonly Buffer[]): void {
    if (this.#closed) throw closedError(this.path);
    const block = lines.length === 1 && lines[0] !== undefined ? lines[0] : Buffer.concat(lines);
    if (this.#torn) {
      attempt(this.path, () => ftruncateSync(this.#fd, this.#sizeBytes));
      this.#torn = false;
    }
    try {
      writeWhole(this.#fd, block);
    } catch (error) {
      try {
        ftruncateSync(this.#fd, this.#sizeBytes);
      } catch {
        this.#torn = true;
      }
      throw diskError(this.path, error);
    }
    this.#sizeBytes += block.length;
    this.#lines += lines.length;
    this.#tail?.push(block);
  }

  async #startSync(): Promise<void> {
    await this.#syncRunning?.catch(() => undefined);
    this.#syncRunning = this.#syncNext;
    this.#syncNext = undefined;
    try {
      // A compaction may have put another file in place meanwhile, whose last lines are not on the disk yet.
      for (let fd = -1; fd !== this.#fd;) {
        fd = this.#fd;
        await fdatasyncAsync(fd);
      }
    } catch (error) {
      throw diskError(this.path, error);
    } finally {
      this.#syncRunning = undefined;
    }
  }

  #compactWhenDue(): void {
    const dead = this.#lines - this.#live.size;
    if (dead <= this.#live.size || dead < (this.#options.minDeadLines ?? defaultMinDeadLines)) return;
    if (this.#compaction !== undefined || this.#lines < this.#compactAtLines) return;
    this.compact().catch(() => undefined);
  }

  async #runCompaction(): Promise<void> {
    const temporary = `${this.path}.new`;
    this.#tail = [];
    const snapshot = [...this.#live];
    let fd: number | undefined;
    try {
      fd = openSync(
        temporary,
        constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND | constants.O_NOFOLLOW,
        0o600,
      );
      let sizeBytes = await this.#writeSnapshot(fd, snapshot);
      await fdatasyncAsync(fd);
      const tail = Buffer.concat(this.#tail);
      const lines = snapshot.length + countLines(tail);
      writeWhole(fd, tail);
      sizeBytes += tail.length;
      renameSync(temporary, this.path);
      this.#replaceFile(fd, sizeBytes, lines);
      fd = undefined;
      await syncDirectory(dirname(this.path));
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      removeQuietly(temporary);
      this.#compactAtLines = Math.ceil(this.#lines * 1.5);
      const fault = diskError(this.path, error);
      this.#options.onFault?.(fault);
      throw fault;
    }
  }

  async #writeSnapshot(fd: number, snapshot: readonly (readonly [string, V])[]): Promise<number> {
    let total = 0;
    let slice: Buffer[] = [];
    let sliceSize = 0;
    const flush = (): void => {
      writeWhole(fd, Buffer.concat(slice));
      total += sliceSize;
      slice = [];
      sliceSize = 0;
    };
    // The opening caller goes on first: it holds the log only after this function has returned to it.
    await nextTurn();
    for (const [key, value] of snapshot) {
      const line = encodeLine(key, value, this.#options.maxLineBytes);
      slice.push(line);
      sliceSize += line.length;
      if (sliceSize < sliceBytes) continue;
      flush();
      await nextTurn();
    }
    flush();
    return total;
  }

  #replaceFile(fd: number, sizeBytes: number, lines: number): void {
    const old = this.#fd;
    this.#fd = fd;
    this.#sizeBytes = sizeBytes;
    this.#lines = lines;
    this.#torn = false;
    this.#compactAtLines = 0;
    const running = this.#syncRunning ?? Promise.resolve();
    void running.catch(() => undefined).then(() => closeSync(old));
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function closedError(path: string): TsnetError {
  return new TsnetError('ERR_STOPPING', `${path} is closed`);
}
