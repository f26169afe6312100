import { CLASS, DO_BIT, FLAG, headerBytes, plainUdpBytes, TYPE } from './constants.js';
import { DnsError } from './error.js';
import { readName } from './name.js';

/** EDNS as a query brought it (RFC 6891 §6.1). */
export interface Edns {
  readonly udpBytes: number;
  readonly version: number;
  readonly wantsDnssec: boolean;
}

/** A query with one question: all that answering needs, without touching the rest. */
export interface Query {
  readonly id: number;
  readonly flags: number;
  /** Lower case. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** The question as it came, to be sent back letter by letter. */
  readonly question: Buffer;
  readonly edns: Edns | null;
}

/** What a datagram is: a query to answer, one to refuse with a code, or nothing to answer at all. */
export type Received =
  | { readonly kind: 'query'; readonly query: Query }
  | { readonly kind: 'refuse'; readonly id: number; readonly flags: number; readonly rcode: number }
  | { readonly kind: 'ignore' };

const ignore: Received = { kind: 'ignore' };
const formatError = 1;
const notImplemented = 4;

/** Reads a query. Never throws: what is no message is ignored, what is a bad one is to be refused. */
export function readQuery(bytes: Buffer): Received {
  if (bytes.length < headerBytes) return ignore;
  const id = bytes.readUInt16BE(0);
  const flags = bytes.readUInt16BE(2);
  // An answer to an answer could go round for ever.
  if ((flags & FLAG.QR) !== 0) return ignore;
  const opcode = (flags >> 11) & 15;
  if (opcode !== 0) return { kind: 'refuse', id, flags, rcode: notImplemented };
  if (bytes.readUInt16BE(4) !== 1 || bytes.readUInt16BE(6) !== 0)
    return { kind: 'refuse', id, flags, rcode: formatError };
  try {
    // Before the one question there is nothing that a pointer could lead to.
    const { name, end } = readName(bytes, headerBytes, 0);
    if (end + 4 > bytes.length) throw new DnsError('the question is cut off');
    const question = bytes.subarray(headerBytes, end + 4);
    const edns = readEdns(bytes, end + 4, bytes.readUInt16BE(8) + bytes.readUInt16BE(10));
    return {
      kind: 'query',
      query: {
        id,
        flags,
        name: name.toLowerCase(),
        type: bytes.readUInt16BE(end),
        class: bytes.readUInt16BE(end + 2),
        question,
        edns,
      },
    };
  } catch (error) {
    if (error instanceof DnsError) return { kind: 'refuse', id, flags, rcode: formatError };
    throw error;
  }
}

function readEdns(bytes: Buffer, start: number, count: number): Edns | null {
  let edns: Edns | null = null;
  let at = start;
  for (let index = 0; index < count; index++) {
    const { end } = readName(bytes, at);
    if (end + 10 > bytes.length) throw new DnsError('a record is cut off');
    const type = bytes.readUInt16BE(end);
    const next = end + 10 + bytes.readUInt16BE(end + 8);
    if (next > bytes.length) throw new DnsError('a record is cut off');
    if (type === TYPE.OPT) {
      if (edns !== null || end !== at + 1) throw new DnsError('more than one OPT record, or one with a name');
      edns = {
        udpBytes: Math.max(plainUdpBytes, bytes.readUInt16BE(end + 2)),
        version: bytes[end + 5] ?? 0,
        wantsDnssec: (bytes.readUInt16BE(end + 6) & DO_BIT) !== 0,
      };
    }
    at = next;
  }
  return edns;
}

/** Encodes a query, as a client sends it. */
export function encodeQuery(options: {
  readonly id: number;
  readonly question: Buffer;
  readonly flags?: number;
  readonly udpBytes: number | null;
  readonly wantsDnssec?: boolean;
}): Buffer {
  const { id, question, flags = FLAG.RD, udpBytes, wantsDnssec = false } = options;
  const bytes = Buffer.alloc(headerBytes + question.length + (udpBytes === null ? 0 : 11));
  bytes.writeUInt16BE(id, 0);
  bytes.writeUInt16BE(flags, 2);
  bytes.writeUInt16BE(1, 4);
  question.copy(bytes, headerBytes);
  if (udpBytes !== null) {
    const at = headerBytes + question.length;
    bytes.writeUInt16BE(1, 10);
    bytes.writeUInt16BE(TYPE.OPT, at + 1);
    bytes.writeUInt16BE(udpBytes, at + 3);
    bytes.writeUInt16BE(wantsDnssec ? DO_BIT : 0, at + 7);
  }
  return bytes;
}

/** The bytes of a question. Errors: DnsError for what is no name. */
export function encodeQuestion(nameBytes: Buffer, type: number): Buffer {
  const tail = Buffer.alloc(4);
  tail.writeUInt16BE(type, 0);
  tail.writeUInt16BE(CLASS.IN, 2);
  return Buffer.concat([nameBytes, tail]);
}
