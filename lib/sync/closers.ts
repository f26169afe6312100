/**
 * What is to be let go of at the end, in the reverse order of its making; or at once, where a later step of a start
 * fails.
 */
export class Closers {
  readonly #closers: (() => Promise<unknown> | void)[] = [];

  /** @param onError called for each that fails to close; the others are closed all the same. */
  constructor(private readonly onError: (error: unknown) => void) {}

  push(close: () => Promise<unknown> | void): void {
    this.#closers.push(close);
  }

  /** Closes all, the last first. What is pushed meanwhile is closed too. */
  async close(): Promise<void> {
    for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) {
      try {
        await close();
      } catch (error) {
        this.onError(error);
      }
    }
  }
}
