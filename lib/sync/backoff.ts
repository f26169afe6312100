/** Delays between tries: full jitter below a bound that doubles, so that a thousand clients do not return at once. */
export class Backoff {
  readonly #minMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #tries = 0;

  constructor(minMs = 100, maxMs = 5000, random: () => number = Math.random) {
    this.#minMs = minMs;
    this.#maxMs = maxMs;
    this.#random = random;
  }

  /** The next delay, ms; `maxMs` lowers the bound this time. */
  next(maxMs = this.#maxMs): number {
    const bound = Math.max(this.#minMs, Math.min(this.#maxMs, maxMs, this.#minMs * 2 ** (this.#tries + 1)));
    this.#tries = Math.min(this.#tries + 1, 30);
    return this.#minMs + this.#random() * (bound - this.#minMs);
  }

  /** Waits for the next delay, or until the signal. */
  wait(signal: AbortSignal, maxMs?: number): Promise<void> {
    return pause(this.next(maxMs), signal);
  }

  /** Starts again with short delays. */
  reset(): void {
    this.#tries = 0;
  }
}

/** Resolves after `delayMs` or when the signal aborts, whichever is first. */
export function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, delayMs);
    signal.addEventListener('abort', done, { once: true });
  });
}
