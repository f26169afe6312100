import { TsnetError } from '../../core/errors.js';
import type { Backlog } from './backlog.js';
import type { Comparison } from './comparison.js';
import type { Superseded } from './superseded.js';

export interface VerificationParts {
  readonly backlog: Backlog;
  readonly comparison: Comparison;
  readonly superseded: Superseded;
}

const maxUnkept = 3;

/** Looks whether the kernel has kept what it acknowledged. */
export class Verification {
  readonly #parts: VerificationParts;
  /** How many times in a row a key was not as asked for right after it was acknowledged. */
  readonly #unkept = new Map<string, number>();

  constructor(parts: VerificationParts) {
    this.#parts = parts;
  }

  /** What was told of our own request last is either what was asked for, or a change from outside after it. */
  recheck(key: string): void {
    const { backlog, comparison, superseded } = this.#parts;
    if (superseded.has(key)) return;
    if (comparison.isRight(key) || backlog.failing.has(key) || backlog.blockerOf(key) !== undefined) {
      this.#unkept.delete(key);
      return;
    }
    const times = (this.#unkept.get(key) ?? 0) + 1;
    if (times <= maxUnkept) {
      this.#unkept.set(key, times);
      backlog.dirty.add(key);
      return;
    }
    this.#unkept.delete(key);
    const text = `${comparison.format(key)}: acknowledged, but not kept by the kernel`;
    backlog.fail(key, new TsnetError('ERR_KERNEL', text));
  }
}
