import { longestLabelBytes, longestNameBytes } from './constants.js';
import { DnsError } from './error.js';

/**
 * Names on the wire. In text they have no final dot; a dot or backslash inside a label, and bytes that are no printable
 * ASCII, are escaped (RFC 1035 §5.1), so that text and wire stand for each other without loss. The root is ''.
 */

/** A name read, and where what follows it begins. */
export interface NameRead {
  readonly name: string;
  readonly end: number;
}

const dot = 0x2e;
const backslash = 0x5c;

/**
 * Reads a name, following compression pointers. Each must point before where its name began, so that none can loop.
 * @param before pointers lead to below this offset only: 0 allows none.
 * Source: RFC 1035 §4.1.4. Errors: DnsError.
 */
export function readName(bytes: Buffer, start: number, before = start): NameRead {
  let at = start;
  let end = -1;
  let floor = before;
  let length = 1;
  let name = '';
  for (;;) {
    const size = bytes[at];
    if (size === undefined) throw new DnsError('a name is cut off');
    if (size === 0) return { name, end: end < 0 ? at + 1 : end };
    if (size >= 0xc0) {
      const low = bytes[at + 1];
      if (low === undefined) throw new DnsError('a name is cut off');
      const target = ((size & 0x3f) << 8) | low;
      if (target >= floor) throw new DnsError('a name points forward');
      if (end < 0) end = at + 2;
      floor = target;
      at = target;
      continue;
    }
    if (size > longestLabelBytes) throw new DnsError('a label of an unknown type');
    length += size + 1;
    if (length > longestNameBytes) throw new DnsError('a name is too long');
    if (at + 1 + size > bytes.length) throw new DnsError('a label is cut off');
    const label = readLabel(bytes, at + 1, size);
    name = name === '' ? label : `${name}.${label}`;
    at += size + 1;
  }
}

function readLabel(bytes: Buffer, start: number, size: number): string {
  for (let at = start; at < start + size; at++) {
    const byte = bytes[at] ?? 0;
    if (byte <= 0x20 || byte >= 0x7f || byte === dot || byte === backslash) return escapeLabel(bytes, start, size);
  }
  return bytes.toString('latin1', start, start + size);
}

function escapeLabel(bytes: Buffer, start: number, size: number): string {
  let text = '';
  for (const byte of bytes.subarray(start, start + size)) {
    if (byte === dot || byte === backslash) text += `\\${String.fromCharCode(byte)}`;
    else if (byte <= 0x20 || byte >= 0x7f) text += `\\${String(byte).padStart(3, '0')}`;
    else text += String.fromCharCode(byte);
  }
  return text;
}

/** The wire form of a name's text, without compression. Errors: DnsError. */
export function encodeName(name: string): Buffer {
  return Buffer.concat([
    ...labelsOf(name).map((label) => Buffer.concat([Buffer.of(label.length), label])),
    Buffer.of(0),
  ]);
}

/** The labels of a name's text as bytes. Errors: DnsError for labels or names that are empty or too long. */
export function labelsOf(name: string): Buffer[] {
  if (name === '' || name === '.') return [];
  const labels: Buffer[] = [];
  let bytes: number[] = [];
  let length = 1;
  const close = (): void => {
    if (bytes.length === 0) throw new DnsError('a label is empty');
    if (bytes.length > longestLabelBytes) throw new DnsError('a label is too long');
    length += bytes.length + 1;
    if (length > longestNameBytes) throw new DnsError('a name is too long');
    labels.push(Buffer.from(bytes));
    bytes = [];
  };
  const text = name.endsWith('.') && !name.endsWith('\\.') ? name.slice(0, -1) : name;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === dot) {
      close();
      continue;
    }
    if (code > 0xff) throw new DnsError('a name has letters outside of bytes');
    if (code !== backslash) {
      bytes.push(code);
      continue;
    }
    const digits = /^\d{3}/.exec(text.slice(at + 1, at + 4))?.[0];
    const byte = digits === undefined ? text.charCodeAt(at + 1) : Number(digits);
    if (!(byte <= 0xff)) throw new DnsError('an escape is none');
    bytes.push(byte);
    at += digits === undefined ? 1 : 3;
  }
  close();
  return labels;
}
