import { randomInt } from 'node:crypto';
import { DO_BIT, FLAG, headerBytes, largestMessageBytes, RCODE, safeUdpBytes, TYPE } from '../../lib/dns/constants.js';
import { DnsError } from '../../lib/dns/error.js';
import { readName } from '../../lib/dns/name.js';
import { encodeQuery, type Query } from '../../lib/dns/query.js';
import { emptyAnswer, encodeAnswer, encodeTruncated } from '../../lib/dns/response.js';
import { AnswerCache, readUpstreamAnswer, type UpstreamAnswer } from './answer-cache.js';
import { askTcp, askUdp } from './exchange.js';

export interface ForwarderOptions {
  /** Addresses of ours: what would come back to us is not asked. */
  readonly isOurs: (address: string) => boolean;
  readonly nowMs?: () => number;
  readonly tryMs?: number;
  readonly deadlineMs?: number;
}

/** Who asks, and whom to ask for it. */
export interface ForwardRequest {
  readonly client: string;
  readonly servers: readonly string[];
  readonly limitBytes: number;
}

const perClient = 100;
const inAll = 1000;
/** A server that did not answer is asked last for this long. */
const shunMs = 5000;

/** Asks upstreams: cached within TTL, one question for all who ask it at the same time, several servers in turn. */
export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #cache = new AnswerCache();
  readonly #pending = new Map<string, Promise<UpstreamAnswer | null>>();
  readonly #clients = new Map<string, number>();
  readonly #shunned = new Map<string, number>();
  #asking = 0;
  #forwarded = 0;

  constructor(options: ForwarderOptions) {
    this.#options = options;
  }

  get forwarded(): number {
    return this.#forwarded;
  }

  clear(): void {
    this.#cache.clear();
    this.#shunned.clear();
  }

  /** The answer to pass on; SERVFAIL where nobody gives one. Never rejects. */
  answer(query: Query, request: ForwardRequest): Buffer | Promise<Buffer> {
    const key = keyOf(query, request.servers);
    const cached = this.#cache.get(key, this.#nowMs());
    if (cached !== null) return passOn(query, cached.answer, { ageSec: cached.ageSec, ...request });
    return this.#fetch(key, query, request);
  }

  async #fetch(key: string, query: Query, request: ForwardRequest): Promise<Buffer> {
    const { client } = request;
    const failure = (): Buffer => encodeAnswer(query, emptyAnswer(RCODE.SERVFAIL), request.limitBytes);
    const own = this.#clients.get(client) ?? 0;
    if (own >= perClient || this.#asking >= inAll) return failure();
    this.#clients.set(client, own + 1);
    this.#asking += 1;
    try {
      let pending = this.#pending.get(key);
      if (pending === undefined) {
        pending = this.#ask(query, request.servers).finally(() => this.#pending.delete(key));
        this.#pending.set(key, pending);
      }
      const answer = await pending;
      if (answer === null) return failure();
      this.#cache.put(key, answer, this.#nowMs());
      return passOn(query, answer, { ageSec: 0, ...request });
    } catch {
      return failure();
    } finally {
      this.#asking -= 1;
      const left = (this.#clients.get(client) ?? 1) - 1;
      if (left === 0) this.#clients.delete(client);
      else this.#clients.set(client, left);
    }
  }

  /** Each server in turn until one has a proper answer; a refusal is kept for when none has. */
  async #ask(query: Query, servers: readonly string[]): Promise<UpstreamAnswer | null> {
    const { tryMs = 1500, deadlineMs = 4500 } = this.#options;
    const endMs = this.#nowMs() + deadlineMs;
    const usable = this.#inOrder(servers.filter((server) => !this.#options.isOurs(server.split(/[#%]/, 1)[0] ?? '')));
    this.#forwarded += 1;
    let refusal: UpstreamAnswer | null = null;
    for (let round = 0; round < 2; round++) {
      for (const server of usable) {
        const leftMs = endMs - this.#nowMs();
        if (leftMs <= 0) return refusal;
        try {
          const answer = await this.#askOne(query, server, Math.min(tryMs, leftMs));
          this.#shunned.delete(server);
          if (answer.rcode === RCODE.NOERROR || answer.rcode === RCODE.NXDOMAIN) return answer;
          refusal = answer;
        } catch {
          this.#shunned.set(server, this.#nowMs() + shunMs);
        }
      }
      if (refusal !== null) return refusal;
    }
    return null;
  }

  async #askOne(query: Query, server: string, timeoutMs: number): Promise<UpstreamAnswer> {
    const flags = query.flags & (FLAG.RD | FLAG.CD | FLAG.AD);
    const ask = async (udpBytes: number | null): Promise<UpstreamAnswer> => {
      const id = randomInt(0x10000);
      const wantsDnssec = query.edns?.wantsDnssec === true;
      const bytes = encodeQuery({ id, question: query.question, flags, udpBytes, wantsDnssec });
      const options = { server, timeoutMs, accepts: (answer: Buffer) => isAnswerTo(query, id, answer) };
      const answer = await askUdp(bytes, options);
      if ((answer.readUInt16BE(2) & FLAG.TC) === 0) return readUpstreamAnswer(answer);
      return readUpstreamAnswer(await askTcp(bytes, options).catch(() => answer));
    };
    const answer = await ask(safeUdpBytes);
    const knowsNoEdns = answer.rcode === RCODE.FORMERR || answer.rcode === RCODE.NOTIMP;
    return knowsNoEdns ? ask(null) : answer;
  }

  #inOrder(servers: readonly string[]): string[] {
    const nowMs = this.#nowMs();
    const isShunned = (server: string): number => ((this.#shunned.get(server) ?? 0) > nowMs ? 1 : 0);
    return [...servers].sort((a, b) => isShunned(a) - isShunned(b));
  }

  #nowMs(): number {
    return this.#options.nowMs?.() ?? performance.now();
  }
}

function keyOf(query: Query, servers: readonly string[]): string {
  const bits = (query.flags & (FLAG.CD | FLAG.AD)) | (query.edns?.wantsDnssec === true ? DO_BIT : 0);
  return `${query.name} ${query.type} ${bits} ${servers.join(' ')}`;
}

function isAnswerTo(query: Query, id: number, answer: Buffer): boolean {
  if (answer.length < headerBytes || answer.readUInt16BE(0) !== id) return false;
  if ((answer.readUInt16BE(2) & FLAG.QR) === 0 || answer.readUInt16BE(4) !== 1) return false;
  try {
    const { name, end } = readName(answer, headerBytes, 0);
    const isSame = end - headerBytes + 4 === query.question.length && name.toLowerCase() === query.name;
    return isSame && answer.readUInt16BE(end) === query.type && answer.readUInt16BE(end + 2) === query.class;
  } catch (error) {
    if (error instanceof DnsError || error instanceof RangeError) return false;
    throw error;
  }
}

/** An upstream's answer as this client is to have it: its id, its question's letters, its EDNS, its size. */
function passOn(
  query: Query,
  answer: UpstreamAnswer,
  { ageSec, limitBytes }: { readonly ageSec: number; readonly limitBytes: number },
): Buffer {
  const flags =
    FLAG.QR |
    FLAG.RA |
    (query.flags & (FLAG.RD | FLAG.CD)) |
    (answer.flags & (FLAG.AD | FLAG.TC)) |
    (answer.rcode & 15);
  const opt = query.edns === null ? 0 : 11;
  if (answer.bytes.length + opt > Math.min(limitBytes, largestMessageBytes)) return encodeTruncated(query, flags);
  const bytes = Buffer.alloc(answer.bytes.length + opt);
  answer.bytes.copy(bytes);
  bytes.writeUInt16BE(query.id, 0);
  bytes.writeUInt16BE(flags, 2);
  query.question.copy(bytes, headerBytes);
  if (ageSec > 0)
    for (const { offset, ttl } of answer.ttlOffsets) bytes.writeUInt32BE(Math.max(0, ttl - ageSec), offset);
  if (query.edns === null) return bytes;
  const at = answer.bytes.length;
  bytes.writeUInt16BE(bytes.readUInt16BE(10) + 1, 10);
  bytes.writeUInt16BE(TYPE.OPT, at + 1);
  bytes.writeUInt16BE(safeUdpBytes, at + 3);
  bytes[at + 5] = answer.rcode >> 4;
  bytes.writeUInt16BE(query.edns.wantsDnssec ? DO_BIT : 0, at + 7);
  return bytes;
}
