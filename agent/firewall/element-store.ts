import type { NftElement } from '../../lib/nft/table.js';

const elementKey = ({ set, key }: NftElement): string => `${set} ${key}`;

interface Wanted {
  element: NftElement;
  /** Whose element it is: the last that wanted it. Mostly the only one: hence no set for it. */
  owner: string;
  others: Set<string> | null;
}

/** What owners want in the sets, and how it differs from what was applied. An element that several want is there once. */
export class ElementStore {
  readonly #wanted = new Map<string, Wanted>();
  readonly #byOwner = new Map<string, ReadonlyMap<string, NftElement>>();
  readonly #applied = new Map<string, NftElement>();
  readonly #dirty = new Set<string>();

  get isDirty(): boolean {
    return this.#dirty.size > 0;
  }

  /** Replaces what one owner wants; of different values for one key the last wins. Reports whether anything is to do. */
  replace(owner: string, elements: readonly NftElement[]): boolean {
    const now = new Map<string, NftElement>();
    for (const element of elements) now.set(elementKey(element), element);
    const before = this.#byOwner.get(owner);
    if (before !== undefined) for (const key of before.keys()) if (!now.has(key)) this.#drop(owner, key);
    for (const [key, element] of now) {
      const old = before?.get(key);
      if (old === undefined || old.value !== element.value) this.#want(owner, key, element);
    }
    if (now.size === 0) this.#byOwner.delete(owner);
    else this.#byOwner.set(owner, now);
    return this.isDirty;
  }

  /** The changes since the last time, taken as applied. A changed value is a removal and an addition. */
  takeChanges(): { readonly gone: NftElement[]; readonly come: NftElement[] } {
    const gone: NftElement[] = [];
    const come: NftElement[] = [];
    for (const key of this.#dirty) {
      const wanted = this.#wanted.get(key)?.element;
      const applied = this.#applied.get(key);
      if (applied !== undefined && wanted?.value === applied.value && wanted !== undefined) continue;
      if (applied !== undefined) gone.push(applied);
      if (wanted === undefined) this.#applied.delete(key);
      else {
        come.push(wanted);
        this.#applied.set(key, wanted);
      }
    }
    this.#dirty.clear();
    return { gone, come };
  }

  /** Everything wanted, taken as applied. */
  takeAll(): NftElement[] {
    this.#dirty.clear();
    this.#applied.clear();
    for (const [key, { element }] of this.#wanted) this.#applied.set(key, element);
    return [...this.#applied.values()];
  }

  /** How many are applied: in one set, or in all. Cost: that of going through all. */
  countApplied(set?: string): number {
    if (set === undefined) return this.#applied.size;
    let count = 0;
    for (const element of this.#applied.values()) if (element.set === set) count += 1;
    return count;
  }

  forgetApplied(): void {
    this.#applied.clear();
    this.#dirty.clear();
  }

  #want(owner: string, key: string, element: NftElement): void {
    const wanted = this.#wanted.get(key);
    if (wanted === undefined) this.#wanted.set(key, { element, owner, others: null });
    else {
      if (wanted.owner !== owner) {
        wanted.others ??= new Set();
        wanted.others.delete(owner);
        wanted.others.add(wanted.owner);
      }
      wanted.owner = owner;
      wanted.element = element;
    }
    this.#dirty.add(key);
  }

  #drop(owner: string, key: string): void {
    const wanted = this.#wanted.get(key);
    if (wanted === undefined) return;
    wanted.others?.delete(owner);
    if (wanted.owner !== owner) return;
    const next = [...(wanted.others ?? [])].at(-1);
    const element = next === undefined ? undefined : this.#byOwner.get(next)?.get(key);
    if (next === undefined || element === undefined) this.#wanted.delete(key);
    else {
      wanted.others?.delete(next);
      wanted.owner = next;
      wanted.element = element;
    }
    this.#dirty.add(key);
  }
}
