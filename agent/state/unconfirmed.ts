/** Keys of records that are kept for a while although the store does not have them (any more): it was lost or restored. */
export class Unconfirmed {
  readonly #graceMs: number;
  /** Called with the keys that nobody has confirmed in time. */
  readonly #onLate: (keys: ReadonlySet<string>) => void;
  #keys = new Set<string>();
  #timer: NodeJS.Timeout | undefined;

  constructor(graceMs: number, onLate: (keys: ReadonlySet<string>) => void) {
    this.#graceMs = graceMs;
    this.#onLate = onLate;
  }

  has(key: string): boolean {
    return this.#keys.has(key);
  }

  /** Those of one kind of record. */
  ofKind(kind: string): string[] {
    return [...this.#keys].filter((key) => key.startsWith(`${kind}/`));
  }

  keep(keys: readonly string[]): void {
    for (const key of keys) this.#keys.add(key);
    if (this.#keys.size === 0 || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const late = this.#keys;
      this.#keys = new Set();
      this.#onLate(late);
    }, this.#graceMs);
    this.#timer.unref();
  }

  /** Returns whether the key was one of them. */
  delete(key: string): boolean {
    return this.#keys.delete(key);
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}
