import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fdatasync,
  fstatSync,
  fsync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { TsnetError } from '../core/errors.js';

export interface KeyedLogOptions<V> {
  /** Checks what a line holds; null drops the entry, which is reported as refused. Default: takes everything. */
  readonly accept?: (key: string, value: unknown) => V | null;
  /** Longest line, bytes. Default 1 MiB. */
  readonly maxLineBytes?: number;
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

const defaultMaxLineBytes = 1024 * 1024;
const defaultMinDeadLines = 1024;
/** Largest file that is read into memory. */
const maxFileBytes = 1024 * 1024 * 1024;
/** A compaction writes this much between two turns of the event loop. */
const sliceBytes = 64 * 1024;
/** `CRC32 LENGTH `: eight hexadecimal digits, a decimal length, a space each. */
const maxHeaderBytes = 8 + 1 + 10 + 1;
const newline = 0x0a;

const fdatasyncAsync = promisify(fdatasync);
const fsyncAsync = promisify(fsync);

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
    this.#append([encodeLine(key, value, this.#maxLineBytes)]);
    this.#live.set(key, value);
    this.#compactWhenDue();
  }

  /** Deletes a key; false when there was none, which writes nothing. Errors: as `put`. */
  delete(key: string): boolean {
    if (!this.#live.has(key)) return false;
    this.#append([encodeLine(key, undefined, this.#maxLineBytes)]);
    this.#live.delete(key);
    this.#compactWhenDue();
    return true;
  }

  /** Puts (or, where the value is undefined, deletes) many keys in one write, all or none. Errors: as `put`. */
  write(changes: Iterable<readonly [string, V | undefined]>): void {
    const list = [...changes].filter(([key, value]) => value !== undefined || this.#live.has(key));
    if (list.length === 0) return;
    this.#append(list.map(([key, value]) => encodeLine(key, value, this.#maxLineBytes)));
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

  get #maxLineBytes(): number {
    return this.#options.maxLineBytes ?? defaultMaxLineBytes;
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
      const line = encodeLine(key, value, this.#maxLineBytes);
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

interface LoadedLog<V> {
  readonly live: Map<string, V>;
  /** Length of the file without its torn end. */
  readonly sizeBytes: number;
  readonly lines: number;
  readonly damaged: number;
  readonly refused: readonly string[];
}

interface ParsedLine {
  readonly payload: Buffer;
  /** Offset of the byte after the payload, where the newline belongs. */
  readonly end: number;
}

function parseLog<V>(bytes: Buffer, options: KeyedLogOptions<V>): LoadedLog<V> {
  const raw = new Map<string, unknown>();
  const maxLineBytes = options.maxLineBytes ?? defaultMaxLineBytes;
  let at = 0;
  let lines = 0;
  let damaged = 0;
  while (at < bytes.length) {
    const line = parseLine(bytes, at, maxLineBytes);
    if (line !== null && line.end < bytes.length) {
      // A whole line whose newline alone is damaged: the length says where the next begins.
      if (bytes[line.end] !== newline) damaged += 1;
      if (applyPayload(raw, line.payload)) lines += 1;
      else damaged += 1;
      at = line.end + 1;
      continue;
    }
    const next = bytes.indexOf(newline, at);
    if (next < 0) break;
    damaged += 1;
    lines += 1;
    at = next + 1;
  }
  const refused: string[] = [];
  const live = new Map<string, V>();
  for (const [key, value] of raw) {
    const accepted = options.accept === undefined ? (value as V) : options.accept(key, value);
    if (accepted === null) refused.push(key);
    else live.set(key, accepted);
  }
  return { live, sizeBytes: at, lines, damaged, refused };
}

function parseLine(bytes: Buffer, at: number, maxLineBytes: number): ParsedLine | null {
  const header = /^([0-9a-f]{8}) ([1-9][0-9]{0,9}) /.exec(
    bytes.toString('latin1', at, Math.min(at + maxHeaderBytes, bytes.length)),
  );
  if (header?.[1] === undefined || header[2] === undefined) return null;
  const length = Number(header[2]);
  const from = at + header[0].length;
  if (length > maxLineBytes || from + length > bytes.length) return null;
  const payload = bytes.subarray(from, from + length);
  return crc32(payload) === Number.parseInt(header[1], 16) ? { payload, end: from + length } : null;
}

function applyPayload(live: Map<string, unknown>, payload: Buffer): boolean {
  let entry: unknown;
  try {
    entry = JSON.parse(payload.toString('utf8'));
  } catch {
    return false;
  }
  if (!Array.isArray(entry) || typeof entry[0] !== 'string') return false;
  if (entry.length === 1) live.delete(entry[0]);
  else live.set(entry[0], entry[1]);
  return true;
}

function encodeLine(key: string, value: unknown, maxLineBytes: number): Buffer {
  const payload = Buffer.from(JSON.stringify(value === undefined ? [key] : [key, value]), 'utf8');
  if (payload.length > maxLineBytes) {
    throw new TsnetError(
      'ERR_TOO_LARGE',
      `the entry ${key} is ${payload.length} bytes long, ${maxLineBytes} are allowed`,
    );
  }
  const checksum = crc32(payload).toString(16).padStart(8, '0');
  return Buffer.concat([Buffer.from(`${checksum} ${payload.length} `, 'latin1'), payload, Buffer.of(newline)]);
}

function openAppend(path: string): number {
  return attempt(path, () => {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW, 0o600);
    const { mode } = fstatSync(fd);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) {
      closeSync(fd);
      throw new TsnetError('ERR_DATA_DIR_UNWRITABLE', `${path} is no regular file`);
    }
    if ((mode & 0o077) !== 0) fchmodSync(fd, 0o600);
    return fd;
  });
}

function readWhole(fd: number, path: string): Buffer {
  const { size } = fstatSync(fd);
  if (size > maxFileBytes)
    throw new TsnetError('ERR_TOO_LARGE', `${path} is ${size} bytes long, ${maxFileBytes} are allowed`);
  const bytes = Buffer.allocUnsafe(size);
  let filled = 0;
  while (filled < size) {
    const count = readSync(fd, bytes, filled, size - filled, filled);
    if (count === 0) break;
    filled += count;
  }
  return bytes.subarray(0, filled);
}

function writeWhole(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at, bytes.length - at);
}

function copyAside(path: string, now: Date): string | null {
  const copy = `${path}.corrupt-${now.toISOString().replace(/[:.]/g, '-')}`;
  try {
    copyFileSync(path, copy, constants.COPYFILE_EXCL);
    chmodSync(copy, 0o600);
    return copy;
  } catch {
    return null;
  }
}

function countLines(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(newline); at >= 0; at = bytes.indexOf(newline, at + 1)) lines += 1;
  return lines;
}

function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It may never have been made.
  }
}

async function syncDirectory(path: string): Promise<void> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await fsyncAsync(fd);
  } finally {
    closeSync(fd);
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function attempt<T>(path: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw diskError(path, error);
  }
}

function closedError(path: string): TsnetError {
  return new TsnetError('ERR_STOPPING', `${path} is closed`);
}

function diskError(path: string, error: unknown): TsnetError {
  if (error instanceof TsnetError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const reason = error instanceof Error ? error.message : String(error);
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new TsnetError('ERR_DISK_FULL', `${path}: ${reason}`, { cause: error });
  if (['EROFS', 'EACCES', 'EPERM', 'ENOENT', 'ENOTDIR', 'ELOOP', 'EISDIR', 'EFBIG', 'EIO'].includes(code)) {
    return new TsnetError('ERR_DATA_DIR_UNWRITABLE', `${path}: ${reason}`, { cause: error });
  }
  return new TsnetError('ERR_INTERNAL', `${path}: ${reason}`, { cause: error });
}

const crcTable = newCrcTable();

function newCrcTable(): Uint32Array {
  const table = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte += 1) {
    let value = byte;
    for (let bit = 0; bit < 8; bit += 1) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ 0xedb88320;
    table[byte] = value;
  }
  return table;
}

/**
 * The CRC-32 of Ethernet and zip.
 *
 * Source: RFC 1952 §8.
 */
export function crc32(bytes: Uint8Array): number {
  let value = 0xffffffff;
  for (let at = 0; at < bytes.length; at += 1)
    value = (value >>> 8) ^ (crcTable[(value ^ (bytes[at] ?? 0)) & 0xff] ?? 0);
  return (value ^ 0xffffffff) >>> 0;
}
