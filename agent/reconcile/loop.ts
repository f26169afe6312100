export interface LoopParts {
  /** Reports whether a turn would find anything to do. */
  readonly hasWork: () => boolean;
  readonly turn: () => Promise<void>;
  /** Somebody woke the loop for nothing. */
  readonly onIdle: () => void;
  readonly onError: (error: unknown) => void;
}

/** Runs turns one after another: what comes while one runs, or in the same tick, is one more turn. */
export class Loop {
  readonly #parts: LoopParts;
  #last: Promise<unknown> = Promise.resolve();
  #isDue = false;
  #isClosed = false;

  constructor(parts: LoopParts) {
    this.#parts = parts;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** There may be something to do. */
  wake(): void {
    if (this.#isDue || this.#isClosed) return;
    const { hasWork, turn, onIdle, onError } = this.#parts;
    if (!hasWork()) return onIdle();
    this.#isDue = true;
    setImmediate(() => {
      void this.exclusively(async () => {
        this.#isDue = false;
        await turn();
      }).catch(onError);
    });
  }

  /** Runs something when no turn runs; once closed, not at all. */
  exclusively(work: () => Promise<void>): Promise<void> {
    const run = this.#last.then(async () => {
      if (!this.#isClosed) await work();
    });
    this.#last = run.catch(() => undefined);
    return run;
  }

  close(): void {
    this.#isClosed = true;
  }
}
