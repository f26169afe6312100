import type { ZoneEndpoint } from '../../core/dns/zone-endpoint.js';
import { Zone } from '../../core/dns/zone.js';
import type { DnsNetwork, DnsOwn, ToServer } from './protocol.js';

/** What one sandbox sees and may ask. */
export interface Scope {
  /** Names the sandbox, for limits. */
  readonly client: string;
  /** Network ids. */
  readonly networks: readonly string[];
  /** The same for all who see the same networks. */
  readonly view: string;
  /** Whether what is not ours is forwarded: not where all networks are internal. */
  readonly forwards: boolean;
  /** The networks' own upstreams; empty: the host's. */
  readonly servers: readonly string[];
}

/** Seconds that an answer may be kept. */
const answerTtl = 2;

type Change = Exclude<ToServer, { readonly do: 'ask' | 'replace' | 'stop' }>;

/** All that the agent has said: kept while it is away. */
export class DnsTables {
  #zone: Zone;
  readonly #networks = new Map<string, DnsNetwork>();
  readonly #own = new Map<string, DnsOwn>();
  readonly #bySandbox = new Map<string, Set<string>>();
  readonly #scopes = new Map<string, Scope>();
  #upstreams: readonly string[] = [];
  /** What a full set has named so far. */
  #named: Set<string> | null = null;
  #hasAll = false;
  #revision = 0;

  constructor(domain: string) {
    this.#zone = new Zone({ domain, ttl: answerTtl });
  }

  get zone(): Zone {
    return this.#zone;
  }

  /** Whether a whole set has come once. */
  get hasAll(): boolean {
    return this.#hasAll;
  }

  get upstreams(): readonly string[] {
    return this.#upstreams;
  }

  networks(): Iterable<DnsNetwork> {
    return this.#networks.values();
  }

  own(): Iterable<DnsOwn> {
    return this.#own.values();
  }

  /** Another one after each change. */
  get revision(): number {
    return this.#revision;
  }

  apply(change: Change): void {
    this.#revision += 1;
    this.#scopes.clear();
    switch (change.do) {
      case 'begin':
        this.#begin(change.settings.domain);
        this.#upstreams = change.settings.upstreams;
        break;
      case 'network':
        this.#named?.add(`network/${change.value.id}`);
        this.#networks.set(change.value.id, change.value);
        this.#zone.putNetwork(change.value);
        break;
      case 'endpoint':
        this.#named?.add(`endpoint/${change.value.id}`);
        this.#zone.putEndpoint(change.value);
        break;
      case 'own':
        this.#named?.add(`own/${change.value.endpoint}`);
        this.#putOwn(change.value);
        break;
      case 'gone':
        this.#drop(change.kind, change.id);
        break;
      case 'down':
        this.#zone.setDown(new Set(change.hosts));
        break;
      case 'end':
        this.#end();
        break;
    }
  }

  /** What whoever has an address in a network sees; null for addresses that no sandbox of this host has. */
  scopeAt(network: string, address: string): Scope | null {
    const endpoint = this.#zone.atAddress(network, address);
    return endpoint === undefined ? null : this.scopeOf(endpoint.id);
  }

  /** What a sandbox of this host sees, by its cookie. */
  scopeOfSandbox(sandbox: string): Scope | null {
    const [endpoint] = this.#bySandbox.get(sandbox) ?? [];
    return endpoint === undefined ? null : this.scopeOf(endpoint);
  }

  /** What the sandbox of an endpoint of this host sees. */
  scopeOf(endpoint: string): Scope | null {
    const own = this.#own.get(endpoint);
    if (own === undefined) return null;
    const key = own.sandbox ?? endpoint;
    const known = this.#scopes.get(key);
    if (known !== undefined) return known;
    const endpoints = own.sandbox === null ? [endpoint] : [...(this.#bySandbox.get(own.sandbox) ?? [])];
    const scope = this.#newScope(key, endpoints);
    this.#scopes.set(key, scope);
    return scope;
  }

  #newScope(client: string, endpoints: readonly string[]): Scope {
    const ids = endpoints.flatMap((id) => this.#zone.endpoint(id)?.network ?? []);
    const networks = [...new Set(ids)].sort();
    const known = networks.flatMap((id) => this.#networks.get(id) ?? []);
    return {
      client,
      networks,
      view: networks.join(' '),
      forwards: known.some(({ internal }) => !internal),
      servers: known.find(({ internal, servers }) => !internal && servers.length > 0)?.servers ?? [],
    };
  }

  #begin(domain: string): void {
    this.#named = new Set();
    if (domain === this.#zone.domain) return;
    const before = this.#zone;
    this.#zone = new Zone({ domain, ttl: answerTtl });
    for (const network of before.networks()) this.#zone.putNetwork(network);
    for (const endpoint of before.endpoints()) this.#zone.putEndpoint(endpoint);
  }

  #end(): void {
    const named = this.#named;
    this.#named = null;
    if (named === null) return;
    this.#hasAll = true;
    const endpoints = [...this.#zone.endpoints()].map((endpoint: ZoneEndpoint) => endpoint.id);
    for (const id of endpoints) if (!named.has(`endpoint/${id}`)) this.#drop('endpoint', id);
    for (const id of [...this.#own.keys()]) if (!named.has(`own/${id}`)) this.#drop('own', id);
    for (const id of [...this.#networks.keys()]) if (!named.has(`network/${id}`)) this.#drop('network', id);
  }

  #drop(kind: 'network' | 'endpoint' | 'own', id: string): void {
    if (kind === 'network') {
      this.#networks.delete(id);
      this.#zone.dropNetwork(id);
    } else if (kind === 'endpoint') {
      this.#zone.dropEndpoint(id);
    } else {
      this.#dropOwn(id);
    }
  }

  #putOwn(own: DnsOwn): void {
    this.#dropOwn(own.endpoint);
    this.#own.set(own.endpoint, own);
    if (own.sandbox === null) return;
    const members = this.#bySandbox.get(own.sandbox);
    if (members === undefined) this.#bySandbox.set(own.sandbox, new Set([own.endpoint]));
    else members.add(own.endpoint);
  }

  #dropOwn(id: string): void {
    const before = this.#own.get(id);
    this.#own.delete(id);
    if (before === undefined || before.sandbox === null) return;
    const members = this.#bySandbox.get(before.sandbox);
    members?.delete(id);
    if (members?.size === 0) this.#bySandbox.delete(before.sandbox);
  }
}
