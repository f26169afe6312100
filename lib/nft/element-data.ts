import { EncodeError, Writer } from '../bytes/writer.js';
import { writeInet, writeLladdr } from '../netlink/inet.js';

/**
 * Keys and values of elements as the kernel compares them: each part in network order, parts of a concatenation padded
 * to four bytes (net/netfilter/nf_tables_api.c, nft_set_pipapo.c).
 */

/** Which end of a range is meant; the same for text that is no range. */
export type RangeEnd = 'first' | 'last';

interface PartType {
  readonly bytes: number;
  /** Whether text of it can be `a-b`, or `addr/length`. */
  readonly hasRanges?: boolean;
  write(writer: Writer, text: string): void;
}

const protocols: Readonly<Record<string, number>> = {
  icmp: 1,
  tcp: 6,
  udp: 17,
  'ipv6-icmp': 58,
  icmpv6: 58,
  sctp: 132,
};
/** linux/netfilter.h, NFPROTO_* */
const nfProtocols: Readonly<Record<string, number>> = { ipv4: 2, ipv6: 10 };
const ifnameBytes = 16;

function named(what: string, numbers: Readonly<Record<string, number>>): PartType {
  return {
    bytes: 1,
    write(writer, text) {
      const number = numbers[text];
      if (number === undefined) throw new EncodeError(what, text);
      writer.u8(number);
    },
  };
}

function parsePort(text: string): number {
  let port = text === '' ? -1 : 0;
  for (let at = 0; at < text.length && port >= 0; at++) {
    const digit = text.charCodeAt(at) - 0x30;
    port = digit < 0 || digit > 9 || port > 6553 ? -1 : port * 10 + digit;
  }
  if (port < 0 || port > 0xffff || text.length > 5) throw new EncodeError('inet_service', text);
  return port;
}

function inet(bytes: 4 | 16): PartType {
  return { bytes, hasRanges: true, write: writeInet };
}

const partTypes: Readonly<Record<string, PartType>> = {
  inet_proto: named('inet_proto', protocols),
  nf_proto: named('nf_proto', nfProtocols),
  inet_service: {
    bytes: 2,
    hasRanges: true,
    write(writer, text) {
      writer.u16be(parsePort(text));
    },
  },
  ipv4_addr: inet(4),
  ipv6_addr: inet(16),
  ether_addr: { bytes: 6, write: writeLladdr },
  ifname: {
    bytes: ifnameBytes,
    write(writer, text) {
      const [, name] = /^"([^"*\0]{1,15})"$/.exec(text) ?? [];
      if (name === undefined) throw new EncodeError('ifname', text);
      writer.text(name);
      writer.zeros(ifnameBytes - name.length);
    },
  },
  // What `typeof` gives to numbers made by rules: in the byte order of the host.
  integer32: {
    bytes: 4,
    write(writer, text) {
      if (!/^\d{1,10}$/.test(text) || Number(text) > 0xffff_ffff) throw new EncodeError('integer', text);
      writer.u32le(Number(text));
    },
  },
  // What `typeof` gives to 128 bits of a packet.
  integer128: {
    bytes: 16,
    write(writer, text) {
      if (!/^0x[0-9a-f]{32}$/.test(text)) throw new EncodeError('integer', text);
      writer.bytes(Buffer.from(text.slice(2), 'hex'));
    },
  },
};

function partType(type: string): PartType {
  const known = partTypes[type];
  if (known === undefined) throw new EncodeError('nft type', type, 'is not known');
  return known;
}

const separator = ' . ';
/** Of the types of tables' sets, which are there for good: looked up once, not for each of thousands of elements. */
const knownParts = new WeakMap<readonly string[], readonly PartType[]>();

function partsOf(types: readonly string[]): readonly PartType[] {
  let parts = knownParts.get(types);
  if (parts === undefined) {
    parts = types.map(partType);
    knownParts.set(types, parts);
  }
  return parts;
}

/** Sets the bits behind the first `length` ones. */
function fillBits(bytes: Uint8Array, length: number): void {
  for (let index = length >> 3; index < bytes.length; index++) {
    const kept = Math.max(0, length - index * 8);
    bytes[index] = (bytes[index] ?? 0) | (0xff >> Math.min(8, kept));
  }
}

const isRange = (text: string): boolean => text.includes('-') || text.includes('/');

function writePart(writer: Writer, type: PartType, text: string, end: RangeEnd): void {
  const start = writer.length;
  if (type.hasRanges !== true || !isRange(text)) type.write(writer, text);
  else {
    const [first = '', last = first] = text.split('-');
    const [address = '', length] = first.split('/');
    type.write(writer, end === 'last' && last !== first ? last : address);
    if (end === 'last' && length !== undefined) fillBits(writer.written().subarray(start), Number(length));
  }
  if (writer.length - start !== type.bytes) throw new EncodeError('nft element', text, 'is of another type');
}

/**
 * Writes a key or value.
 *
 * @param types of the parts, as of NftSet.
 * @param text the parts, joined as by `formatParts`.
 * Errors: EncodeError for text that is not of these types.
 */
export function writeParts(writer: Writer, types: readonly string[], text: string, end: RangeEnd): void {
  const parts = partsOf(types);
  let from = 0;
  for (let index = 0; index < parts.length; index++) {
    const part = parts[index];
    const isLast = index === parts.length - 1;
    const until = isLast ? text.length : text.indexOf(separator, from);
    if (part === undefined || until < 0) throw new EncodeError('nft element', text, `has not ${types.length} parts`);
    writePart(writer, part, text.slice(from, until), end);
    if (parts.length > 1) writer.zeros(-part.bytes & 3);
    from = until + separator.length;
  }
}

/** The key of one part behind the last one of a range; undefined where there is none. Errors: EncodeError. */
export function keyBehind(types: readonly string[], text: string): Uint8Array | undefined {
  const writer = new Writer(ifnameBytes);
  writeParts(writer, types, text, 'last');
  const bytes = writer.written();
  for (let index = bytes.length - 1; index >= 0; index--) {
    const next = (bytes[index] ?? 0) + 1;
    bytes[index] = next;
    if (next <= 0xff) return bytes;
  }
  return undefined;
}
