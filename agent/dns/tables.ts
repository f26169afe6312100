import type { ZoneEndpoint } from '../../core/dns/zone-endpoint.js';
import { Zone } from '../../core/dns/zone.js';
import { addTo, dropFrom } from '../../core/set-map.js';
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

/** Labels that are known to have changed; beyond that all have. */
const mostRevisions = 10_000;
/** Stands for all names in reverse. */
const reverseLabel = '.arpa';

/**
 * The label of a question (lower case) which every endpoint has in one of its names that the answer depends on: an
 * endpoint's name, or one that such names are below, is what the question begins with.
 */
export function labelOf(name: string): string {
  if (name.endsWith(reverseLabel)) return reverseLabel;
  return name.split('.').find((label) => !label.startsWith('_')) ?? '';
}

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
  /** Changes so far. */
  #changes = 0;
  /** The last change that may concern any answer. */
  #revision = 0;
  /** The last change of endpoints with a label in their names. */
  readonly #revisions = new Map<string, number>();
  readonly #waiting = new Set<() => void>();

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

  /** Another one after each change of what a question is answered with that has this label. */
  revisionOf(label: string): number {
    return Math.max(this.#revision, this.#revisions.get(label) ?? 0);
  }

  /** Resolves with the next change, or after so long. */
  changed(withinMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(end);
        resolve();
      };
      const timer = setTimeout(end, withinMs);
      this.#waiting.add(end);
    });
  }

  /** Reports whether something may have to be listened on now that was not, or no longer. */
  apply(change: Change): boolean {
    const isOfPlaces = this.#apply(change);
    for (const end of this.#waiting) end();
    return isOfPlaces;
  }

  #apply(change: Change): boolean {
    switch (change.do) {
      case 'begin':
        this.#touchAll();
        this.#begin(change.settings.domain);
        this.#upstreams = change.settings.upstreams;
        return false;
      case 'network':
        this.#touchAll();
        this.#named?.add(`network/${change.value.id}`);
        this.#networks.set(change.value.id, change.value);
        this.#zone.putNetwork(change.value);
        return true;
      case 'endpoint':
        this.#named?.add(`endpoint/${change.value.id}`);
        this.#touchEndpoint(change.value.id);
        this.#zone.putEndpoint(change.value);
        this.#touchEndpoint(change.value.id);
        return false;
      case 'own': {
        this.#named?.add(`own/${change.value.endpoint}`);
        const before = this.#own.get(change.value.endpoint);
        this.#putOwn(change.value);
        return change.value.inside !== null || (before !== undefined && before.inside !== null);
      }
      case 'gone':
        return this.#drop(change.kind, change.id);
      case 'down':
        this.#touchAll();
        this.#zone.setDown(new Set(change.hosts));
        return false;
      case 'end':
        this.#end();
        return true;
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

  #drop(kind: 'network' | 'endpoint' | 'own', id: string): boolean {
    if (kind === 'network') {
      this.#touchAll();
      this.#networks.delete(id);
      this.#zone.dropNetwork(id);
      return true;
    }
    if (kind === 'endpoint') {
      this.#touchEndpoint(id);
      this.#zone.dropEndpoint(id);
      return false;
    }
    const before = this.#own.get(id);
    this.#dropOwn(id);
    return before !== undefined && before.inside !== null;
  }

  #touchAll(): void {
    this.#revision = this.#changes += 1;
    this.#revisions.clear();
    this.#scopes.clear();
  }

  /** What is answered for its names is another, and so may be what its sandbox sees, where it is one of this host. */
  #touchEndpoint(id: string): void {
    const revision = (this.#changes += 1);
    for (const name of this.#zone.namesOf(id))
      for (const label of name.split('.')) this.#revisions.set(label, revision);
    this.#revisions.set(reverseLabel, revision);
    if (this.#revisions.size > mostRevisions) this.#touchAll();
    const own = this.#own.get(id);
    if (own !== undefined) this.#scopes.delete(own.sandbox ?? id);
  }

  #putOwn(own: DnsOwn): void {
    this.#dropOwn(own.endpoint);
    this.#own.set(own.endpoint, own);
    this.#scopes.delete(own.sandbox ?? own.endpoint);
    if (own.sandbox !== null) addTo(this.#bySandbox, own.sandbox, own.endpoint);
  }

  #dropOwn(id: string): void {
    const before = this.#own.get(id);
    this.#own.delete(id);
    if (before === undefined) return;
    this.#scopes.delete(before.sandbox ?? id);
    if (before.sandbox !== null) dropFrom(this.#bySandbox, before.sandbox, id);
  }
}
