/** Objects by key, with the keys of each link at hand. */
export class KeyedIndex<T> {
  readonly #values = new Map<string, T>();
  readonly #byLink = new Map<string, Set<string>>();

  constructor(private readonly linkOf: (value: T) => string) {}

  get map(): ReadonlyMap<string, T> {
    return this.#values;
  }

  get(key: string): T | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: T): void {
    this.#values.set(key, value);
    const link = this.linkOf(value);
    const keys = this.#byLink.get(link);
    if (keys === undefined) this.#byLink.set(link, new Set([key]));
    else keys.add(key);
  }

  delete(key: string): void {
    const value = this.#values.get(key);
    if (value === undefined) return;
    this.#values.delete(key);
    const link = this.linkOf(value);
    const keys = this.#byLink.get(link);
    keys?.delete(key);
    if (keys?.size === 0) this.#byLink.delete(link);
  }

  /** Keys of the objects that are a link or on it. */
  keysOn(link: string): readonly string[] {
    return [...(this.#byLink.get(link) ?? [])];
  }
}
