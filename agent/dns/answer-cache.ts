import { FLAG, headerBytes, RCODE, TYPE } from '../../lib/dns/constants.js';
import { decodeMessage, type Message, type MessageRecord } from '../../lib/dns/message.js';

/** An upstream's answer, without its OPT record. */
export interface UpstreamAnswer {
  readonly bytes: Buffer;
  readonly flags: number;
  /** With the upper bits of EDNS. */
  readonly rcode: number;
  readonly ttlOffsets: readonly { readonly offset: number; readonly ttl: number }[];
  readonly ttlMs: number;
}

const longestTtlSec = 86_400;
/** Source: RFC 2308 §5. */
const longestNegativeTtlSec = 300;

/** Takes an answer apart as far as passing it on needs. Errors: DnsError. */
export function readUpstreamAnswer(bytes: Buffer): UpstreamAnswer {
  const message = decodeMessage(bytes);
  const optIndex = message.additionals.findIndex(({ type }) => type === TYPE.OPT);
  const opt = message.additionals[optIndex];
  let kept = bytes.subarray(0, message.endOffset);
  if (opt !== undefined) {
    // Its name is the root: one byte. What follows it goes with it, being additional.
    kept = Buffer.from(bytes.subarray(0, opt.ttlOffset - 5));
    kept.writeUInt16BE(optIndex, 10);
  }
  const records = [...message.answers, ...message.authorities, ...message.additionals].filter(
    ({ ttlOffset, type }) => type !== TYPE.OPT && ttlOffset < kept.length,
  );
  const upper = opt === undefined ? 0 : (opt.ttl >>> 24) << 4;
  return {
    bytes: kept,
    flags: message.flags,
    rcode: upper | message.rcode,
    ttlOffsets: records.map(({ ttlOffset, ttl }) => ({ offset: ttlOffset, ttl })),
    ttlMs: ttlOf(message) * 1000,
  };
}

function ttlOf(message: Message): number {
  if ((message.flags & FLAG.TC) !== 0) return 0;
  const isNegative =
    message.rcode === RCODE.NXDOMAIN || (message.rcode === RCODE.NOERROR && message.answers.length === 0);
  if (!isNegative)
    return message.rcode === RCODE.NOERROR ? Math.min(longestTtlSec, ...message.answers.map(({ ttl }) => ttl)) : 0;
  const soa = message.authorities.find(({ type }) => type === TYPE.SOA);
  return soa === undefined ? 0 : Math.min(longestNegativeTtlSec, soa.ttl, minimumOf(soa));
}

function minimumOf(soa: MessageRecord): number {
  return Number(soa.data?.slice(soa.data.lastIndexOf(' ') + 1) ?? 0);
}

interface Kept {
  readonly answer: UpstreamAnswer;
  readonly storedMs: number;
}

const mostEntries = 10_000;
const mostBytes = 16 * 1024 * 1024;

/** Upstreams' answers for as long as their TTL lasts; the oldest go first where there is no room. */
export class AnswerCache {
  readonly #entries = new Map<string, Kept>();
  #bytes = 0;

  get(key: string, nowMs: number): { readonly answer: UpstreamAnswer; readonly ageSec: number } | null {
    const kept = this.#entries.get(key);
    if (kept === undefined) return null;
    if (nowMs - kept.storedMs >= kept.answer.ttlMs) {
      this.#drop(key, kept);
      return null;
    }
    return { answer: kept.answer, ageSec: Math.floor((nowMs - kept.storedMs) / 1000) };
  }

  put(key: string, answer: UpstreamAnswer, nowMs: number): void {
    const before = this.#entries.get(key);
    if (before !== undefined) this.#drop(key, before);
    if (answer.ttlMs <= 0 || answer.bytes.length > headerBytes * 2000) return;
    this.#entries.set(key, { answer, storedMs: nowMs });
    this.#bytes += answer.bytes.length;
    for (const [oldest, kept] of this.#entries) {
      if (this.#entries.size <= mostEntries && this.#bytes <= mostBytes) break;
      this.#drop(oldest, kept);
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  #drop(key: string, kept: Kept): void {
    this.#entries.delete(key);
    this.#bytes -= kept.answer.bytes.length;
  }
}
