import { baseAddr, formatAddr, lastAddr, parsePrefix, type Addr } from '../addr.js';
import type { PolicyPort } from '../model.js';

/** Addresses of one family. */
export interface Range {
  readonly first: Addr;
  readonly last: Addr;
}

/** Ranges in order without overlap; neighbours become one. */
export function mergeRanges(ranges: readonly Range[]): Range[] {
  const sorted = [...ranges].sort((a, b) => (a.first.value < b.first.value ? -1 : 1));
  const merged: Range[] = [];
  for (const range of sorted) {
    const before = merged.at(-1);
    if (before === undefined || range.first.value > before.last.value + 1n) merged.push(range);
    else if (range.last.value > before.last.value) merged[merged.length - 1] = { ...before, last: range.last };
  }
  return merged;
}

/** The addresses of a prefix. */
export function rangeOf(cidr: string): Range {
  const prefix = parsePrefix(cidr);
  return { first: baseAddr(prefix), last: lastAddr(prefix) };
}

/** What is left of a range. */
export function without(range: Range, parts: readonly Range[]): Range[] {
  const { family } = range.first;
  const left: Range[] = [];
  let { value: next } = range.first;
  for (const part of mergeRanges(parts)) {
    if (part.first.value > next)
      left.push({ first: { family, value: next }, last: { family, value: part.first.value - 1n } });
    next = part.last.value + 1n;
  }
  if (next <= range.last.value) left.push({ first: { family, value: next }, last: range.last });
  return left;
}

/** Writes a range as an element of an interval set. */
export function formatRange({ first, last }: Range): string {
  return first.value === last.value ? formatAddr(first) : `${formatAddr(first)}-${formatAddr(last)}`;
}

/** Ports of one protocol. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Ports in order without overlap; neighbours become one. Entries without a port are left out. */
export function mergePorts(ports: readonly PolicyPort[]): PortRange[] {
  const sorted = ports
    .flatMap(({ port, endPort = port }) =>
      port === undefined || endPort === undefined ? [] : [{ first: port, last: endPort }],
    )
    .sort((a, b) => a.first - b.first);
  const merged: PortRange[] = [];
  for (const range of sorted) {
    const before = merged.at(-1);
    if (before === undefined || range.first > before.last + 1) merged.push(range);
    else merged[merged.length - 1] = { first: before.first, last: Math.max(before.last, range.last) };
  }
  return merged;
}
