import type { ZoneAnswer } from '../../core/dns/zone.js';
import {
  CLASS,
  FLAG,
  formatType,
  headerBytes,
  plainUdpBytes,
  RCODE,
  safeUdpBytes,
  TYPE,
} from '../../lib/dns/constants.js';
import { readQuery, type Query } from '../../lib/dns/query.js';
import { emptyAnswer, encodeAnswer, encodeRefusal } from '../../lib/dns/response.js';
import { AnswerMemory } from './answer-memory.js';
import { FairShare } from './fair-share.js';
import type { Forwarder } from './forwarder.js';
import { labelOf, type DnsTables, type Scope } from './tables.js';

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

/** A sandbox may ask before its record has got here: so long it is waited for. */
const unknownWaitMs = 100;
const mostWaiting = 256;
const bareOptBytes = 11;

/** From the bytes of a query to the bytes of its answer; what is no query gets none. */
export class Responder {
  readonly #options: ResponderOptions;
  readonly #share = new FairShare();
  readonly #memory = new AnswerMemory();
  #waiting = 0;
  #queries = 0;

  constructor(options: ResponderOptions) {
    this.#options = options;
  }

  get counters(): { readonly queries: number; readonly forwarded: number; readonly dropped: number } {
    return { queries: this.#queries, forwarded: this.#options.forwarder.forwarded, dropped: this.#share.dropped };
  }

  /**
   * At once for local names and what is cached; null for what gets no answer. The bytes may be written over afterwards,
   * and what comes at once is good until the next call. Never throws.
   */
  respond(bytes: Buffer, asker: Asker): Buffer | Promise<Buffer> | null {
    this.#queries += 1;
    const scope = asker.scope();
    if (!this.#share.take(scope?.client ?? asker.address, performance.now())) return null;
    const isUdp = asker.transport === 'udp';
    if (isUdp && scope !== null) {
      const known = this.#memory.get(bytes, scope.view, this.#options.tables);
      if (known !== null) return known;
    }
    const whole = Buffer.from(bytes);
    const received = readQuery(whole);
    if (received.kind === 'ignore') return null;
    if (received.kind === 'refuse') return encodeRefusal(received.id, received.flags, received.rcode);
    const { query } = received;
    const limit = limitOf(query, asker.transport);
    const refusal = refusalOf(query);
    if (refusal !== null) return encodeAnswer(query, emptyAnswer(refusal), limit);
    const ask: Ask = { query, limit, whole: isUdp && isPlain(query, whole) ? whole : null };
    return scope === null ? this.#await(ask, asker) : this.#answer(ask, scope);
  }

  async #await(ask: Ask, asker: Asker): Promise<Buffer> {
    let scope: Scope | null = null;
    if (this.#waiting < mostWaiting) {
      this.#waiting += 1;
      const untilMs = performance.now() + unknownWaitMs;
      for (let leftMs = unknownWaitMs; scope === null && leftMs > 0; leftMs = untilMs - performance.now()) {
        await this.#options.tables.changed(leftMs);
        scope = asker.scope();
      }
      this.#waiting -= 1;
    }
    if (scope === null) return encodeAnswer(ask.query, emptyAnswer(RCODE.REFUSED), ask.limit);
    return this.#answer({ ...ask, whole: null }, scope);
  }

  #answer({ query, limit, whole }: Ask, scope: Scope): Buffer | Promise<Buffer> {
    const { tables, forwarder, hostServers } = this.#options;
    const own = tables.zone.resolve(query.name, formatType(query.type), scope.networks);
    if (own !== null) {
      const answer = encodeOwn(query, own, limit);
      // Several take turns in being the first.
      if (whole !== null && own.endpoints.length < 2)
        this.#memory.put(whole, { view: scope.view, label: labelOf(query.name), revisions: tables }, answer);
      return answer;
    }
    if (!scope.forwards) return encodeOwn(query, tables.zone.refuse(), limit);
    if ((query.flags & FLAG.RD) === 0) return encodeAnswer(query, emptyAnswer(RCODE.REFUSED), limit);
    const servers = scope.servers.length > 0 ? scope.servers : hostServers();
    return forwarder.answer(query, { client: scope.client, servers, limitBytes: limit });
  }
}

interface Ask {
  readonly query: Query;
  readonly limit: number;
  /** The query as it came, where its answer may be remembered. */
  readonly whole: Buffer | null;
}

/** Reports whether there is nothing in a query beside its question and an OPT record without options. */
function isPlain({ question, edns }: Query, whole: Buffer): boolean {
  return whole.length === headerBytes + question.length + (edns === null ? 0 : bareOptBytes);
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
