import { randomBytes } from 'node:crypto';
import { formatId } from '../../core/ids.js';
import { journalKeys, type JournalMeta, type RestoredEntries } from './entries.js';
import type { JournalChanges, JournalFile } from './journal-file.js';

/** Generations are promised to the file this many at a time. */
const generationStep = 1024;

/** Who this host's data directory is to the cluster: its instance, the store that it spoke with, the generations it gave. */
export class Identity {
  readonly #file: JournalFile;
  #meta: JournalMeta;
  #generation: number;

  constructor(file: JournalFile, isDamaged: boolean) {
    this.#file = file;
    const { meta } = file.tables;
    this.#meta = meta ?? newMeta();
    if (isDamaged && this.#meta.incomplete === undefined) this.#meta = { ...this.#meta, incomplete: 'damaged' };
    if (this.#meta !== meta) file.write([[journalKeys.meta, this.#meta]]);
    this.#generation = Math.max(file.highestGeneration, this.#meta.generationLimit);
  }

  get instance(): string {
    return this.#meta.instance;
  }

  get isIncomplete(): boolean {
    return this.#meta.incomplete !== undefined;
  }

  get epoch(): string | null {
    return this.#meta.epoch;
  }

  setEpoch(epoch: string): void {
    const meta = { ...this.#meta, epoch };
    this.#file.write([[journalKeys.meta, meta]]);
    this.#meta = meta;
  }

  nextGeneration(): number {
    const next = this.#generation + 1;
    if (next > this.#meta.generationLimit) {
      const meta = { ...this.#meta, generationLimit: next + generationStep };
      this.#file.writeOn([[journalKeys.meta, meta]]);
      this.#meta = meta;
    }
    this.#generation = next;
    return next;
  }

  observeGeneration(generation: number): void {
    this.#generation = Math.max(this.#generation, generation);
  }

  /** Nothing is missing any more: writes that together with what was found. */
  complete(found: Pick<RestoredEntries, 'instance' | 'generation'>, changes: JournalChanges): void {
    const { incomplete, ...known } = this.#meta;
    const instance = incomplete === 'new' ? (found.instance ?? known.instance) : known.instance;
    const meta = { ...known, instance, generationLimit: Math.max(known.generationLimit, found.generation) };
    this.#file.write([[journalKeys.meta, meta], ...changes]);
    this.#meta = meta;
    this.observeGeneration(found.generation);
  }
}

function newMeta(): JournalMeta {
  return { instance: formatId('instance', randomBytes(16)), epoch: null, generationLimit: 0, incomplete: 'new' };
}
