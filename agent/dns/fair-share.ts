const windowMs = 100;
/** With others asking as well, so many queries per window are shared out; alone, a client has all. */
const sharedPerWindow = 2000;
const leastPerWindow = 100;

/** Lets one client have all while it is alone, and its share only while there are others: its flood costs itself. */
export class FairShare {
  #window = 0;
  #counts = new Map<string, number>();
  #limit = Infinity;
  #dropped = 0;

  get dropped(): number {
    return this.#dropped;
  }

  /** Counts a query; false: to be dropped. */
  take(client: string, nowMs: number): boolean {
    const window = Math.floor(nowMs / windowMs);
    if (window !== this.#window) {
      // Who asked in the window before counts as being there.
      const clients = window === this.#window + 1 ? this.#counts.size : 0;
      this.#window = window;
      this.#limit = clients > 1 ? Math.max(leastPerWindow, sharedPerWindow / clients) : Infinity;
      this.#counts = new Map();
    }
    const count = (this.#counts.get(client) ?? 0) + 1;
    this.#counts.set(client, count);
    if (count <= this.#limit) return true;
    this.#dropped += 1;
    return false;
  }
}
