import { parseAddr } from '../../core/addr.js';

const macBytes = (mac: string): number[] => mac.split(':').map((byte) => Number.parseInt(byte, 16));
const word = (value: number): number[] => [value >> 8, value & 0xff];

/** The bytes of an address on the wire. */
export function addrBytes(text: string): number[] {
  const { family, value } = parseAddr(text);
  return [...Buffer.from(value.toString(16).padStart(family === 4 ? 8 : 32, '0'), 'hex')];
}

function checksum(header: readonly number[]): number {
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += ((header[at] ?? 0) << 8) | (header[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

interface Ends {
  readonly from: string;
  readonly to: string;
}

/** A frame in hexadecimal digits. */
export function ethernet(ends: Ends, type: number, payload: readonly number[]): string {
  return Buffer.from([...macBytes(ends.to), ...macBytes(ends.from), ...word(type), ...payload]).toString('hex');
}

/** An IPv4 or IPv6 packet, by its addresses. */
export function ipPacket(ends: Ends, protocol: number, payload: readonly number[]): number[] {
  const addresses = [...addrBytes(ends.from), ...addrBytes(ends.to)];
  if (ends.from.includes(':')) return [0x60, 0, 0, 0, ...word(payload.length), protocol, 255, ...addresses, ...payload];
  const start = [0x45, 0, ...word(20 + payload.length), 0, 0, 0, 0, 64, protocol];
  const sum = checksum([...start, 0, 0, ...addresses]);
  return [...start, ...word(sum), ...addresses, ...payload];
}

/** A UDP datagram without a checksum. */
export function udpDatagram(from: number, to: number, text = 'spoofed!'): number[] {
  const payload = [...Buffer.from(text)];
  return [...word(from), ...word(to), ...word(8 + payload.length), 0, 0, ...payload];
}

/** An ARP packet (RFC 826). */
export function arpPacket(
  operation: 1 | 2,
  sender: { readonly mac: string; readonly address: string },
  target: { readonly mac: string; readonly address: string },
): number[] {
  const of = ({ mac, address }: typeof sender): number[] => [...macBytes(mac), ...addrBytes(address)];
  return [0, 1, 8, 0, 6, 4, ...word(operation), ...of(sender), ...of(target)];
}

/** An ICMPv6 message of neighbour discovery with a target, or of routers (RFC 4861 §4); a redirect's target is its destination too. */
export function icmp6Message(type: 133 | 134 | 135 | 136 | 137, target: string): number[] {
  if (type === 133) return [133, 0, 0, 0, 0, 0, 0, 0];
  if (type === 134) return [134, 0, 0, 0, 64, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0];
  const start = [type, 0, 0, 0, type === 136 ? 0x20 : 0, 0, 0, 0, ...addrBytes(target)];
  return type === 137 ? [...start, ...addrBytes(target)] : start;
}

/** An IPv4 packet that asks its next hop to send it on to another address (LSRR, RFC 791 §3.1). */
export function sourceRouted(ends: Ends, onwards: string, protocol: number, payload: readonly number[]): number[] {
  const addresses = [...addrBytes(ends.from), ...addrBytes(ends.to)];
  const option = [131, 7, 4, ...addrBytes(onwards), 0];
  const start = [0x47, 0, ...word(28 + payload.length), 0, 0, 0, 0, 64, protocol];
  const sum = checksum([...start, 0, 0, ...addresses, ...option]);
  return [...start, ...word(sum), ...addresses, ...option, ...payload];
}

/** Source: RFC 9260 appendix A. */
function crc32c(bytes: readonly number[]): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

const long = (value: number): number[] => [...word(value >>> 16), ...word(value & 0xffff)];

/** The first packet of an SCTP association, or the answer to it (RFC 9260 §3.3.2, §3.3.3); the kernel here has no SCTP sockets. */
export function sctpPacket(kind: 'init' | 'init-ack', from: number, to: number): number[] {
  const isAnswer = kind === 'init-ack';
  const tag = 0x01020304;
  const ports = [...word(from), ...word(to), ...long(isAnswer ? tag : 0)];
  const chunk = [isAnswer ? 2 : 1, 0, ...word(20), ...long(tag), ...long(65_536), ...word(1), ...word(1), ...long(1)];
  const crc = crc32c([...ports, 0, 0, 0, 0, ...chunk]);
  return [...ports, crc & 0xff, (crc >>> 8) & 0xff, (crc >>> 16) & 0xff, crc >>> 24, ...chunk];
}
