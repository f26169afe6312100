import { parseAddr, type Addr } from '../../core/addr.js';
import type { DnsRecord } from '../../core/dns/record.js';
import { CLASS, DO_BIT, FLAG, headerBytes, safeUdpBytes, TYPE } from './constants.js';
import { encodeName, labelsOf } from './name.js';
import type { Query } from './query.js';

/** What to say to a query. */
export interface Answer {
  readonly rcode: number;
  readonly authoritative: boolean;
  readonly answers: readonly DnsRecord[];
  readonly authority: readonly DnsRecord[];
  /** Left out first where there is no room. */
  readonly additional: readonly DnsRecord[];
}

const firstPointer = 0xc000;
/** The question's name stands right behind the header. */
const questionPointer = 0xc00c;
const optBytes = 11;
const scratchBytes = 65_535;
/** One message is written at a time, and copied out. */
const scratch = Buffer.allocUnsafe(scratchBytes);

/** Writes records into the scratch buffer, with each name once (RFC 1035 §4.1.4). */
class RecordWriter {
  at: number;
  readonly #limit: number;
  readonly #names = new Map<string, number>();
  readonly #question: string;

  constructor(at: number, limit: number, question: string) {
    this.at = at;
    this.#limit = limit;
    this.#question = question;
  }

  /** Writes one record; false, with nothing written, where there is no room. */
  write(record: DnsRecord): boolean {
    const start = this.at;
    if (!this.#name(record.name, true) || this.at + 10 > this.#limit) return this.#undo(start);
    const typeNumber = TYPE[record.type];
    scratch.writeUInt16BE(typeNumber, this.at);
    scratch.writeUInt16BE(CLASS.IN, this.at + 2);
    scratch.writeUInt32BE(record.ttl, this.at + 4);
    const lengthAt = this.at + 8;
    this.at += 10;
    if (!this.#data(record)) return this.#undo(start);
    scratch.writeUInt16BE(this.at - lengthAt - 2, lengthAt);
    return true;
  }

  #data(record: DnsRecord): boolean {
    switch (record.type) {
      case 'A':
      case 'AAAA':
        return this.#bytes(addressBytes(record.address));
      case 'PTR':
      case 'NS':
        return this.#name(record.target, true);
      case 'SRV':
        // RFC 2782: the target is not compressed.
        return this.#words([record.priority, record.weight, record.port]) && this.#name(record.target, false);
      case 'TXT':
        return this.#bytes(textBytes(record.text));
      case 'SOA':
        return (
          this.#name(record.primary, true) &&
          this.#name(record.mailbox, true) &&
          this.#longs([record.serial, record.refresh, record.retry, record.expire, record.minimum])
        );
    }
  }

  /** Names written in a record that was undone must not be pointed at. */
  #undo(start: number): false {
    this.at = start;
    for (const [name, at] of this.#names) if (at >= start) this.#names.delete(name);
    return false;
  }

  #name(name: string, compress: boolean): boolean {
    if (compress && name === this.#question) return this.#words([questionPointer]);
    let rest = name;
    for (const label of labelsOf(name)) {
      const known = compress ? this.#names.get(rest) : undefined;
      if (known !== undefined) return this.#words([firstPointer | known]);
      if (this.at < 0x4000 && !this.#names.has(rest)) this.#names.set(rest, this.at);
      if (this.at + label.length + 2 > this.#limit) return false;
      scratch[this.at] = label.length;
      label.copy(scratch, this.at + 1);
      this.at += label.length + 1;
      rest = rest.slice(rest.indexOf('.') + 1);
    }
    return this.#bytes(rootName);
  }

  #bytes(bytes: Buffer): boolean {
    if (this.at + bytes.length > this.#limit) return false;
    bytes.copy(scratch, this.at);
    this.at += bytes.length;
    return true;
  }

  #words(words: readonly number[]): boolean {
    if (this.at + words.length * 2 > this.#limit) return false;
    for (const word of words) this.at = scratch.writeUInt16BE(word, this.at);
    return true;
  }

  #longs(longs: readonly number[]): boolean {
    if (this.at + longs.length * 4 > this.#limit) return false;
    for (const long of longs) this.at = scratch.writeUInt32BE(long >>> 0, this.at);
    return true;
  }
}

const rootName = encodeName('');

/**
 * Encodes the answer to a query, cut to what the client takes: with records left out of the answer the TC bit says so.
 * @param limitBytes the most that the transport takes: 65 535 for TCP.
 */
export function encodeAnswer(query: Query, answer: Answer, limitBytes: number): Buffer {
  const { question, edns } = query;
  const room = limitBytes - (edns === null ? 0 : optBytes);
  question.copy(scratch, headerBytes);
  const writer = new RecordWriter(headerBytes + question.length, room, query.name);
  const counts = [0, 0, 0];
  let truncated = false;
  for (const [index, section] of [answer.answers, answer.authority, answer.additional].entries()) {
    for (const record of section) {
      if (!writer.write(record)) {
        truncated ||= index === 0;
        break;
      }
      counts[index] = (counts[index] ?? 0) + 1;
    }
    if (truncated) break;
  }
  const flags =
    FLAG.QR |
    FLAG.RA |
    (query.flags & FLAG.RD) |
    (answer.authoritative ? FLAG.AA : 0) |
    (truncated ? FLAG.TC : 0) |
    (answer.rcode & 15);
  return finish(query, { at: writer.at, flags, counts, rcode: answer.rcode });
}

/** The short answer that the whole one is too long for this transport: come again by TCP. */
export function encodeTruncated(query: Query, flags: number): Buffer {
  query.question.copy(scratch, headerBytes);
  const at = headerBytes + query.question.length;
  return finish(query, { at, flags: flags | FLAG.TC | FLAG.QR, counts: [0, 0, 0], rcode: flags & 15 });
}

function finish(
  query: Query,
  { at, flags, counts, rcode }: { at: number; flags: number; counts: readonly number[]; rcode: number },
): Buffer {
  scratch.writeUInt16BE(query.id, 0);
  scratch.writeUInt16BE(flags, 2);
  scratch.writeUInt16BE(1, 4);
  scratch.writeUInt16BE(counts[0] ?? 0, 6);
  scratch.writeUInt16BE(counts[1] ?? 0, 8);
  scratch.writeUInt16BE((counts[2] ?? 0) + (query.edns === null ? 0 : 1), 10);
  if (query.edns === null) return Buffer.from(scratch.subarray(0, at));
  scratch[at] = 0;
  scratch.writeUInt16BE(TYPE.OPT, at + 1);
  scratch.writeUInt16BE(safeUdpBytes, at + 3);
  scratch[at + 5] = rcode >> 4;
  scratch[at + 6] = 0;
  scratch.writeUInt16BE(query.edns.wantsDnssec ? DO_BIT : 0, at + 7);
  scratch.writeUInt16BE(0, at + 9);
  return Buffer.from(scratch.subarray(0, at + optBytes));
}

/** The answer to what could not be read beyond its header. */
export function encodeRefusal(id: number, flags: number, rcode: number): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeUInt16BE(id, 0);
  bytes.writeUInt16BE(FLAG.QR | FLAG.RA | (flags & (0x7800 | FLAG.RD)) | rcode, 2);
  return bytes;
}

/** An answer with a code and nothing else. */
export function emptyAnswer(rcode: number): Answer {
  return { rcode, authoritative: false, answers: [], authority: [], additional: [] };
}

const addresses = new Map<string, Buffer>();
const addressesKept = 10_000;

function addressBytes(text: string): Buffer {
  const known = addresses.get(text);
  if (known !== undefined) return known;
  if (addresses.size >= addressesKept) addresses.clear();
  const bytes = encodeAddress(parseAddr(text));
  addresses.set(text, bytes);
  return bytes;
}

function encodeAddress({ family, value }: Addr): Buffer {
  return Buffer.from(value.toString(16).padStart(family === 4 ? 8 : 32, '0'), 'hex');
}

/** Strings of at most 255 bytes each, of one text (RFC 1035 §3.3.14). */
function textBytes(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length || at === 0; at += 255) {
    const part = bytes.subarray(at, at + 255);
    parts.push(Buffer.of(part.length), part);
  }
  return Buffer.concat(parts);
}
