export interface DeferredDeletionsOptions {
  /** Deletes a link; deletions that coincide share their waiting. */
  readonly deleteLink: (ifindex: number) => Promise<void>;
  /** The ifindex of the link of an endpoint that is gone; undefined where that is gone, too. */
  readonly find: (endpoint: string) => Promise<number | undefined>;
}

const againMs = 2000;
/** So long they are gathered, or until there are so many. */
const gatherMs = 200;
const gatheredLinks = 64;

/**
 * Links that nobody waits for any more. Each deletion holds the kernel's lock of all links for 10 to 20 ms, several
 * together no longer, and the next attach or detach would wait for it. Most sandboxes end meanwhile, and take the link
 * with them.
 */
export class DeferredDeletions {
  readonly #options: DeferredDeletionsOptions;
  /** Those that still wait, by ifindex, each with its endpoint's id. */
  readonly #waiting = new Map<number, string>();
  readonly #running = new Map<number, Promise<void>>();
  #gathering: NodeJS.Timeout | undefined;

  constructor(options: DeferredDeletionsOptions) {
    this.#options = options;
  }

  add(ifindex: number, endpoint: string): void {
    this.#waiting.set(ifindex, endpoint);
    if (this.#waiting.size >= gatheredLinks) this.#flush();
    this.#gathering ??= setTimeout(() => this.#flush(), gatherMs);
  }

  /** Resolves when no link is left. */
  async idle(): Promise<void> {
    this.#flush();
    await Promise.all(this.#running.values());
  }

  #flush(): void {
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    for (const [ifindex, endpoint] of this.#waiting) {
      const deletion = this.#options
        .deleteLink(ifindex)
        .catch(() => void setTimeout(() => void this.#again(endpoint), againMs).unref())
        .finally(() => this.#running.delete(ifindex));
      this.#running.set(ifindex, deletion);
    }
    this.#waiting.clear();
  }

  /** Found anew: the ifindex may be another link's by now. */
  async #again(endpoint: string): Promise<void> {
    const ifindex = await this.#options.find(endpoint).catch(() => undefined);
    if (ifindex !== undefined) this.add(ifindex, endpoint);
  }
}
