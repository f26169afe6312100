import type { Reader } from '../bytes/reader.js';
import { EncodeError, type Writer } from '../bytes/writer.js';
import { AF_INET, AF_INET6 } from './constants.js';

const dot = 0x2e;
const colon = 0x3a;

/** Writes four bytes and reports whether `text` was a strict dotted quad (no leading zeros). */
function writeQuad(text: string, from: number, out: (byte: number) => void): boolean {
  let value = -1;
  let digits = 0;
  let parts = 0;
  for (let i = from; i <= text.length; i++) {
    const unit = i < text.length ? text.charCodeAt(i) : dot;
    if (unit === dot) {
      if (digits === 0 || parts === 4) return false;
      out(value);
      parts++;
      digits = 0;
      value = -1;
    } else if (unit >= 0x30 && unit <= 0x39) {
      if (digits > 0 && value === 0) return false;
      value = digits === 0 ? unit - 0x30 : value * 10 + unit - 0x30;
      if (++digits > 3 || value > 255) return false;
    } else {
      return false;
    }
  }
  return parts === 4;
}

function hexDigit(unit: number): number {
  if (unit >= 0x30 && unit <= 0x39) return unit - 0x30;
  const lower = unit | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

function parseInet6(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(16);
  let at = 0;
  let gap = -1;
  let i = 0;
  if (text.startsWith('::')) {
    gap = 0;
    i = 2;
  }
  while (i < text.length) {
    const start = i;
    let group = 0;
    while (i < text.length) {
      const digit = hexDigit(text.charCodeAt(i));
      if (digit < 0) break;
      group = (group << 4) | digit;
      i++;
    }
    if (i < text.length && text.charCodeAt(i) === dot) {
      if (at > 12 || !writeQuad(text, start, (byte) => (bytes[at++] = byte))) return undefined;
      i = text.length;
      break;
    }
    if (i === start || i - start > 4 || at > 14) return undefined;
    bytes[at++] = group >>> 8;
    bytes[at++] = group;
    if (i === text.length) break;
    if (text.charCodeAt(i++) !== colon) return undefined;
    if (i === text.length) return undefined;
    if (text.charCodeAt(i) === colon) {
      if (gap >= 0) return undefined;
      gap = at;
      i++;
    }
  }
  if (gap < 0) return at === 16 ? bytes : undefined;
  if (at > 14) return undefined;
  bytes.copyWithin(16 - (at - gap), gap, at);
  bytes.fill(0, gap, 16 - (at - gap));
  return bytes;
}

/** Names the address family of an address or prefix text: AF_INET6 where it has a colon, else AF_INET. */
export function inetFamily(text: string): number {
  return text.includes(':') ? AF_INET6 : AF_INET;
}

/**
 * Encodes an address in network order: 4 bytes for IPv4, 16 for IPv6.
 *
 * Source: RFC 4291 §2.2; a strict dotted quad for IPv4 (a leading zero could mean octal).
 * Errors: EncodeError when the text is no address; zone ids are none of an address.
 */
export function encodeInet(text: string): Uint8Array {
  if (text.includes(':')) {
    const bytes = parseInet6(text);
    if (bytes !== undefined) return bytes;
  } else {
    const bytes = new Uint8Array(4);
    let at = 0;
    if (writeQuad(text, 0, (byte) => (bytes[at++] = byte))) return bytes;
  }
  throw new EncodeError('address', text, 'is not an IP address');
}

/** Writes an address as `encodeInet` encodes it; IPv4 without an array in between. */
export function writeInet(writer: Writer, text: string): void {
  if (text.includes(':')) {
    writer.bytes(encodeInet(text));
  } else if (!writeQuad(text, 0, (byte) => writer.u8(byte))) {
    throw new EncodeError('address', text, 'is not an IP address');
  }
}

function formatInet6(bytes: Uint8Array, at: number): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[at + i] ?? 0) << 8) | (bytes[at + i + 1] ?? 0));
  let gap = -1;
  let gapLength = 1;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > gapLength) {
      gap = i;
      gapLength = run;
    }
    i += run;
  }
  if (gap === 0 && gapLength === 5 && groups[5] === 0xffff) {
    return `::ffff:${bytes[at + 12]}.${bytes[at + 13]}.${bytes[at + 14]}.${bytes[at + 15]}`;
  }
  let text = '';
  for (let i = 0; i < 8; i++) {
    if (i === gap) {
      text += '::';
      i += gapLength - 1;
    } else {
      if (i > 0 && i !== gap + gapLength) text += ':';
      text += (groups[i] ?? 0).toString(16);
    }
  }
  return text;
}

/**
 * Formats 4 or 16 bytes as an address text, undefined for any other length.
 *
 * Source: RFC 5952 §4 and §5 for IPv6.
 */
export function decodeInet(bytes: Uint8Array): string | undefined {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  return bytes.length === 16 ? formatInet6(bytes, 0) : undefined;
}

/**
 * Reads all that is left of the reader as one address.
 *
 * Errors: DecodeError when that is neither 4 nor 16 bytes.
 */
export function readInet(reader: Reader): string {
  const { buffer, offset, remaining } = reader;
  if (remaining !== 4 && remaining !== 16) throw reader.error('neither 4 nor 16 bytes');
  reader.skip(remaining);
  if (remaining === 16) return formatInet6(buffer, offset);
  return `${buffer[offset]}.${buffer[offset + 1]}.${buffer[offset + 2]}.${buffer[offset + 3]}`;
}

/** An address and the length of its prefix. */
export interface InetPrefix {
  readonly address: string;
  readonly length: number;
}

/**
 * Splits `10.1.0.0/16` into address and length; a bare address has its full length.
 *
 * Errors: EncodeError when the length is not a number within the family's width. The address itself
 * is checked where it is encoded.
 */
export function splitPrefix(text: string): InetPrefix {
  const width = text.includes(':') ? 128 : 32;
  const slash = text.indexOf('/');
  if (slash < 0) return { address: text, length: width };
  const digits = text.slice(slash + 1);
  const length = Number(digits);
  if (!/^(0|[1-9][0-9]{0,2})$/.test(digits) || length > width) {
    throw new EncodeError('prefix', text, 'has no valid prefix length');
  }
  return { address: text.slice(0, slash), length };
}

const hexPairs = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** Reads all that is left of the reader as a link-layer address: `02:42:0a:00:00:05`. */
export function readLladdr(reader: Reader): string {
  const { buffer, end } = reader;
  let at = reader.skip(reader.remaining);
  if (at === end) return '';
  let text = hexPairs[buffer[at] ?? 0] ?? '';
  while (++at < end) text += ':' + (hexPairs[buffer[at] ?? 0] ?? '');
  return text;
}

/**
 * Writes a link-layer address of any length, as pairs of hex digits with colons in between.
 *
 * Errors: EncodeError when the text has another form.
 */
export function writeLladdr(writer: Writer, text: string): void {
  if (text === '') return;
  if (text.length % 3 !== 2) throw new EncodeError('lladdr', text, 'is not a link-layer address');
  for (let i = 0; i < text.length; i += 3) {
    const high = hexDigit(text.charCodeAt(i));
    const low = hexDigit(text.charCodeAt(i + 1));
    if (high < 0 || low < 0 || (i + 2 < text.length && text.charCodeAt(i + 2) !== colon)) {
      throw new EncodeError('lladdr', text, 'is not a link-layer address');
    }
    writer.u8((high << 4) | low);
  }
}
