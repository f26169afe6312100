import type { DnsPlace } from './protocol.js';

const settleMs = 500;

/** Where the name server says that it listens, and those who wait for that. */
export class ListenedPlaces {
  readonly #waiters = new Set<() => void>();
  #places: readonly DnsPlace[] | null = null;
  #failed: readonly string[] = [];

  get all(): readonly DnsPlace[] {
    return this.#places ?? [];
  }

  /** Why it does not listen somewhere. */
  get failed(): readonly string[] {
    return this.#failed;
  }

  /** Whether it has said anything. */
  get isKnown(): boolean {
    return this.#places !== null;
  }

  isListened(address: string): boolean {
    return this.all.some((place) => place.address === address);
  }

  set(places: readonly DnsPlace[], failed: readonly string[]): void {
    this.#places = places;
    this.#failed = failed;
    this.look();
  }

  /** Lets those who wait look again. */
  look(): void {
    for (const look of this.#waiters) look();
  }

  /** Resolves when a condition holds, or after a while: nobody fails for names. */
  until(isDone: () => boolean): Promise<void> {
    if (isDone()) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(look);
        resolve();
      };
      const look = (): void => {
        if (isDone()) end();
      };
      const timer = setTimeout(end, settleMs);
      this.#waiters.add(look);
    });
  }
}
