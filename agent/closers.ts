import type { Logger } from '../lib/log.js';

/** What is to be let go of at the end, in the reverse order of its making. */
export class Closers {
  readonly #closers: (() => Promise<unknown> | void)[] = [];

  constructor(private readonly log: Logger) {}

  push(close: () => Promise<unknown> | void): void {
    this.#closers.push(close);
  }

  /** Closes all, also where one fails. */
  async close(): Promise<void> {
    for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) {
      try {
        await close();
      } catch (error) {
        this.log.error({ error: String(error) }, 'while stopping');
      }
    }
  }
}
