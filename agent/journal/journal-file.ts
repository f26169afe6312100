import { toTsnetError, TsnetError } from '../../core/errors.js';
import { DiskReserve } from '../../lib/disk-reserve.js';
import type { KeyedLog } from '../../lib/keyed-log.js';
import type { JournalValue } from './entries.js';
import { JournalTables } from './tables.js';

/** Entries by their journal key; undefined removes one. */
export type JournalChanges = readonly (readonly [string, JournalValue | undefined])[];

/** Room for the ends of hundreds of endpoints, or for dozens of the largest records, on a disk that is full. */
const reserveBytes = 512 * 1024;
/** A power cut costs what was written within this time. */
const syncMs = 100;

/**
 * The journal's file and its entries in memory. On a full disk nothing is begun, but what has begun is brought to an end:
 * the room that this takes is held by a file beside the journal.
 */
export class JournalFile {
  readonly tables = new JournalTables();
  /** The highest generation of this host that was in the file as it was opened. */
  readonly highestGeneration: number;
  readonly #log: KeyedLog<JournalValue>;
  readonly #onFault: (error: TsnetError) => void;
  readonly #reserve: DiskReserve;
  #syncTimer: NodeJS.Timeout | undefined;

  constructor(log: KeyedLog<JournalValue>, onFault: (error: TsnetError) => void) {
    this.#log = log;
    this.#onFault = onFault;
    this.#reserve = new DiskReserve(`${log.path}.reserve`, reserveBytes);
    let highest = 0;
    for (const [key, value] of log.entries()) highest = Math.max(highest, this.tables.load(key, value));
    this.highestGeneration = highest;
  }

  /** Refuses to begin what could not be brought to an end. Errors: ERR_DISK_FULL. */
  assertRoom(): void {
    if (this.#reserve.take()) return;
    throw new TsnetError('ERR_DISK_FULL', `${this.#log.path}: no room is left for what would have to be written later`);
  }

  /** Writes all or nothing. File first: when that fails nothing has happened. */
  write(changes: JournalChanges): void {
    this.#log.write(changes);
    for (const [key, value] of changes) {
      if (value === undefined) this.tables.unload(key);
      else this.tables.load(key, value);
    }
    this.#syncTimer ??= this.#syncSoon();
  }

  /** Writes what follows from something begun before; on a full disk in the room that is held for that. */
  writeOn(changes: JournalChanges): void {
    for (;;) {
      try {
        this.write(changes);
        return;
      } catch (error) {
        if (toTsnetError(error).code !== 'ERR_DISK_FULL' || !this.#reserve.release()) throw error;
      }
    }
  }

  /** Resolves when all written so far would survive a power cut. */
  sync(): Promise<void> {
    return this.#log.sync();
  }

  async close(): Promise<void> {
    clearTimeout(this.#syncTimer);
    await this.#log.close();
  }

  #syncSoon(): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.#syncTimer = undefined;
      this.#log.sync().catch((error: unknown) => this.#onFault(toTsnetError(error)));
    }, syncMs);
    return timer.unref();
  }
}
