/**
 * Which notifications are of our own making: of keys on their way to the kernel, and of keys acknowledged whose
 * notifications may still come.
 */
export class Echoes {
  readonly #inFlight = new Set<string>();
  readonly #acknowledged = new Set<string>();
  readonly #heard = new Set<string>();

  isInFlight(key: string): boolean {
    return this.#inFlight.has(key);
  }

  /** Reports whether a notification of a key may be of our own making, and remembers that there was one. */
  hear(key: string): boolean {
    if (!this.#inFlight.has(key) && !this.#acknowledged.has(key)) return false;
    this.#heard.add(key);
    return true;
  }

  send(key: string): void {
    this.#inFlight.add(key);
  }

  acknowledge(key: string): void {
    this.#inFlight.delete(key);
    this.#acknowledged.add(key);
  }

  /** What is told of a key from now on is somebody else's making. Reports whether our own was heard. */
  end(key: string): boolean {
    this.#inFlight.delete(key);
    this.#acknowledged.delete(key);
    return this.#heard.delete(key);
  }

  /** Forgets all; returns the keys that were on their way. */
  clear(): string[] {
    const keys = [...this.#inFlight];
    this.#inFlight.clear();
    this.#acknowledged.clear();
    this.#heard.clear();
    return keys;
  }
}
