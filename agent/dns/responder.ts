import type { ZoneAnswer } from '../../core/dns/zone.js';
import { CLASS, FLAG, formatType, plainUdpBytes, RCODE, safeUdpBytes, TYPE } from '../../lib/dns/constants.js';
import { readQuery, type Query } from '../../lib/dns/query.js';
import { emptyAnswer, encodeAnswer, encodeRefusal } from '../../lib/dns/response.js';
import { FairShare } from './fair-share.js';
import type { Forwarder } from './forwarder.js';
import type { DnsTables, Scope } from './tables.js';

/** Where a query came in. */
export interface Asker {
  /** For limits while it is not known who it is. */
  readonly address: string;
  /** Who asks, looked up anew each time; null: not known (yet). */
  readonly scope: () => Scope | null;
  readonly transport: 'udp' | 'tcp';
}

export interface ResponderOptions {
  readonly tables: DnsTables;
  readonly forwarder: Forwarder;
  readonly hostServers: () => readonly string[];
}

/** A sandbox may ask before its record has got here: it is looked up again after this long. */
const unknownWaitMs = 100;
const mostWaiting = 256;

/** From the bytes of a query to the bytes of its answer; what is no query gets none. */
export class Responder {
  readonly #options: ResponderOptions;
  readonly #share = new FairShare();
  #waiting = 0;
  #queries = 0;

  constructor(options: ResponderOptions) {
    this.#options = options;
  }

  get counters(): { readonly queries: number; readonly forwarded: number; readonly dropped: number } {
    return { queries: this.#queries, forwarded: this.#options.forwarder.forwarded, dropped: this.#share.dropped };
  }

  /** At once for local names and what is cached; null for what gets no answer. Never throws. */
  respond(bytes: Buffer, asker: Asker): Buffer | Promise<Buffer> | null {
    this.#queries += 1;
    if (!this.#share.take(asker.address, performance.now())) return null;
    const received = readQuery(bytes);
    if (received.kind === 'ignore') return null;
    if (received.kind === 'refuse') return encodeRefusal(received.id, received.flags, received.rcode);
    const { query } = received;
    const limit = limitOf(query, asker.transport);
    const refusal = refusalOf(query);
    if (refusal !== null) return encodeAnswer(query, emptyAnswer(refusal), limit);
    const scope = asker.scope();
    if (scope !== null) return this.#answer(query, scope, limit);
    return this.#await(query, asker, limit);
  }

  async #await(query: Query, asker: Asker, limit: number): Promise<Buffer> {
    if (this.#waiting < mostWaiting) {
      this.#waiting += 1;
      await new Promise((resolve) => setTimeout(resolve, unknownWaitMs));
      this.#waiting -= 1;
    }
    const scope = asker.scope();
    return scope === null ? encodeAnswer(query, emptyAnswer(RCODE.REFUSED), limit) : this.#answer(query, scope, limit);
  }

  #answer(query: Query, scope: Scope, limit: number): Buffer | Promise<Buffer> {
    const { tables, forwarder, hostServers } = this.#options;
    const own = tables.zone.resolve(query.name, formatType(query.type), scope.networks);
    if (own !== null) return encodeOwn(query, own, limit);
    if (!scope.forwards) return encodeOwn(query, tables.zone.refuse(), limit);
    if ((query.flags & FLAG.RD) === 0) return encodeAnswer(query, emptyAnswer(RCODE.REFUSED), limit);
    const servers = scope.servers.length > 0 ? scope.servers : hostServers();
    return forwarder.answer(query, { client: scope.client, servers, limitBytes: limit });
  }
}

function encodeOwn(query: Query, answer: ZoneAnswer, limit: number): Buffer {
  const rcode = answer.exists ? RCODE.NOERROR : RCODE.NXDOMAIN;
  // Field by field: a spread costs a quarter of the whole answer.
  const { answers, authority, additional } = answer;
  return encodeAnswer(query, { rcode, authoritative: true, answers, authority, additional }, limit);
}

function refusalOf(query: Query): number | null {
  if (query.edns !== null && query.edns.version > 0) return RCODE.BADVERS;
  if (query.class !== CLASS.IN) return RCODE.REFUSED;
  return query.type === TYPE.AXFR || query.type === TYPE.IXFR || query.type === TYPE.OPT ? RCODE.REFUSED : null;
}

function limitOf(query: Query, transport: 'udp' | 'tcp'): number {
  if (transport === 'tcp') return 65_535;
  return query.edns === null ? plainUdpBytes : Math.min(query.edns.udpBytes, safeUdpBytes);
}
