import type { Logger } from '../../lib/log.js';

const maxDrifts = 8;

/** Changes that come from outside, and their repair. */
export class Drift {
  /** How often each key was changed since the last full read. */
  readonly #counts = new Map<string, number>();
  /** Keys changed, until they are repaired. */
  readonly #pending = new Set<string>();
  #repairs = 0;

  constructor(private readonly log: Logger) {}

  /** Changes undone since the start. */
  get repairs(): number {
    return this.#repairs;
  }

  /**
   * Notes that a key was changed. Reports whether it is contested: a fight with another program is not fought at full
   * speed.
   */
  note(key: string): boolean {
    this.#pending.add(key);
    const times = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, times);
    return times > maxDrifts;
  }

  /** A key is as it should be, or something else is wanted of it. Reports whether it was changed from outside. */
  forget(key: string): boolean {
    return this.#pending.delete(key);
  }

  /** Counts and logs a change undone. */
  repaired(object: string, was: 'gone' | 'changed'): void {
    this.#repairs += 1;
    this.log.info({ object, was }, 'repaired a change from outside');
  }

  /** Everything was read anew: the count begins again. */
  reset(): void {
    this.#counts.clear();
  }
}
