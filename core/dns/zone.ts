import { containsAddr, parseAddr, parsePrefix, type Prefix } from '../addr.js';
import { isListed, type FoundEndpoint } from '../found-endpoint.js';
import type { Endpoint, Network } from '../model.js';
import { addressOfReverse, canonicalName, endpointNames, servicePorts } from './names.js';
import type { DnsRecord } from './record.js';

/** What discovery needs of a network. */
export type ZoneNetwork = Pick<Network, 'id' | 'name'> & { readonly subnets: readonly string[] };

/** What discovery needs of an endpoint. */
export type ZoneEndpoint = FoundEndpoint &
  Pick<Endpoint, 'generation' | 'ports'> & {
    /** A service's part in the zone: it goes before endpoints of its name. */
    readonly service?: {
      /** Name in the network that has the same addresses, for SRV. */
      readonly target: string;
      /** Whether the addresses are the service's own, or its backends'. */
      readonly isOwner: boolean;
    };
  };

export interface ZoneOptions {
  /** The domain below which all names are, lower case: `tsnet.internal`. */
  readonly domain: string;
  /** Seconds that an answer may be kept. */
  readonly ttl: number;
}

/** Why an answer is what it is. */
export type Reason =
  | 'found'
  | 'no record of this type'
  | 'the zone itself'
  | 'a network, no endpoint'
  | 'no such name in these networks'
  | 'every endpoint of this name is on a host that is down'
  | 'no endpoint has this address';

export interface ZoneAnswer {
  readonly exists: boolean;
  readonly reason: Reason;
  readonly answers: readonly DnsRecord[];
  readonly authority: readonly DnsRecord[];
  readonly additional: readonly DnsRecord[];
  /** Whom the answer is about. */
  readonly endpoints: readonly ZoneEndpoint[];
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

/** Seconds that the absence of a name may be kept: a name that appears is to be seen at once. */
const negativeTtl = 1;
const mostAnswers = 1000;

/**
 * The names of all networks that a host knows, as an index over records: a change costs what that endpoint has of names,
 * a lookup what it answers.
 */
export class Zone {
  readonly #options: ZoneOptions;
  readonly #networks = new Map<string, NetworkEntry>();
  readonly #endpoints = new Map<string, ZoneEndpoint>();
  readonly #byHost = new Map<string, Set<string>>();
  #down: ReadonlySet<string> = new Set();
  #serial = 1;

  constructor(options: ZoneOptions) {
    this.#options = options;
  }

  get domain(): string {
    return this.#options.domain;
  }

  endpoint(id: string): ZoneEndpoint | undefined {
    return this.#endpoints.get(id);
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
    const entry = this.#entry(endpoint.network);
    for (const name of endpointNames(endpoint)) {
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
    const ofHost = this.#byHost.get(endpoint.host);
    if (ofHost === undefined) this.#byHost.set(endpoint.host, new Set([endpoint.id]));
    else ofHost.add(endpoint.id);
  }

  dropEndpoint(id: string): void {
    const before = this.#endpoints.get(id);
    if (before === undefined) return;
    this.#touch();
    this.#endpoints.delete(id);
    this.#unindex(before);
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

  /**
   * Answers a question as one asks it who is on some networks; null where the name is not ours to answer for.
   *
   * @param name lower case, without a final dot.
   * @param scope ids of the networks whose names are seen.
   */
  resolve(name: string, type: string, scope: readonly string[]): ZoneAnswer | null {
    if (name.endsWith('.arpa')) return this.#reverse(name, type, scope);
    const { domain } = this.#options;
    const isInZone = name === domain || name.endsWith(`.${domain}`);
    const inner = !isInZone ? name : name.slice(0, Math.max(0, name.length - domain.length - 1));
    if (inner === '') return name === '' ? null : this.#apex(type);
    const service = splitService(inner);
    const found = this.#find(service?.base ?? inner, scope);
    if (found.live.length > 0) {
      const answers = this.#records(found.live, { name, type, service });
      if (service !== null && answers.answers.length === 0 && !answers.hasService)
        return this.#absent('no such name in these networks');
      const reason = answers.answers.length > 0 ? 'found' : 'no record of this type';
      const authority = answers.answers.length > 0 ? [] : [this.#soa()];
      const { answers: records, additional } = answers;
      return { exists: true, reason, answers: records, authority, additional, endpoints: found.live };
    }
    if (found.dead.length > 0) {
      const absent = this.#absent('every endpoint of this name is on a host that is down');
      return { ...absent, endpoints: found.dead };
    }
    if (found.isInner) return this.#empty('a network, no endpoint');
    if (isInZone || found.isOfNetwork || !inner.includes('.')) return this.#absent('no such name in these networks');
    return null;
  }

  /** The answer to a question that nobody is to be asked about. */
  refuse(): ZoneAnswer {
    return this.#absent('no such name in these networks');
  }

  #find(
    name: string,
    scope: readonly string[],
  ): { live: readonly ZoneEndpoint[]; dead: readonly ZoneEndpoint[]; isInner: boolean; isOfNetwork: boolean } {
    let live: readonly ZoneEndpoint[] = [];
    let dead: readonly ZoneEndpoint[] = [];
    let isInner = false;
    let isOfNetwork = false;
    const take = (network: NetworkEntry, inside: string): void => {
      const entry = network.names.get(inside);
      if (entry === undefined) {
        isInner ||= network.inner.has(inside);
        return;
      }
      const turned = this.#turn(entry);
      if (turned.length === 0) dead = dead.length === 0 ? this.#unreachable(entry) : dead;
      else live = live.length === 0 ? turned : merge(live, turned);
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
    return { live, dead, isInner, isOfNetwork };
  }

  /** Those that live, each time beginning with another one. */
  #turn(entry: NameEntry): readonly ZoneEndpoint[] {
    const live = (entry.live ??= servicesFirst(
      [...entry.endpoints.values()].filter((endpoint) => isListed(endpoint) && !this.#down.has(endpoint.host)),
    ));
    if (live.length < 2) return live;
    const start = (entry.turn = (entry.turn + 1) % live.length);
    return start === 0 ? live : [...live.slice(start), ...live.slice(0, start)];
  }

  #unreachable(entry: NameEntry): readonly ZoneEndpoint[] {
    return [...entry.endpoints.values()].filter(isListed);
  }

  #records(
    endpoints: readonly ZoneEndpoint[],
    ask: { readonly name: string; readonly type: string; readonly service: Service | null },
  ): { answers: DnsRecord[]; additional: DnsRecord[]; hasService: boolean } {
    const { name, type, service } = ask;
    const { ttl } = this.#options;
    const answers: DnsRecord[] = [];
    const additional: DnsRecord[] = [];
    let hasService = false;
    for (const endpoint of endpoints) {
      if (answers.length >= mostAnswers) break;
      if (service !== null || type === 'SRV') {
        const ports = servicePorts(endpoint).filter((port) => service === null || isService(port, service));
        hasService ||= ports.length > 0;
        if (type !== 'SRV' || ports.length === 0) continue;
        const target = `${endpoint.service?.target ?? endpoint.id}.${this.#domainOf(endpoint.network)}`;
        for (const { port } of ports) answers.push({ name, ttl, type: 'SRV', priority: 0, weight: 0, port, target });
        additional.push(...addressRecords(target, ttl, { endpoint, type: 'ANY' }));
        continue;
      }
      if (type === 'TXT') {
        for (const [key, value] of Object.entries(endpoint.labels))
          answers.push({ name, ttl, type: 'TXT', text: `${key}=${value}` });
        continue;
      }
      for (const record of addressRecords(name, ttl, { endpoint, type })) answers.push(record);
    }
    return { answers, additional, hasService };
  }

  #reverse(name: string, type: string, scope: readonly string[]): ZoneAnswer | null {
    const address = addressOfReverse(name);
    if (address === null) return null;
    for (const id of scope) {
      const endpoint = this.#networks.get(id)?.byAddress.get(address);
      if (endpoint === undefined || !isListed(endpoint) || this.#down.has(endpoint.host)) continue;
      if (type !== 'PTR' && type !== 'ANY') return this.#empty('no record of this type', [endpoint]);
      const target = `${canonicalName(endpoint)}.${this.#domainOf(endpoint.network)}`;
      const answers: DnsRecord[] = [{ name, ttl: this.#options.ttl, type: 'PTR', target }];
      return { exists: true, reason: 'found', answers, authority: [], additional: [], endpoints: [endpoint] };
    }
    const addr = parseAddr(address);
    const isOurs = scope.some((id) => this.#networks.get(id)?.prefixes.some((prefix) => containsAddr(prefix, addr)));
    return isOurs ? this.#absent('no endpoint has this address') : null;
  }

  #apex(type: string): ZoneAnswer {
    const { domain, ttl } = this.#options;
    const answers: DnsRecord[] = [];
    if (type === 'SOA' || type === 'ANY') answers.push(this.#soa());
    if (type === 'NS' || type === 'ANY') answers.push({ name: domain, ttl, type: 'NS', target: `ns.${domain}` });
    const authority = answers.length > 0 ? [] : [this.#soa()];
    return { exists: true, reason: 'the zone itself', answers, authority, additional: [], endpoints: [] };
  }

  #empty(reason: Reason, endpoints: readonly ZoneEndpoint[] = []): ZoneAnswer {
    return { exists: true, reason, answers: [], authority: [this.#soa()], additional: [], endpoints };
  }

  #absent(reason: Reason): ZoneAnswer {
    return { exists: false, reason, answers: [], authority: [this.#soa()], additional: [], endpoints: [] };
  }

  #soa(): DnsRecord {
    const { domain } = this.#options;
    return {
      name: domain,
      ttl: negativeTtl,
      type: 'SOA',
      primary: `ns.${domain}`,
      mailbox: `hostmaster.${domain}`,
      serial: this.#serial,
      refresh: 3600,
      retry: 600,
      expire: 86_400,
      minimum: negativeTtl,
    };
  }

  #domainOf(network: string): string {
    return `${this.#networks.get(network)?.name ?? network}.${this.#options.domain}`;
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
    for (const name of endpointNames(endpoint)) {
      const known = entry.names.get(name);
      if (known !== undefined) known.live = null;
    }
  }

  #unindex(endpoint: ZoneEndpoint): void {
    const entry = this.#networks.get(endpoint.network);
    if (entry === undefined) return;
    for (const name of endpointNames(endpoint)) {
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
    const ofHost = this.#byHost.get(endpoint.host);
    ofHost?.delete(endpoint.id);
    if (ofHost?.size === 0) this.#byHost.delete(endpoint.host);
    this.#forgetEmpty(entry);
  }

  #forgetEmpty(entry: NetworkEntry): void {
    if (entry.network === null && entry.names.size === 0 && entry.byAddress.size === 0) this.#networks.delete(entry.id);
  }
}

/** A record without what discovery does not need, and without anything of the sandbox. */
export function zoneEndpoint(record: Endpoint): ZoneEndpoint {
  const { id, network, host, addresses, name, aliases, labels, state, callerId, generation, ports } = record;
  const endpoint = { id, network, host, addresses, name, aliases, labels, state, callerId, generation };
  return ports === undefined ? endpoint : { ...endpoint, ports };
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

function merge(some: readonly ZoneEndpoint[], others: readonly ZoneEndpoint[]): readonly ZoneEndpoint[] {
  const ids = new Set(some.map(({ id }) => id));
  return [...some, ...others.filter(({ id }) => !ids.has(id))];
}

function addressRecords(
  name: string,
  ttl: number,
  { endpoint, type }: { readonly endpoint: ZoneEndpoint; readonly type: string },
): DnsRecord[] {
  const records: DnsRecord[] = [];
  for (const address of endpoint.addresses) {
    const own = address.includes(':') ? 'AAAA' : 'A';
    if (type === own || type === 'ANY') records.push({ name, ttl, type: own, address });
  }
  return records;
}

interface Service {
  readonly service: string;
  readonly protocol: string;
  readonly base: string;
}

const SERVICE = /^_([a-z0-9-]{1,15})\._(tcp|udp|sctp)\.(.+)$/;

/** Source: RFC 2782, "The format of the SRV RR". */
function splitService(name: string): Service | null {
  if (!name.startsWith('_')) return null;
  const match = SERVICE.exec(name);
  const [, service, protocol, base] = match ?? [];
  if (service === undefined || protocol === undefined || base === undefined) return null;
  return { service, protocol, base };
}

function isService(
  port: { readonly name: string | null; readonly port: number; readonly protocol: string },
  { service, protocol }: Service,
): boolean {
  return port.protocol === protocol && (port.name === service || String(port.port) === service);
}
