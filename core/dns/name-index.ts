import { containsAddr, parseAddr, parsePrefix, type Prefix } from '../addr.js';
import { isListed } from '../found-endpoint.js';
import { addTo, dropFrom } from '../set-map.js';
import { endpointNames } from './names.js';
import type { ZoneEndpoint, ZoneNetwork } from './zone-endpoint.js';

/** What is known of a name on some networks. */
export interface FoundName {
  /** Those to answer with. */
  readonly live: readonly ZoneEndpoint[];
  /** Those on hosts that are down, where nobody lives. */
  readonly dead: readonly ZoneEndpoint[];
  /** Whether the name is there without an endpoint: of a network, or one that others are below. */
  readonly isInner: boolean;
  /** Whether the name is below that of a network. */
  readonly isOfNetwork: boolean;
}

interface NameEntry {
  readonly endpoints: Map<string, ZoneEndpoint>;
  /** Those to answer with; null after a change. */
  live: readonly ZoneEndpoint[] | null;
  turn: number;
}

interface NetworkEntry {
  readonly id: string;
  /** Null while only endpoints are known. */
  network: ZoneNetwork | null;
  /** Lower case. */
  name: string;
  prefixes: readonly Prefix[];
  readonly names: Map<string, NameEntry>;
  /** Names that only others are below, with how many: they exist without records (RFC 8020). */
  readonly inner: Map<string, number>;
  readonly byAddress: Map<string, ZoneEndpoint>;
}

/**
 * The names and addresses of all networks that a host knows, as an index over records: a change costs what that endpoint
 * has of names, a lookup what it finds.
 */
export class NameIndex {
  readonly #networks = new Map<string, NetworkEntry>();
  readonly #endpoints = new Map<string, ZoneEndpoint>();
  readonly #names = new Map<string, readonly string[]>();
  readonly #byHost = new Map<string, Set<string>>();
  #down: ReadonlySet<string> = new Set();
  #serial = 1;
  /** Answers so far that more than one network has a part in. */
  #turns = 0;

  /** Another one after each change; 32 bits. */
  get serial(): number {
    return this.#serial;
  }

  endpoint(id: string): ZoneEndpoint | undefined {
    return this.#endpoints.get(id);
  }

  /** All names of an endpoint in its network, lower case. */
  namesOf(id: string): readonly string[] {
    return this.#names.get(id) ?? [];
  }

  endpoints(): IterableIterator<ZoneEndpoint> {
    return this.#endpoints.values();
  }

  networks(): ZoneNetwork[] {
    return [...this.#networks.values()].flatMap(({ network }) => network ?? []);
  }

  /** The endpoint that has an address in a network. */
  atAddress(network: string, address: string): ZoneEndpoint | undefined {
    return this.#networks.get(network)?.byAddress.get(address);
  }

  putNetwork(network: ZoneNetwork): void {
    this.#touch();
    const entry = this.#entry(network.id);
    entry.network = network;
    entry.name = network.name.toLowerCase();
    entry.prefixes = network.subnets.map((subnet) => parsePrefix(subnet));
  }

  dropNetwork(id: string): void {
    const entry = this.#networks.get(id);
    if (entry === undefined) return;
    this.#touch();
    entry.network = null;
    entry.prefixes = [];
    this.#forgetEmpty(entry);
  }

  putEndpoint(endpoint: ZoneEndpoint): void {
    const before = this.#endpoints.get(endpoint.id);
    if (before !== undefined) this.#unindex(before);
    this.#touch();
    this.#endpoints.set(endpoint.id, endpoint);
    const names = endpointNames(endpoint);
    this.#names.set(endpoint.id, names);
    const entry = this.#entry(endpoint.network);
    for (const name of names) {
      const known = entry.names.get(name);
      if (known === undefined) {
        entry.names.set(name, { endpoints: new Map([[endpoint.id, endpoint]]), live: null, turn: 0 });
        for (const parent of parentsOf(name)) entry.inner.set(parent, (entry.inner.get(parent) ?? 0) + 1);
      } else {
        known.endpoints.set(endpoint.id, endpoint);
        known.live = null;
      }
    }
    if (endpoint.service?.isOwner !== false)
      for (const address of endpoint.addresses) entry.byAddress.set(address, endpoint);
    addTo(this.#byHost, endpoint.host, endpoint.id);
  }

  dropEndpoint(id: string): void {
    const before = this.#endpoints.get(id);
    if (before === undefined) return;
    this.#touch();
    this.#endpoints.delete(id);
    this.#unindex(before);
    this.#names.delete(id);
  }

  /** Says which hosts are down for sure: what is there is left out of answers until they are back. */
  setDown(hosts: ReadonlySet<string>): void {
    const changed = [...hosts, ...this.#down].filter((host) => hosts.has(host) !== this.#down.has(host));
    this.#down = hosts;
    for (const host of new Set(changed)) {
      this.#touch();
      for (const id of this.#byHost.get(host) ?? []) this.#invalidate(id);
    }
  }

  isDown(host: string): boolean {
    return this.#down.has(host);
  }

  /** Who has a name on some networks: alone, or followed by the network's own. */
  find(name: string, scope: readonly string[]): FoundName {
    let live: readonly ZoneEndpoint[] = [];
    let dead: readonly ZoneEndpoint[] = [];
    let isInner = false;
    let isOfNetwork = false;
    let isOfSeveral = false;
    const take = (network: NetworkEntry, inside: string): void => {
      const entry = network.names.get(inside);
      if (entry === undefined) {
        isInner ||= network.inner.has(inside);
        return;
      }
      const turned = this.#turn(entry);
      if (turned.length === 0) dead = dead.length === 0 ? [...entry.endpoints.values()].filter(isListed) : dead;
      else {
        isOfSeveral = live.length > 0;
        live = isOfSeveral ? merge(live, turned) : turned;
      }
    };
    for (const id of scope) {
      const network = this.#networks.get(id);
      if (network === undefined || network.network === null) continue;
      take(network, name);
      if (name === network.name) {
        isInner = true;
      } else if (name.length > network.name.length + 1 && name.endsWith(`.${network.name}`)) {
        isOfNetwork = true;
        take(network, name.slice(0, -network.name.length - 1));
      }
    }
    // Those of one network have taken turns already, but the networks have not.
    if (isOfSeveral) live = beginningAt(live, (this.#turns += 1) % live.length);
    return { live, dead, isInner, isOfNetwork };
  }

  /** The first endpoint to answer with that has an address on some networks. */
  findAddress(address: string, scope: readonly string[]): ZoneEndpoint | undefined {
    for (const id of scope) {
      const endpoint = this.#networks.get(id)?.byAddress.get(address);
      if (endpoint !== undefined && isListed(endpoint) && !this.#down.has(endpoint.host)) return endpoint;
    }
    return undefined;
  }

  /** Reports whether an address lies in one of some networks. */
  contains(address: string, scope: readonly string[]): boolean {
    const addr = parseAddr(address);
    return scope.some((id) => this.#networks.get(id)?.prefixes.some((prefix) => containsAddr(prefix, addr)) === true);
  }

  /** The name of a network; its id while only endpoints of it are known. */
  networkName(id: string): string {
    return this.#networks.get(id)?.name ?? id;
  }

  /** Those that live, each time beginning with another one. */
  #turn(entry: NameEntry): readonly ZoneEndpoint[] {
    const live = (entry.live ??= servicesFirst(
      [...entry.endpoints.values()].filter((endpoint) => isListed(endpoint) && !this.#down.has(endpoint.host)),
    ));
    if (live.length < 2) return live;
    const start = (entry.turn = (entry.turn + 1) % live.length);
    return beginningAt(live, start);
  }

  #touch(): void {
    this.#serial = (this.#serial + 1) >>> 0;
  }

  #entry(id: string): NetworkEntry {
    const known = this.#networks.get(id);
    if (known !== undefined) return known;
    const made: NetworkEntry = {
      id,
      network: null,
      name: id,
      prefixes: [],
      names: new Map(),
      inner: new Map(),
      byAddress: new Map(),
    };
    this.#networks.set(id, made);
    return made;
  }

  #invalidate(id: string): void {
    const endpoint = this.#endpoints.get(id);
    const entry = endpoint === undefined ? undefined : this.#networks.get(endpoint.network);
    if (endpoint === undefined || entry === undefined) return;
    for (const name of this.namesOf(id)) {
      const known = entry.names.get(name);
      if (known !== undefined) known.live = null;
    }
  }

  #unindex(endpoint: ZoneEndpoint): void {
    const entry = this.#networks.get(endpoint.network);
    if (entry === undefined) return;
    for (const name of this.namesOf(endpoint.id)) {
      const known = entry.names.get(name);
      if (known === undefined) continue;
      known.endpoints.delete(endpoint.id);
      known.live = null;
      if (known.endpoints.size > 0) continue;
      entry.names.delete(name);
      for (const parent of parentsOf(name)) {
        const left = (entry.inner.get(parent) ?? 1) - 1;
        if (left === 0) entry.inner.delete(parent);
        else entry.inner.set(parent, left);
      }
    }
    // Its successor at the address may be known already.
    for (const address of endpoint.addresses)
      if (entry.byAddress.get(address)?.id === endpoint.id) entry.byAddress.delete(address);
    dropFrom(this.#byHost, endpoint.host, endpoint.id);
    this.#forgetEmpty(entry);
  }

  #forgetEmpty(entry: NetworkEntry): void {
    if (entry.network === null && entry.names.size === 0 && entry.byAddress.size === 0) this.#networks.delete(entry.id);
  }
}

/** Where a service has a name, endpoints of that name are not answered. */
function servicesFirst(endpoints: readonly ZoneEndpoint[]): readonly ZoneEndpoint[] {
  const services = endpoints.filter(({ service }) => service !== undefined);
  return services.length > 0 ? services : endpoints;
}

function parentsOf(name: string): string[] {
  const parents: string[] = [];
  for (let at = name.indexOf('.'); at >= 0; at = name.indexOf('.', at + 1)) parents.push(name.slice(at + 1));
  return parents;
}

function beginningAt(endpoints: readonly ZoneEndpoint[], start: number): readonly ZoneEndpoint[] {
  return start === 0 ? endpoints : [...endpoints.slice(start), ...endpoints.slice(0, start)];
}

function merge(some: readonly ZoneEndpoint[], others: readonly ZoneEndpoint[]): readonly ZoneEndpoint[] {
  const ids = new Set(some.map(({ id }) => id));
  return [...some, ...others.filter(({ id }) => !ids.has(id))];
}
