import { NameIndex } from './name-index.js';
import { addressOfReverse, canonicalName, servicePorts } from './names.js';
import type { DnsRecord } from './record.js';
import type { ZoneEndpoint } from './zone-endpoint.js';

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

/** Seconds that the absence of a name may be kept: a name that appears is to be seen at once. */
const negativeTtl = 1;
const mostAnswers = 1000;

/** What is known of names, as answers to questions. */
export class Zone extends NameIndex {
  readonly #options: ZoneOptions;

  constructor(options: ZoneOptions) {
    super();
    this.#options = options;
  }

  get domain(): string {
    return this.#options.domain;
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
    const base = service?.base ?? inner.replace(UNDERSCORED, '');
    const found = this.find(service?.base ?? inner, scope);
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
    if (isInZone || found.isOfNetwork || !base.includes('.')) return this.#absent('no such name in these networks');
    return null;
  }

  /** The answer to a question that nobody is to be asked about. */
  refuse(): ZoneAnswer {
    return this.#absent('no such name in these networks');
  }

  #records(
    endpoints: readonly ZoneEndpoint[],
    ask: { readonly name: string; readonly type: string; readonly service: Service | null },
  ): { answers: DnsRecord[]; additional: DnsRecord[]; hasService: boolean } {
    const { name, type, service } = ask;
    const { ttl } = this.#options;
    const answers: DnsRecord[] = [];
    const additional: DnsRecord[] = [];
    const texts = new Set<string>();
    let hasService = false;
    for (const endpoint of endpoints) {
      if (answers.length + texts.size >= mostAnswers) break;
      if (service !== null || type === 'SRV') {
        const ports = servicePorts(endpoint).filter((port) => service === null || isService(port, service));
        hasService ||= ports.length > 0;
        if (type !== 'SRV' || ports.length === 0 || service?.service === null) continue;
        const target = `${endpoint.service?.target ?? endpoint.id}.${this.#domainOf(endpoint.network)}`;
        for (const { port } of ports) answers.push({ name, ttl, type: 'SRV', priority: 0, weight: 0, port, target });
        additional.push(...addressRecords(target, ttl, { endpoint, type: 'ANY' }));
        continue;
      }
      if (type === 'TXT') {
        for (const [key, value] of Object.entries(endpoint.labels)) texts.add(`${key}=${value}`);
        continue;
      }
      for (const record of addressRecords(name, ttl, { endpoint, type })) answers.push(record);
    }
    // Endpoints of one name have labels in common: a set of records has each once (RFC 2181 §5).
    for (const text of texts) answers.push({ name, ttl, type: 'TXT', text });
    return { answers, additional, hasService };
  }

  #reverse(name: string, type: string, scope: readonly string[]): ZoneAnswer | null {
    const address = addressOfReverse(name);
    if (address === null) return null;
    const endpoint = this.findAddress(address, scope);
    if (endpoint === undefined)
      return this.contains(address, scope) ? this.#absent('no endpoint has this address') : null;
    if (type !== 'PTR' && type !== 'ANY') return this.#empty('no record of this type', [endpoint]);
    const target = `${canonicalName(endpoint)}.${this.#domainOf(endpoint.network)}`;
    const answers: DnsRecord[] = [{ name, ttl: this.#options.ttl, type: 'PTR', target }];
    return { exists: true, reason: 'found', answers, authority: [], additional: [], endpoints: [endpoint] };
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
      serial: this.serial,
      refresh: 3600,
      retry: 600,
      expire: 86_400,
      minimum: negativeTtl,
    };
  }

  #domainOf(network: string): string {
    return `${this.networkName(network)}.${this.#options.domain}`;
  }
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
  /** Null: only the protocol is given, a name that exists because services are below it. */
  readonly service: string | null;
  readonly protocol: string;
  readonly base: string;
}

const SERVICE = /^(?:_([a-z0-9-]{1,15})\.)?_(tcp|udp|sctp)\.(.+)$/;
/** Labels as nothing has that can be reached. */
const UNDERSCORED = /^(?:_[^.]*\.)+/;

/** Source: RFC 2782, "The format of the SRV RR". */
function splitService(name: string): Service | null {
  if (!name.startsWith('_')) return null;
  const match = SERVICE.exec(name);
  const [, service = null, protocol, base] = match ?? [];
  if (protocol === undefined || base === undefined) return null;
  return { service, protocol, base };
}

function isService(
  port: { readonly name: string | null; readonly port: number; readonly protocol: string },
  { service, protocol }: Service,
): boolean {
  return port.protocol === protocol && (service === null || port.name === service || String(port.port) === service);
}
