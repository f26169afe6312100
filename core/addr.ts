import { TsnetError } from './errors.js';

/**
 * Addresses and prefixes of both families as one kind of value: nothing below or above this file
 * asks which family it has except to know the width. A bigint serves both; where a range is known to
 * be small (inside a block), callers work with `offsetOf` as a plain number.
 */

export type Family = 4 | 6;

/** An address: its family and its bits as an unsigned number. */
export interface Addr {
  readonly family: Family;
  readonly value: bigint;
}

/** An address range on a power of two; `base` has no host bits set. */
export interface Prefix {
  readonly family: Family;
  readonly base: bigint;
  readonly length: number;
}

/** Bits of an address of the family: 32 or 128. */
export function addrWidth(family: Family): number {
  return family === 4 ? 32 : 128;
}

const V4_TEXT = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/;
const V6_GROUP = /^[0-9a-fA-F]{1,4}$/;
const LONGEST_TEXT = 45;

function parseV4(text: string): bigint | null {
  const match = V4_TEXT.exec(text);
  if (match === null) return null;
  let value = 0;
  for (const part of match.slice(1)) {
    const octet = Number(part);
    if (octet > 255 || (part.length > 1 && part.startsWith('0'))) return null;
    value = value * 256 + octet;
  }
  return BigInt(value);
}

/** Reads the groups of one side of `::`; a dotted quad may stand last and counts as two groups. */
function parseGroups(text: string, quadAllowed: boolean): number[] | null {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (V6_GROUP.test(part)) {
      groups.push(Number.parseInt(part, 16));
      continue;
    }
    const quad = quadAllowed && index === parts.length - 1 ? parseV4(part) : null;
    if (quad === null) return null;
    groups.push(Number(quad >> 16n), Number(quad & 0xffffn));
  }
  return groups;
}

function parseV6(text: string): bigint | null {
  const sides = text.split('::');
  const [left = '', right] = sides;
  if (sides.length > 2) return null;
  const head = parseGroups(left, right === undefined);
  const tail = parseGroups(right ?? '', true);
  if (head === null || tail === null) return null;
  const gap = 8 - head.length - tail.length;
  if (right === undefined ? gap !== 0 : gap < 1) return null;
  let value = 0n;
  for (const group of [...head, ...Array<number>(gap).fill(0), ...tail]) value = (value << 16n) | BigInt(group);
  return value;
}

function readAddr(text: string): Addr | null {
  if (text.length > LONGEST_TEXT) return null;
  const family: Family = text.includes(':') ? 6 : 4;
  const value = family === 4 ? parseV4(text) : parseV6(text);
  return value === null ? null : { family, value };
}

/** Text for a message: what came in, cut to a length that fits a log line. */
function shown(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 61)}...` : text);
}

/**
 * Reads an address. Leading zeros in IPv4 and zone ids are refused, since other programs read them
 * differently.
 *
 * Source: RFC 4291 §2.2 (IPv6 text); RFC 6943 §3.1.1 (ambiguous IPv4 text).
 * Errors: ERR_INVALID_ADDRESS.
 */
export function parseAddr(text: string, field = 'address'): Addr {
  const addr = readAddr(text);
  if (addr !== null) return addr;
  throw new TsnetError('ERR_INVALID_ADDRESS', `${field}: ${shown(text)} is no IPv4 or IPv6 address`, {
    details: { field, value: text.slice(0, 64) },
  });
}

/** Reports whether a text is an address that `parseAddr` takes. */
export function isAddrText(text: string): boolean {
  return readAddr(text) !== null;
}

function formatV6(value: bigint): string {
  const groups: number[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(Number((value >> shift) & 0xffffn));
  let best = { start: 0, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
    start += length;
  }
  const hex = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  if (best.length < 2) return hex(groups);
  return `${hex(groups.slice(0, best.start))}::${hex(groups.slice(best.start + best.length))}`;
}

/**
 * Writes an address in its one canonical form. IPv4-mapped IPv6 addresses are written like any other
 * IPv6 address, in hexadecimal.
 *
 * Source: RFC 5952 §4.
 */
export function formatAddr(addr: Addr): string {
  if (addr.family === 6) return formatV6(addr.value);
  const bits = Number(addr.value);
  return `${bits >>> 24}.${(bits >>> 16) & 255}.${(bits >>> 8) & 255}.${bits & 255}`;
}

/** Brings an address text into canonical form. Errors: ERR_INVALID_ADDRESS. */
export function canonicalAddr(text: string, field?: string): string {
  return formatAddr(parseAddr(text, field));
}

/** Orders IPv4 before IPv6, then by value; for `Array.prototype.sort`. */
export function compareAddr(a: Addr, b: Addr): number {
  if (a.family !== b.family) return a.family - b.family;
  return a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
}

/** Reports whether two addresses are the same one. */
export function isSameAddr(a: Addr, b: Addr): boolean {
  return a.family === b.family && a.value === b.value;
}

/** The prefix of a length that an address lies in. */
export function prefixOf(addr: Addr, length: number): Prefix {
  const hostBits = BigInt(addrWidth(addr.family) - length);
  return { family: addr.family, base: (addr.value >> hostBits) << hostBits, length };
}

/**
 * Reads a prefix in CIDR notation. Host bits must be clear: `10.1.0.5/24` is refused and the hint
 * names `10.1.0.0/24`.
 *
 * Errors: ERR_INVALID_CIDR.
 */
export function parsePrefix(text: string, field = 'subnet'): Prefix {
  const details = { field, value: text.slice(0, 64) };
  const slash = text.indexOf('/');
  const addr = slash < 0 ? null : readAddr(text.slice(0, slash));
  const lengthText = text.slice(slash + 1);
  const length = /^(0|[1-9]\d{0,2})$/.test(lengthText) ? Number(lengthText) : Infinity;
  if (addr === null || length > addrWidth(addr.family)) {
    throw new TsnetError('ERR_INVALID_CIDR', `${field}: ${shown(text)} is no subnet in CIDR notation`, { details });
  }
  const prefix = prefixOf(addr, length);
  if (prefix.base === addr.value) return prefix;
  const corrected = formatPrefix(prefix);
  throw new TsnetError('ERR_INVALID_CIDR', `${field}: ${shown(text)} has host bits set; the subnet is ${corrected}`, {
    details: { ...details, corrected },
    hint: `Write ${corrected}.`,
  });
}

/** Writes a prefix in CIDR notation, canonical. */
export function formatPrefix(prefix: Prefix): string {
  return `${formatAddr(baseAddr(prefix))}/${prefix.length}`;
}

/** Brings a CIDR text into canonical form. Errors: ERR_INVALID_CIDR. */
export function canonicalPrefix(text: string, field?: string): string {
  return formatPrefix(parsePrefix(text, field));
}

/** The first address of a prefix. */
export function baseAddr(prefix: Prefix): Addr {
  return { family: prefix.family, value: prefix.base };
}

/** The last address of a prefix. */
export function lastAddr(prefix: Prefix): Addr {
  return { family: prefix.family, value: prefix.base + prefixSize(prefix) - 1n };
}

/** Addresses in a prefix, all counted. */
export function prefixSize(prefix: Prefix): bigint {
  return 1n << BigInt(addrWidth(prefix.family) - prefix.length);
}

/** Reports whether an address lies in a prefix; never across families. */
export function containsAddr(prefix: Prefix, addr: Addr): boolean {
  if (prefix.family !== addr.family) return false;
  return (prefix.base ^ addr.value) >> BigInt(addrWidth(prefix.family) - prefix.length) === 0n;
}

/** Reports whether `inner` lies in `outer` as a whole; a prefix contains itself. */
export function containsPrefix(outer: Prefix, inner: Prefix): boolean {
  return inner.length >= outer.length && containsAddr(outer, baseAddr(inner));
}

/** Reports whether two prefixes share an address. */
export function overlaps(a: Prefix, b: Prefix): boolean {
  return containsPrefix(a, b) || containsPrefix(b, a);
}

/** The part two prefixes share, which is the longer of them; null where they share none. */
export function intersectPrefix(a: Prefix, b: Prefix): Prefix | null {
  if (containsPrefix(a, b)) return b;
  return containsPrefix(b, a) ? a : null;
}

/** The address at a distance from a prefix's first. Errors: RangeError where it lies outside. */
export function addrAt(prefix: Prefix, offset: bigint | number): Addr {
  const distance = BigInt(offset);
  if (distance < 0n || distance >= prefixSize(prefix)) {
    throw new RangeError(`offset ${distance} lies outside ${formatPrefix(prefix)}`);
  }
  return { family: prefix.family, value: prefix.base + distance };
}

/** The distance of an address from a prefix's first; negative or too large where it lies outside. */
export function offsetOf(prefix: Prefix, addr: Addr): bigint {
  return addr.value - prefix.base;
}

const MULTICAST = ['224.0.0.0/4', 'ff00::/8'].map((text) => parsePrefix(text));
const LOOPBACK = ['127.0.0.0/8', '::1/128'].map((text) => parsePrefix(text));
const LINK_LOCAL = ['169.254.0.0/16', 'fe80::/10'].map((text) => parsePrefix(text));

/** Source: RFC 6890; ::/8 holds the unspecified, loopback, mapped and translated addresses (RFC 4291 §2.5, RFC 6052). */
const SPECIAL: readonly (readonly [string, readonly Prefix[]])[] = [
  ['multicast', MULTICAST],
  ['loopback', LOOPBACK],
  ['link-local', LINK_LOCAL],
  ['"this network"', [parsePrefix('0.0.0.0/8')]],
  ['reserved', [parsePrefix('240.0.0.0/4'), parsePrefix('::/8')]],
];

const isIn = (prefixes: readonly Prefix[], addr: Addr): boolean =>
  prefixes.some((prefix) => containsAddr(prefix, addr));

/** Reports whether an address is a multicast group. */
export function isMulticast(addr: Addr): boolean {
  return isIn(MULTICAST, addr);
}

/** Reports whether an address is a loopback address. */
export function isLoopback(addr: Addr): boolean {
  return isIn(LOOPBACK, addr);
}

/** Reports whether an address holds on one link only. */
export function isLinkLocal(addr: Addr): boolean {
  return isIn(LINK_LOCAL, addr);
}

/** Reports whether an address is 0.0.0.0 or ::. */
export function isUnspecified(addr: Addr): boolean {
  return addr.value === 0n;
}

/**
 * Checks that a prefix can be a network's subnet: unicast, global or private, and nothing that a
 * kernel or RFC treats apart. How many addresses it must have is the network's matter, not checked here.
 *
 * Errors: ERR_INVALID_CIDR.
 */
export function checkSubnet(prefix: Prefix, field = 'subnet'): void {
  for (const [kind, ranges] of SPECIAL) {
    const range = ranges.find((candidate) => overlaps(candidate, prefix));
    if (range === undefined) continue;
    const value = formatPrefix(prefix);
    throw new TsnetError('ERR_INVALID_CIDR', `${field}: ${value} overlaps the ${kind} range ${formatPrefix(range)}`, {
      details: { field, value, range: formatPrefix(range) },
      hint: 'Choose a private subnet, for example 10.1.0.0/24 or fd00:1::/64.',
    });
  }
}
