import type {
  Block,
  Carrier,
  Carve,
  ClusterSettings,
  Endpoint,
  Host,
  Network,
  Policy,
  RecordBase,
  Service,
} from '../core/model.js';
import type { Key } from '../core/keys.js';
import type { CarveReply } from './store/carves.js';
import type { ControllerPlaces } from './store/controllers.js';
import type { Liveness } from './store/hosts.js';

/** A record with the revision that it was last changed at. */
export interface Stored<T> {
  readonly value: T;
  readonly modRevision: number;
  /** Its line of the watch stream, made when first needed and shared by everybody who hears it. */
  line?: Buffer;
}

export interface KindMap {
  readonly network: Network;
  readonly host: Host;
  readonly liveness: Liveness;
  readonly block: Block;
  readonly carrier: Carrier;
  readonly endpoint: Endpoint;
  readonly carve: Carve;
  readonly settings: ClusterSettings;
  readonly policy: Policy;
  readonly service: Service;
  readonly token: RecordBase;
  readonly controller: ControllerPlaces;
  readonly 'carve-answer': CarveReply;
}

export type Kind = keyof KindMap;

/** A change of one record: put when `after` is there, gone when not. */
export type Change = { [K in Kind]: ChangeOf<K> }[Kind];

interface ChangeOf<K extends Kind> {
  readonly kind: K;
  readonly revision: number;
  readonly before: Stored<KindMap[K]> | undefined;
  readonly after: Stored<KindMap[K]> | undefined;
  /** The line that says so, made when first needed. */
  line?: Buffer;
}

/** Records of one kind by group (a network, an owner, or '') and id within it. */
export class Table<T> {
  readonly #groups = new Map<string, Map<string, Stored<T>>>();

  get(group: string, id: string): Stored<T> | undefined {
    return this.#groups.get(group)?.get(id);
  }

  /** The records of one group. */
  group(group: string): ReadonlyMap<string, Stored<T>> {
    return this.#groups.get(group) ?? new Map<string, Stored<T>>();
  }

  groups(): Iterable<string> {
    return this.#groups.keys();
  }

  *all(): Generator<Stored<T>> {
    for (const group of this.#groups.values()) yield* group.values();
  }

  get size(): number {
    let size = 0;
    for (const group of this.#groups.values()) size += group.size;
    return size;
  }

  set(group: string, id: string, stored: Stored<T>): void {
    const held = this.#groups.get(group);
    if (held === undefined) this.#groups.set(group, new Map([[id, stored]]));
    else held.set(id, stored);
  }

  delete(group: string, id: string): void {
    const held = this.#groups.get(group);
    held?.delete(id);
    if (held?.size === 0) this.#groups.delete(group);
  }
}

export type Tables = { readonly [K in Kind]: Table<KindMap[K]> };

export function newTables(): Tables {
  return {
    network: new Table<Network>(),
    host: new Table<Host>(),
    liveness: new Table<Liveness>(),
    block: new Table<Block>(),
    carrier: new Table<Carrier>(),
    endpoint: new Table<Endpoint>(),
    carve: new Table<Carve>(),
    settings: new Table<ClusterSettings>(),
    policy: new Table<Policy>(),
    service: new Table<Service>(),
    token: new Table<RecordBase>(),
    controller: new Table<ControllerPlaces>(),
    'carve-answer': new Table<CarveReply>(),
  };
}

/** Where a key's record stands; undefined for keys that are not mirrored (indexes and guards). */
export function placeOf(key: Key): { readonly kind: Kind; readonly group: string; readonly id: string } | undefined {
  switch (key.kind) {
    case 'network':
    case 'controller':
      return { kind: key.kind, group: '', id: key.id };
    case 'host':
    case 'liveness':
      return { kind: key.kind, group: '', id: key.host };
    case 'settings':
      return { kind: 'settings', group: '', id: '' };
    case 'policy':
      return { kind: 'policy', group: '', id: key.name };
    case 'service':
      return { kind: 'service', group: key.network, id: key.name };
    case 'block':
      return { kind: 'block', group: key.network, id: key.cidr };
    case 'carrier':
      return { kind: 'carrier', group: key.network, id: key.host };
    case 'endpoint':
      return { kind: 'endpoint', group: key.network, id: key.id };
    case 'carve':
    case 'carve-answer':
      return { kind: key.kind, group: key.owner, id: key.id };
    case 'token':
      return { kind: 'token', group: key.role, id: key.hash };
    default:
      return undefined;
  }
}
