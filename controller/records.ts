import { parseKey } from '../core/keys.js';
import type { KeyValue } from '../lib/etcd/client.js';
import type { Logger } from '../lib/log.js';
import { decodeRecord } from './store/record.js';
import { newTables, placeOf, type Change, type Kind, type KindMap, type Stored, type Table } from './tables.js';

/** The store's records, by their keys in the store and by kind. */
export class Records {
  readonly tables = newTables();
  readonly #keys = new Set<string>();

  constructor(private readonly log: Logger) {}

  keys(): Iterable<string> {
    return this.#keys;
  }

  /** Takes in a key's value; undefined for a key that is none of ours, or a value that cannot be read, which is logged. */
  put(kv: KeyValue): Change | undefined {
    const key = parseKey(kv.key);
    const place = key === undefined ? undefined : placeOf(key);
    if (place === undefined) return undefined;
    try {
      const table = this.tables[place.kind] as Table<KindMap[Kind]>;
      const before = table.get(place.group, place.id);
      const after: Stored<KindMap[Kind]> = { value: decodeRecord<KindMap[Kind]>(kv), modRevision: kv.modRevision };
      table.set(place.group, place.id, after);
      this.#keys.add(kv.key);
      return { kind: place.kind, revision: kv.modRevision, before, after } as Change;
    } catch (error) {
      this.log.error({ err: error, key: kv.key }, 'record left out');
      return undefined;
    }
  }

  delete(text: string, revision: number): Change | undefined {
    const key = parseKey(text);
    const place = key === undefined ? undefined : placeOf(key);
    if (place === undefined) return undefined;
    const table = this.tables[place.kind] as Table<KindMap[Kind]>;
    const before = table.get(place.group, place.id);
    this.#keys.delete(text);
    if (before === undefined) return undefined;
    table.delete(place.group, place.id);
    return { kind: place.kind, revision, before, after: undefined } as Change;
  }
}
