/** Numbers of the DNS protocol. Source: RFC 1035 §3.2, RFC 2782, RFC 3596, RFC 6891, RFC 8482, IANA DNS parameters. */

export const TYPE = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  HINFO: 13,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
} as const;

export const CLASS = { IN: 1, ANY: 255 } as const;

export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16,
} as const;

/** Bits of the header's second word. */
export const FLAG = { QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080, AD: 0x0020, CD: 0x0010 } as const;

/** The DO bit of an OPT record's flags (RFC 3225). */
export const DO_BIT = 0x8000;

export const headerBytes = 12;
/** What a client without EDNS takes over UDP (RFC 1035 §2.3.4). */
export const plainUdpBytes = 512;
/** What goes over any path unfragmented (RFC 9715). */
export const safeUdpBytes = 1232;
export const largestMessageBytes = 65_535;
export const longestNameBytes = 255;
export const longestLabelBytes = 63;

/** What stands for a transfer or an option. */
const unasked: ReadonlySet<number> = new Set([TYPE.OPT, TYPE.IXFR, TYPE.AXFR]);
const namesByType = new Map<number, string>(Object.entries(TYPE).map(([name, number]) => [number, name]));

/** A record type as text: `A`, or `TYPE65` where there is no name for it (RFC 3597 §5). */
export function formatType(type: number): string {
  return namesByType.get(type) ?? `TYPE${type}`;
}

/**
 * Reads a record type as `formatType` writes it, in any case; null for what is none that one asks for.
 */
export function parseType(text: string): number | null {
  const upper = text.toUpperCase();
  const [, digits] = /^TYPE([1-9][0-9]{0,4})$/.exec(upper) ?? [];
  const type =
    digits === undefined ? (Object.entries(TYPE).find(([name]) => name === upper)?.[1] ?? 0) : Number(digits);
  return type < 1 || type > 65_535 || unasked.has(type) ? null : type;
}

/** Every type with a name that one asks for, in the order of the alphabet. */
export function typeNames(): string[] {
  return Object.entries(TYPE)
    .flatMap(([name, type]) => (unasked.has(type) ? [] : [name]))
    .sort();
}
