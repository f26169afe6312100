import type { WatchLine } from '../../core/api/watch.js';
import { toTsnetError, TsnetError } from '../../core/errors.js';
import type { Carrier, ClusterSettings, Cursor, Endpoint, Network, Policy, Service } from '../../core/model.js';
import { Cache, cursorKey, type CacheOptions, type CacheValue } from './cache.js';
import { LoadedNetworks } from './loaded-networks.js';
import { isRecordOf } from './record-check.js';
import { keyOf, keyOfGone, kindOfKey, Records, type StateKind, type StateRecords, type Stored } from './records.js';
import type { StateChange } from './state-change.js';
import { StreamPosition } from './stream-position.js';
import { Unconfirmed } from './unconfirmed.js';

/** An own record as the store has it; the journal decides what becomes of it. */
export interface OwnSighting {
  readonly network: string;
  /** Endpoint id; null for the carrier record. */
  readonly id: string | null;
  readonly generation: number;
}

export interface ClusterStateOptions extends CacheOptions {
  /** This host: its own carriers and endpoints are the journal's and are not kept here. */
  readonly host: string;
  /** Hears of own records that come over the stream. */
  readonly onOwn?: (sighting: OwnSighting) => void;
  /**
   * After the store was lost or restored, records that it no longer has are kept this long for their hosts to publish
   * them again. Default 10 min.
   */
  readonly graceMs?: number;
}

const defaultGraceMs = 600_000;

/**
 * What this host knows of the cluster: networks, settings, and the carriers and endpoints of others in the networks it
 * carries. Fed by the watch stream, kept in the cache file, so that it is the same after a restart.
 */
export class ClusterState {
  readonly #options: ClusterStateOptions;
  readonly #cache: Cache;
  readonly #records = new Records();
  readonly #loaded = new LoadedNetworks();
  readonly #position: StreamPosition;
  readonly #unconfirmed: Unconfirmed;
  readonly #listeners = new Set<(change: StateChange) => void>();
  readonly #downListeners = new Set<(hosts: ReadonlySet<string>) => void>();
  #downHosts: ReadonlySet<string> = new Set();
  /** Networks whose carriers and endpoints are in the running stream's full set. */
  #asked: ReadonlySet<string> = new Set();
  #wanted: ReadonlySet<string> | null = null;

  constructor(options: ClusterStateOptions) {
    this.#options = options;
    this.#cache = new Cache(options, (key) => this.#cacheValue(key));
    this.#position = new StreamPosition(() => this.#cache.touch(cursorKey));
    this.#unconfirmed = new Unconfirmed(options.graceMs ?? defaultGraceMs, (late) => {
      for (const key of late) this.#remove(key);
    });
    for (const [key, value] of this.#cache.entries()) this.#restore(key, value);
  }

  /** What was wrong with the cache file, to be logged. */
  get warnings(): readonly TsnetError[] {
    return this.#cache.warnings;
  }

  /** Where a stream can be taken up again; null: only with full sets. */
  get cursor(): Cursor | null {
    return this.#position.cursor;
  }

  get settings(): ClusterSettings | null {
    return this.#records.settings;
  }

  networks(): IterableIterator<Network> {
    return this.#records.networks();
  }

  network(id: string): Network | undefined {
    return this.#records.network(id);
  }

  /** A network by name or, where no network has that name, by id. */
  networkByRef(nameOrId: string): Network | undefined {
    return this.#records.networkByRef(nameOrId);
  }

  /** All policies of the cluster, by name. */
  get policies(): readonly Policy[] {
    return [...this.#records.policies.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The other hosts that carry a network. */
  carriersOf(network: string): readonly Carrier[] {
    return [...this.#records.group('carrier', network).values()];
  }

  carrier(network: string, host: string): Carrier | undefined {
    return this.#records.group('carrier', network).get(host);
  }

  /** The endpoints of other hosts in a network. */
  endpointsOf(network: string): IterableIterator<Endpoint> {
    return this.#records.group('endpoint', network).values();
  }

  endpoint(network: string, id: string): Endpoint | undefined {
    return this.#records.group('endpoint', network).get(id);
  }

  /** The services of a network. */
  servicesOf(network: string): IterableIterator<Service> {
    return this.#records.group('service', network).values();
  }

  service(network: string, name: string): Service | undefined {
    return this.#records.group('service', network).get(name);
  }

  /** Reports whether carriers and endpoints of a network were received as a whole once. */
  isLoaded(network: string): boolean {
    return this.#loaded.has(network);
  }

  /** Resolves when carriers, endpoints and services of a network were received as a whole, or after so long. */
  loaded(network: string, timeoutMs: number): Promise<void> {
    return this.#loaded.wait(network, timeoutMs);
  }

  /** Calls `listener` after each change; returns how to stop it. */
  onChange(listener: (change: StateChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Hosts that controllers last said are down: what is unknown meanwhile does not change it. */
  get downHosts(): ReadonlySet<string> {
    return this.#downHosts;
  }

  /** Calls `listener` when other hosts are down than before; returns how to stop it. */
  onDown(listener: (hosts: ReadonlySet<string>) => void): () => void {
    this.#downListeners.add(listener);
    return () => this.#downListeners.delete(listener);
  }

  /**
   * Applies one line of the watch stream.
   * Errors: ERR_INVALID_REQUEST for a record that is none; it is left out and the stream may go on.
   */
  apply(line: WatchLine): void {
    switch (line.type) {
      case 'hello':
        this.#position.hello(line, this.#records.size > 0);
        break;
      case 'begin':
        this.#position.begin(line.scope, line.revision);
        break;
      case 'put':
        if (line.kind !== 'block' && line.kind !== 'carve') this.#applyPut(line.kind, line.value);
        this.#position.advance(line.revision);
        break;
      case 'gone':
        this.#applyGone(line.kind, line.network, line.id);
        this.#position.advance(line.revision);
        break;
      case 'end':
        this.#applyEnd(line.scope, line.revision);
        break;
      case 'beat':
        this.#position.beat(line.revision);
        if (line.down !== undefined) this.#applyDown(line.down);
        break;
      case 'bye':
        break;
    }
  }

  /** Reports whether the stream's store is another one, or was set back, and its first full set is not through yet. */
  get isRebasing(): boolean {
    return this.#position.isRebasing;
  }

  /** Says which networks the stream that begins was asked for, and which are wanted by now (a live set): others are left out. */
  setInterest(asked: ReadonlySet<string>, wanted: ReadonlySet<string>): void {
    this.#asked = asked;
    this.#wanted = wanted;
  }

  /** Policies that the store does not have although it should. */
  unconfirmedPolicies(): Policy[] {
    return this.policies.filter(({ name }) => this.#unconfirmed.has(`policy/${name}`));
  }

  /** Services that the store does not have although it should. */
  unconfirmedServices(): Service[] {
    return this.#unconfirmed.ofKind('service').flatMap((key) => {
      const record = this.#records.get(key);
      return record === undefined ? [] : [record as Service];
    });
  }

  unconfirmedService(network: string, name: string): Service | undefined {
    return this.#unconfirmed.has(`service/${network}/${name}`) ? this.service(network, name) : undefined;
  }

  /** Networks that the store does not have although it should: it was lost or restored. */
  *unconfirmedNetworks(): IterableIterator<Network> {
    for (const key of this.#unconfirmed.ofKind('network')) {
      const network = this.network(key.slice('network/'.length));
      if (network !== undefined) yield network;
    }
  }

  /** Ends a set that the stream did not finish: nothing counts as gone. */
  abandonSet(): void {
    this.#position.abandonSet();
  }

  /** Drops carriers and endpoints of a network that this host no longer carries. */
  forget(network: string): void {
    for (const key of [...this.#records.keysIn(network)]) this.#remove(key);
    if (this.#loaded.delete(network)) this.#cache.touch(`loaded/${network}`);
  }

  /** Writes what is due to the cache file. */
  flush(): Promise<void> {
    return this.#cache.flush();
  }

  async close(): Promise<void> {
    this.#unconfirmed.close();
    await this.#cache.close();
  }

  #applyDown(hosts: readonly string[]): void {
    if (hosts.length === this.#downHosts.size && hosts.every((host) => this.#downHosts.has(host))) return;
    this.#downHosts = new Set(hosts);
    for (const listener of this.#downListeners) listener(this.#downHosts);
  }

  #applyPut<K extends StateKind>(kind: K, value: StateRecords[K]): void {
    if (!isRecordOf(kind, value))
      throw new TsnetError('ERR_INVALID_REQUEST', `the stream has a ${kind} that is none: ${shown(value)}`);
    const key = keyOf(kind, value);
    const { set, isRebasing, isAuthority } = this.#position;
    set?.named.add(key);
    const wasLost = this.#unconfirmed.delete(key);
    const isOfHost = kind === 'carrier' || kind === 'endpoint';
    if (isOfHost && 'host' in value && value.host === this.#options.host) {
      this.#options.onOwn?.({
        network: value.network,
        id: kind === 'endpoint' && 'id' in value ? value.id : null,
        generation: value.generation,
      });
      return;
    }
    const isOfNetwork = isOfHost || kind === 'service';
    if (isOfNetwork && 'network' in value && this.#wanted?.has(value.network) === false) return;
    const known = this.#records.get(key);
    if (known === undefined) return this.#put(kind, key, value);
    // What controllers decide is as the store has it, also where it was set back or lost it for a while, and counts its
    // generations anew: no host's journal knows better.
    if ((wasLost || (isRebasing && set !== undefined)) && !isOfHost) {
      if (JSON.stringify(known) !== JSON.stringify(value)) this.#put(kind, key, value);
      return;
    }
    if (known.generation === value.generation) return;
    if (known.generation > value.generation && !isAuthority) return;
    this.#put(kind, key, value);
  }

  #applyGone(kind: string, network: string, id: string): void {
    const key = keyOfGone(kind, network, id);
    this.#position.set?.named.delete(key);
    this.#remove(key);
  }

  #applyEnd(scope: string, revision: number): void {
    const set = this.#position.end(scope);
    if (set === undefined) return;
    const missing = [...this.#records.keysIn(scope)].filter((key) => !set.named.has(key));
    if (this.#position.isRebasing) this.#unconfirmed.keep(missing);
    else for (const key of missing) this.#remove(key);
    for (const network of scope === '*' ? this.#asked : [scope]) this.#markLoaded(network);
    if (scope === '*') this.#position.fullSetEnded(revision);
  }

  #markLoaded(network: string): void {
    if (this.#wanted?.has(network) === false) return;
    if (this.#loaded.add(network)) this.#cache.touch(`loaded/${network}`);
  }

  #put(kind: StateKind, key: string, value: Stored): void {
    const previous = this.#records.put(key, value);
    this.#cache.touch(key);
    this.#tell({ op: 'put', kind, key, value, previous } as StateChange);
  }

  #remove(key: string): void {
    const previous = this.#records.delete(key);
    if (previous === undefined) return;
    this.#unconfirmed.delete(key);
    const kind = kindOfKey(key);
    this.#cache.touch(key);
    this.#tell({ op: 'gone', kind, key, value: null, previous } as StateChange);
    if (kind === 'network') this.forget((previous as Network).id);
  }

  #restore(key: string, value: CacheValue): void {
    if (key.startsWith('loaded/')) {
      this.#loaded.add(key.slice('loaded/'.length));
    } else if (key === cursorKey) {
      this.#position.restore(value as Cursor);
    } else {
      const record = value as Stored;
      if ('host' in record && record.host === this.#options.host) return;
      this.#records.put(key, record);
    }
  }

  #cacheValue(key: string): CacheValue | undefined {
    if (key === cursorKey) return this.#position.cursor ?? undefined;
    if (key.startsWith('loaded/')) return this.#loaded.has(key.slice('loaded/'.length)) ? { loaded: true } : undefined;
    return this.#records.get(key);
  }

  #tell(change: StateChange): void {
    for (const listener of this.#listeners) {
      try {
        listener(change);
      } catch (error) {
        // The others, and the rest of a set, must come through.
        this.#options.onFault?.(toTsnetError(error));
      }
    }
  }
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? 'undefined').slice(0, 200);
}
