import type { KernelObject } from '../../core/kernel.js';
import { KeyedIndex } from './keyed-index.js';
import { isSameDesired, keyOf, linkNameOf, withImplied, type ReconcileObject } from './object.js';

/** What the owners ask for, together. */
export class DesiredState {
  readonly #owners = new Map<string, ReadonlyMap<string, ReconcileObject>>();
  /** Per key who wants what; the last to say so wins. */
  readonly #wishes = new Map<string, Map<string, ReconcileObject>>();
  readonly #objects = new KeyedIndex<ReconcileObject>(linkNameOf);
  readonly #disputed = new Set<string>();

  constructor(private readonly onDispute: (object: ReconcileObject, owners: readonly string[]) => void) {}

  get map(): ReadonlyMap<string, ReconcileObject> {
    return this.#objects.map;
  }

  get(key: string): ReconcileObject | undefined {
    return this.#objects.get(key);
  }

  keysOn(link: string): readonly string[] {
    return this.#objects.keysOn(link);
  }

  keysOfOwner(owner: string): Iterable<string> {
    return this.#owners.get(owner)?.keys() ?? [];
  }

  isWantedBy(owner: string, key: string): boolean {
    return this.#owners.get(owner)?.has(key) ?? false;
  }

  /**
   * Replaces what one owner asks for.
   *
   * Cost: proportional to the owner's objects, not to all.
   *
   * @returns the keys whose object is another now, and those that the owner no longer asks for.
   */
  replace(owner: string, objects: readonly KernelObject[]): { changed: Set<string>; dropped: Set<string> } {
    const before = this.#owners.get(owner) ?? new Map<string, ReconcileObject>();
    const after = new Map<string, ReconcileObject>();
    for (const object of objects.flatMap(withImplied)) after.set(keyOf(object), object);
    if (after.size === 0) this.#owners.delete(owner);
    else this.#owners.set(owner, after);

    const changed = new Set<string>();
    const dropped = new Set<string>();
    for (const key of before.keys()) {
      if (after.has(key)) continue;
      dropped.add(key);
      if (this.#withdraw(owner, key)) changed.add(key);
    }
    for (const [key, object] of after) {
      const old = before.get(key);
      if (old !== undefined && isSameDesired(old, object)) continue;
      if (this.#wish(owner, key, object)) changed.add(key);
    }
    return { changed, dropped };
  }

  #wish(owner: string, key: string, object: ReconcileObject): boolean {
    const wishes = this.#wishes.get(key);
    if (wishes === undefined) {
      this.#wishes.set(key, new Map([[owner, object]]));
      return this.#decide(key, object);
    }
    wishes.delete(owner);
    const others = [...wishes].filter(([, wish]) => !isSameDesired(wish, object)).map(([other]) => other);
    if (others.length > 0 && !this.#disputed.has(key)) {
      this.#disputed.add(key);
      this.onDispute(object, [...others, owner]);
    }
    wishes.set(owner, object);
    return this.#decide(key, object);
  }

  #withdraw(owner: string, key: string): boolean {
    const wishes = this.#wishes.get(key);
    if (wishes === undefined) return false;
    wishes.delete(owner);
    const left = [...wishes.values()].at(-1);
    if (left !== undefined) return this.#decide(key, left);
    this.#wishes.delete(key);
    this.#disputed.delete(key);
    this.#objects.delete(key);
    return true;
  }

  #decide(key: string, object: ReconcileObject): boolean {
    const current = this.#objects.get(key);
    if (current !== undefined && isSameDesired(current, object)) return false;
    this.#objects.delete(key);
    this.#objects.set(key, object);
    return true;
  }
}
