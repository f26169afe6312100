import { TsnetError } from '../../core/errors.js';
import type { Backlog } from './backlog.js';
import type { DesiredState } from './desired-state.js';

export interface SettlingParts {
  readonly desired: DesiredState;
  readonly backlog: Backlog;
  readonly isInFlight: (key: string) => boolean;
  /** An object as the command that would make it. */
  readonly formatKey: (key: string) => string;
}

interface Waiter {
  readonly owner: string;
  resolve(): void;
  reject(error: unknown): void;
}

/** Who waits until the kernel has what an owner wants, and no longer has what the owner has stopped wanting. */
export class Settling {
  readonly #parts: SettlingParts;
  readonly #waiters = new Set<Waiter>();
  /** Keys that an owner has just stopped asking for, until they are gone. */
  readonly #dropped = new Map<string, Set<string>>();

  constructor(parts: SettlingParts) {
    this.#parts = parts;
  }

  get isAwaited(): boolean {
    return this.#waiters.size > 0;
  }

  /** Takes note of what an owner has stopped asking for; what it asks for again is not waited for to go. */
  noteDropped(owner: string, dropped: Iterable<string>): void {
    const { desired } = this.#parts;
    const recent = [...(this.#dropped.get(owner) ?? []), ...dropped].filter((key) => !desired.isWantedBy(owner, key));
    if (recent.length === 0) this.#dropped.delete(owner);
    else this.#dropped.set(owner, new Set(recent));
  }

  /** See Reconciler.settled. */
  settled(owner: string, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
      };
      const waiter: Waiter = {
        owner,
        resolve: () => {
          finish();
          resolve();
        },
        reject: (error) => {
          finish();
          reject(error instanceof Error ? error : new Error(String(error)));
        },
      };
      const timer = setTimeout(() => waiter.reject(this.#deadline(owner, timeoutMs)), timeoutMs);
      this.#waiters.add(waiter);
      this.#evaluate(waiter);
    });
  }

  /** Something has been done: whoever waits for just that waits no longer. */
  evaluate(): void {
    for (const waiter of [...this.#waiters]) this.#evaluate(waiter);
    for (const [owner, keys] of this.#dropped) {
      const isGone = [...keys].every((key) => !this.#isPending(key) && !this.#parts.backlog.failing.has(key));
      if (isGone) this.#dropped.delete(owner);
    }
  }

  rejectAll(error: TsnetError): void {
    for (const waiter of [...this.#waiters]) waiter.reject(error);
  }

  *#keysOf(owner: string): Iterable<string> {
    yield* this.#parts.desired.keysOfOwner(owner);
    yield* this.#dropped.get(owner) ?? [];
  }

  #evaluate(waiter: Waiter): void {
    let pending = false;
    for (const key of this.#keysOf(waiter.owner)) {
      const failure = this.#parts.backlog.failureOf(key);
      if (failure !== undefined) return waiter.reject(failure);
      if (this.#isPending(key)) pending = true;
    }
    if (pending) return;
    this.#dropped.delete(waiter.owner);
    waiter.resolve();
  }

  #isPending(key: string): boolean {
    const { backlog, isInFlight } = this.#parts;
    return backlog.dirty.has(key) || isInFlight(key) || backlog.blockerOf(key) !== undefined;
  }

  #deadline(owner: string, timeoutMs: number): TsnetError {
    const details = { owner, timeoutMs };
    for (const key of this.#keysOf(owner)) {
      if (!this.#isPending(key)) continue;
      const link = this.#parts.backlog.blockerOf(key);
      const why = link === undefined ? '' : `: waits for link ${link}`;
      const what = this.#parts.formatKey(key);
      return new TsnetError('ERR_DEADLINE', `not there after ${timeoutMs} ms: ${what}${why}`, { details });
    }
    return new TsnetError('ERR_DEADLINE', `not settled after ${timeoutMs} ms`, { details });
  }
}
