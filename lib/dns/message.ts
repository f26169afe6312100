import { formatAddr } from '../../core/addr.js';
import { headerBytes, TYPE } from './constants.js';
import { DnsError } from './error.js';
import { readName } from './name.js';

/** One record of a message; `data` is text as in a zone file, or null for types without a reader. */
export interface MessageRecord {
  readonly name: string;
  readonly type: number;
  readonly class: number;
  readonly ttl: number;
  readonly data: string | null;
  /** Where the TTL stands in the message. */
  readonly ttlOffset: number;
}

export interface Message {
  readonly id: number;
  readonly flags: number;
  readonly rcode: number;
  readonly questions: readonly { readonly name: string; readonly type: number; readonly class: number }[];
  readonly answers: readonly MessageRecord[];
  readonly authorities: readonly MessageRecord[];
  readonly additionals: readonly MessageRecord[];
  /** Where it ends: bytes may follow that belong to nothing. */
  readonly endOffset: number;
}

/** Reads a whole message. Errors: DnsError for what is none; nothing else. */
export function decodeMessage(bytes: Buffer): Message {
  if (bytes.length < headerBytes) throw new DnsError('the header is cut off');
  const flags = bytes.readUInt16BE(2);
  let at = headerBytes;
  const questions: { name: string; type: number; class: number }[] = [];
  for (let left = bytes.readUInt16BE(4); left > 0; left--) {
    const { name, end } = readName(bytes, at);
    if (end + 4 > bytes.length) throw new DnsError('a question is cut off');
    questions.push({ name, type: bytes.readUInt16BE(end), class: bytes.readUInt16BE(end + 2) });
    at = end + 4;
  }
  const section = (count: number): MessageRecord[] => {
    const records: MessageRecord[] = [];
    for (let left = count; left > 0; left--) {
      const { record, end } = readRecord(bytes, at);
      records.push(record);
      at = end;
    }
    return records;
  };
  return {
    id: bytes.readUInt16BE(0),
    flags,
    rcode: flags & 15,
    questions,
    answers: section(bytes.readUInt16BE(6)),
    authorities: section(bytes.readUInt16BE(8)),
    additionals: section(bytes.readUInt16BE(10)),
    // After what the lines before have read.
    endOffset: at,
  };
}

function readRecord(bytes: Buffer, at: number): { record: MessageRecord; end: number } {
  const { name, end } = readName(bytes, at);
  if (end + 10 > bytes.length) throw new DnsError('a record is cut off');
  const type = bytes.readUInt16BE(end);
  const start = end + 10;
  const stop = start + bytes.readUInt16BE(end + 8);
  if (stop > bytes.length) throw new DnsError('a record is cut off');
  const record = {
    name,
    type,
    class: bytes.readUInt16BE(end + 2),
    ttl: bytes.readUInt32BE(end + 4),
    data: readData(bytes, type, { start, stop }),
    ttlOffset: end + 4,
  };
  return { record, end: stop };
}

/** Text of a record's data. Names inside must end with the data (RFC 1035 §3.3). */
function readData(bytes: Buffer, type: number, { start, stop }: { start: number; stop: number }): string | null {
  const nameAt = (at: number, last = true): { name: string; end: number } => {
    const read = readName(bytes, at);
    if (last ? read.end !== stop : read.end > stop) throw new DnsError('a name overruns its record');
    return read;
  };
  const size = stop - start;
  switch (type) {
    case TYPE.A:
      if (size !== 4) throw new DnsError('an A record without an address');
      return formatAddr({ family: 4, value: BigInt(bytes.readUInt32BE(start)) });
    case TYPE.AAAA:
      if (size !== 16) throw new DnsError('an AAAA record without an address');
      return formatAddr({ family: 6, value: BigInt(`0x${bytes.toString('hex', start, stop)}`) });
    case TYPE.NS:
    case TYPE.CNAME:
    case TYPE.PTR:
      return `${nameAt(start).name}.`;
    case TYPE.SRV: {
      if (size < 7) throw new DnsError('a SRV record is cut off');
      const numbers = [0, 2, 4].map((offset) => bytes.readUInt16BE(start + offset));
      return `${numbers.join(' ')} ${nameAt(start + 6).name}.`;
    }
    case TYPE.SOA: {
      const primary = nameAt(start, false);
      const mailbox = nameAt(primary.end, false);
      if (mailbox.end + 20 !== stop) throw new DnsError('a SOA record is cut off');
      const numbers = [0, 4, 8, 12, 16].map((offset) => bytes.readUInt32BE(mailbox.end + offset));
      return `${primary.name}. ${mailbox.name}. ${numbers.join(' ')}`;
    }
    case TYPE.TXT: {
      const strings: string[] = [];
      for (let at = start; at < stop;) {
        const length = bytes[at] ?? 0;
        if (at + 1 + length > stop) throw new DnsError('a text is cut off');
        strings.push(bytes.toString('utf8', at + 1, at + 1 + length));
        at += 1 + length;
      }
      return strings.map((text) => JSON.stringify(text)).join(' ');
    }
    default:
      return null;
  }
}
