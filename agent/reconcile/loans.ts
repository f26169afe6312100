import type { Backlog } from './backlog.js';
import type { DesiredState } from './desired-state.js';
import type { Echoes } from './echoes.js';
import type { KernelView } from './kernel-view.js';
import type { Settling } from './settling.js';
import type { Verification } from './verification.js';

export interface LoansParts {
  readonly desired: DesiredState;
  readonly view: KernelView;
  readonly backlog: Backlog;
  readonly echoes: Echoes;
  readonly settling: Settling;
  readonly verification: Verification;
  /** There may be something to do. */
  readonly wake: () => void;
  readonly onError: (error: unknown) => void;
}

/** Desired objects that somebody else makes, at a time when they were to be made anyway. */
export class Loans {
  readonly #parts: LoansParts;

  constructor(parts: LoansParts) {
    this.#parts = parts;
  }

  /** See Reconciler.lend. */
  lend(owner: string, made: Promise<unknown>): void {
    const { desired, backlog, echoes, view } = this.#parts;
    const keys = [...desired.keysOfOwner(owner)].filter((key) => backlog.dirty.delete(key));
    for (const key of keys) echoes.send(key);
    view.gather();
    const ended = made.then(
      () => true,
      () => false,
    );
    void ended.then((isMade) => this.#takeBack(keys, isMade));
  }

  async #takeBack(keys: readonly string[], isMade: boolean): Promise<void> {
    const { desired, view, backlog, echoes, settling, verification, wake, onError } = this.#parts;
    for (const key of keys) echoes.acknowledge(key);
    settling.evaluate();
    // Nobody waits for this: the notifications may be collected.
    if (isMade) await view.barrier(false).catch(onError);
    for (const key of keys) {
      const isHeard = echoes.end(key);
      const object = desired.get(key);
      if (!isMade || object === undefined) backlog.dirty.add(key);
      else if (isHeard) verification.recheck(key);
      else view.assume(key, object);
    }
    wake();
  }
}
