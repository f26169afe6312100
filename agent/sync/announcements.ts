/** What an announcement came to: `late` and `away` are no errors, it is published when that can be done. */
export type Announcement = 'acknowledged' | 'late' | 'away';

const waitMs = 200;

/** Those who wait until controllers know that this host carries a network. */
export class Announcements {
  readonly #waiters = new Map<string, Set<() => void>>();

  /** Resolves when the network's carrier record is acknowledged, or after 200 ms. */
  wait(network: string): Promise<Announcement> {
    return new Promise((resolve) => {
      const waiters = this.#waiters.get(network) ?? new Set();
      this.#waiters.set(network, waiters);
      const finish = (result: Announcement): void => {
        clearTimeout(timer);
        waiters.delete(acknowledged);
        if (waiters.size === 0) this.#waiters.delete(network);
        resolve(result);
      };
      const acknowledged = (): void => finish('acknowledged');
      const timer = setTimeout(() => finish('late'), waitMs);
      waiters.add(acknowledged);
    });
  }

  acknowledge(network: string): void {
    this.#waiters.get(network)?.forEach((acknowledged) => acknowledged());
  }
}
