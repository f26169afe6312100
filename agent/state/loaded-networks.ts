/** The networks whose carriers, endpoints and services were received as a whole once. */
export class LoadedNetworks {
  readonly #loaded = new Set<string>();
  readonly #listeners = new Set<() => void>();

  has(network: string): boolean {
    return this.#loaded.has(network);
  }

  /** Returns whether it is new. */
  add(network: string): boolean {
    if (this.#loaded.has(network)) return false;
    this.#loaded.add(network);
    for (const listener of this.#listeners) listener();
    return true;
  }

  /** Returns whether it was there. */
  delete(network: string): boolean {
    return this.#loaded.delete(network);
  }

  /** Resolves when a network is loaded, or after so long. */
  wait(network: string, timeoutMs: number): Promise<void> {
    if (this.#loaded.has(network)) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#listeners.delete(look);
        resolve();
      };
      const look = (): void => {
        if (this.#loaded.has(network)) end();
      };
      const timer = setTimeout(end, timeoutMs);
      this.#listeners.add(look);
    });
  }
}
