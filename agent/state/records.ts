import type { Carrier, ClusterSettings, Endpoint, Network, Policy, Service } from '../../core/model.js';

/** What is known of the cluster, by kind. */
export interface StateRecords {
  readonly network: Network;
  readonly carrier: Carrier;
  readonly endpoint: Endpoint;
  readonly settings: ClusterSettings;
  readonly policy: Policy;
  readonly service: Service;
}

export type StateKind = keyof StateRecords;

export type Stored = StateRecords[StateKind];

/** Kinds that a host hears of for the networks that it carries. */
const ofNetwork = ['carrier', 'endpoint', 'service'] as const;
type OfNetwork = (typeof ofNetwork)[number];

const settingsKey = 'settings';

/** The key of a record: `settings`, `network/ID`, `policy/NAME`, or `KIND/NETWORK/ID` with a host, an endpoint or a service for ID. */
export function keyOf(kind: StateKind, value: Stored): string {
  if (kind === 'settings') return settingsKey;
  if (kind === 'network') return `network/${(value as Network).id}`;
  if (kind === 'policy') return `policy/${(value as Policy).name}`;
  if (kind === 'service') return `service/${(value as Service).network}/${(value as Service).name}`;
  if (kind === 'carrier') return `carrier/${(value as Carrier).network}/${(value as Carrier).host}`;
  return `endpoint/${(value as Endpoint).network}/${(value as Endpoint).id}`;
}

/** The key of a record that the stream says is gone. */
export function keyOfGone(kind: string, network: string, id: string): string {
  if (kind === 'settings') return settingsKey;
  return kind === 'network' || kind === 'policy' ? `${kind}/${id}` : `${kind}/${network}/${id}`;
}

export function kindOfKey(key: string): StateKind {
  return key.split('/', 1)[0] as StateKind;
}

/** Records that are looked up together, and the name of one among them: `KIND/NETWORK` and the id, or `policy` and its name. */
function placeOf(key: string): { readonly group: string; readonly id: string } | null {
  const isShort = key.startsWith('policy/');
  const at = isShort ? key.indexOf('/') : key.indexOf('/', key.indexOf('/') + 1);
  return at < 0 ? null : { group: key.slice(0, at), id: key.slice(at + 1) };
}

/** Records by key, and by what they are looked up by: networks by name, the records of a network by kind. */
export class Records {
  readonly #byKey = new Map<string, Stored>();
  readonly #networkIds = new Map<string, string>();
  readonly #groups = new Map<string, Map<string, Stored>>();

  get size(): number {
    return this.#byKey.size;
  }

  get(key: string): Stored | undefined {
    return this.#byKey.get(key);
  }

  /** Keys of everything but the settings, with scope `*`, or of what belongs to one network. */
  *keysIn(scope: string): IterableIterator<string> {
    if (scope !== '*') {
      for (const kind of ofNetwork)
        for (const id of this.#groups.get(`${kind}/${scope}`)?.keys() ?? []) yield `${kind}/${scope}/${id}`;
      return;
    }
    for (const key of this.#byKey.keys()) if (key !== settingsKey) yield key;
  }

  get settings(): ClusterSettings | null {
    return (this.#byKey.get(settingsKey) as ClusterSettings | undefined) ?? null;
  }

  *networks(): IterableIterator<Network> {
    for (const id of this.#networkIds.values()) {
      const network = this.network(id);
      if (network !== undefined) yield network;
    }
  }

  network(id: string): Network | undefined {
    return this.#byKey.get(`network/${id}`) as Network | undefined;
  }

  /** A network by name or, where no network has that name, by id. */
  networkByRef(nameOrId: string): Network | undefined {
    return this.network(this.#networkIds.get(nameOrId) ?? nameOrId);
  }

  /** By name. */
  get policies(): ReadonlyMap<string, Policy> {
    return (this.#groups.get('policy') ?? new Map()) as ReadonlyMap<string, Policy>;
  }

  /** The records of a network, by id. */
  group<K extends OfNetwork>(kind: K, network: string): ReadonlyMap<string, StateRecords[K]> {
    return (this.#groups.get(`${kind}/${network}`) ?? new Map()) as ReadonlyMap<string, StateRecords[K]>;
  }

  /** Puts a record; returns the one that it replaces. */
  put(key: string, value: Stored): Stored | null {
    const previous = this.#byKey.get(key) ?? null;
    this.#byKey.set(key, value);
    if (kindOfKey(key) === 'network') {
      this.#forgetName(previous as Network | null);
      this.#networkIds.set((value as Network).name, (value as Network).id);
    }
    const place = placeOf(key);
    if (place !== null) {
      const group = this.#groups.get(place.group);
      if (group === undefined) this.#groups.set(place.group, new Map([[place.id, value]]));
      else group.set(place.id, value);
    }
    return previous;
  }

  /** Removes a record; returns it. */
  delete(key: string): Stored | undefined {
    const previous = this.#byKey.get(key);
    if (previous === undefined) return undefined;
    this.#byKey.delete(key);
    if (kindOfKey(key) === 'network') this.#forgetName(previous as Network);
    const place = placeOf(key);
    if (place !== null) {
      const group = this.#groups.get(place.group);
      group?.delete(place.id);
      if (group?.size === 0) this.#groups.delete(place.group);
    }
    return previous;
  }

  /** A name may be another network's by now. */
  #forgetName(network: Network | null): void {
    if (network !== null && this.#networkIds.get(network.name) === network.id) this.#networkIds.delete(network.name);
  }
}
