import type { KernelFdbPort } from '../../core/kernel.js';
import { KeyedIndex } from './keyed-index.js';
import { isAsDesired, linkNameOf, type ObservedObject } from './object.js';

/** A part of what the kernel has, as it was read. */
export interface Reading {
  readonly fresh: ReadonlyMap<string, ObservedObject>;
  /** Keys that would have been read if they were still there. */
  readonly known: readonly string[];
}

/** Objects of ours that the kernel has, by key. A bridge has one entry for a MAC, whichever of its ports it is on. */
export class ObservedState {
  readonly #objects = new KeyedIndex<ObservedObject>(linkNameOf);
  /** What was spoken of while something is being read: newer than what is read. */
  #touched: Set<string> | undefined;
  /** Which port of a bridge has a MAC: when an entry moves, the kernel tells of the new port only. */
  readonly #holders = new Map<string, string>();

  /** @param onObject called for each object that is another now, or gone. */
  constructor(private readonly onObject: (key: string) => void) {}

  get map(): ReadonlyMap<string, ObservedObject> {
    return this.#objects.map;
  }

  get(key: string): ObservedObject | undefined {
    return this.#objects.get(key);
  }

  keysOn(link: string): readonly string[] {
    return this.#objects.keysOn(link);
  }

  /** Notes that a notification has spoken of something. */
  touch(what: string): void {
    this.#touched?.add(what);
  }

  put(key: string, object: ObservedObject | undefined): void {
    this.touch(key);
    const before = this.#objects.get(key);
    if (object === undefined) {
      if (before === undefined) return;
      if (before.kind === 'fdb-port') this.#release(key, before);
      this.#objects.delete(key);
    } else {
      this.#objects.set(key, object);
      if (object.kind === 'fdb-port') this.#hold(key, object);
    }
    this.onObject(key);
  }

  /** A link is gone, with all that was on it. */
  dropLink(name: string): void {
    const keys = this.#objects.keysOn(name);
    for (const key of keys) {
      const object = this.#objects.get(key);
      if (object?.kind === 'fdb-port') this.#release(key, object);
    }
    for (const key of keys) this.#objects.delete(key);
    for (const key of keys) {
      this.touch(key);
      this.onObject(key);
    }
  }

  /** The entry that a bridge has for the MAC of another of its ports' entries. */
  holderOf(object: KernelFdbPort): string | undefined {
    const place = this.#placeOf(object);
    const key = place === undefined ? undefined : this.#holders.get(place);
    return key !== undefined && this.#objects.get(key) !== undefined ? key : undefined;
  }

  /** Takes in what `read` reads, except where a notification speaks of it meanwhile. */
  async take(read: (touched: ReadonlySet<string>) => Promise<Reading>): Promise<void> {
    const touched = new Set<string>();
    this.#touched = touched;
    try {
      this.#merge(await read(touched), new Set(touched));
    } finally {
      this.#touched = undefined;
    }
  }

  #merge({ fresh, known }: Reading, newer: ReadonlySet<string>): void {
    for (const key of known) {
      if (!newer.has(key) && !fresh.has(key) && this.#objects.map.has(key)) this.put(key, undefined);
    }
    for (const [key, object] of fresh) {
      if (newer.has(key)) continue;
      const before = this.#objects.get(key);
      if (before !== undefined && isAsDesired(before, object) && before.deviation === object.deviation) continue;
      this.put(key, object);
    }
  }

  /** Where in a bridge's table an entry stands; undefined while its port is none. */
  #placeOf(object: KernelFdbPort): string | undefined {
    const port = this.#objects.get(`port ${object.link}`);
    return port?.kind === 'port' ? `${port.master} ${object.mac}` : undefined;
  }

  #release(key: string, object: KernelFdbPort): void {
    const place = this.#placeOf(object);
    if (place !== undefined && this.#holders.get(place) === key) this.#holders.delete(place);
  }

  #hold(key: string, object: KernelFdbPort): void {
    const place = this.#placeOf(object);
    if (place === undefined) return;
    const former = this.#holders.get(place);
    this.#holders.set(place, key);
    if (former !== undefined && former !== key) this.put(former, undefined);
  }
}
