import { journalKeys, type WrittenResolvConf } from './entries.js';
import type { JournalFile } from './journal-file.js';

/** Files of running containers that were written, with what was there before. */
export class ResolvConfRecords {
  readonly #file: JournalFile;

  constructor(file: JournalFile) {
    this.#file = file;
  }

  get size(): number {
    return this.#file.tables.resolvConfs.size;
  }

  all(): IterableIterator<WrittenResolvConf> {
    return this.#file.tables.resolvConfs.values();
  }

  get(process: Pick<WrittenResolvConf, 'pid' | 'startTime'>): WrittenResolvConf | undefined {
    return this.#file.tables.resolvConfs.get(journalKeys.resolvConf(process));
  }

  /** The first time only where there is room to put it back. Errors: ERR_DISK_FULL. */
  put(written: WrittenResolvConf): void {
    if (this.get(written) === undefined) this.#file.assertRoom();
    this.#file.writeOn([[journalKeys.resolvConf(written), written]]);
  }

  remove(written: WrittenResolvConf): void {
    if (this.get(written) !== undefined) this.#file.writeOn([[journalKeys.resolvConf(written), undefined]]);
  }
}
