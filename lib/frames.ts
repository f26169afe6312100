import { Writer } from './bytes/writer.js';
import { inetFamily, writeInet } from './netlink/inet.js';
import { AF_INET } from './netlink/constants.js';

const etherTypeIpv4 = 0x0800;
const etherTypeIpv6 = 0x86dd;
const etherTypeArp = 0x0806;
const broadcastMac = 'ff:ff:ff:ff:ff:ff';
/** ff02::1 at the link layer (RFC 2464 §7). */
const allNodesMac = '33:33:00:00:00:01';
const allNodes = 'ff02::1';
const icmpv6 = 58;

/** Who an address is now, and from where that is said. */
export interface AddressAnnouncement {
  /** MAC of the link that sends the frame. */
  readonly from: string;
  readonly address: string;
  readonly mac: string;
}

/**
 * Encodes the frame that tells everybody on a link which MAC an address has now: a gratuitous ARP reply for IPv4, an
 * unsolicited neighbour advertisement with the override flag for IPv6. Neighbour tables that have the address take
 * it over at once; others ignore it.
 *
 * Equivalent to: `arping -U -I $link $address`, `ndptool -t na -U -i $link -T $address send`
 * Source: RFC 5227 §3, RFC 826; RFC 4861 §4.4 and §7.2.6
 */
export function encodeAnnouncement(announcement: AddressAnnouncement): Uint8Array {
  const { from, address, mac } = announcement;
  const writer = new Writer(128);
  if (inetFamily(address) === AF_INET) {
    writeHeader(writer, { to: broadcastMac, from, type: etherTypeArp });
    writeWords(writer, [1, etherTypeIpv4, 0x0604, 2]);
    writeMac(writer, mac);
    writeInet(writer, address);
    // Linux takes a reply for gratuitous only when both hardware addresses are the same (net/ipv4/arp.c: arp_is_garp).
    writeMac(writer, mac);
    writeInet(writer, address);
    return writer.written();
  }
  writeHeader(writer, { to: allNodesMac, from, type: etherTypeIpv6 });
  const payload = neighbourAdvertisement(address, mac);
  writeWords(writer, [0x6000, 0, payload.length]);
  writer.u8(icmpv6);
  writer.u8(255);
  writeInet(writer, address);
  writeInet(writer, allNodes);
  writer.bytes(payload);
  return writer.written();
}

/** ICMPv6 type 136 with the override flag and the target's link-layer address as option 2. */
function neighbourAdvertisement(address: string, mac: string): Uint8Array {
  const body = new Writer(32);
  body.u8(136);
  body.u8(0);
  writeWords(body, [0, 0x2000, 0]);
  writeInet(body, address);
  body.u8(2);
  body.u8(1);
  writeMac(body, mac);
  const payload = body.written();
  const pseudo = new Writer(80);
  writeInet(pseudo, address);
  writeInet(pseudo, allNodes);
  writeWords(pseudo, [0, payload.length, 0, icmpv6]);
  pseudo.bytes(payload);
  const sum = internetChecksum(pseudo.written());
  payload[2] = sum >> 8;
  payload[3] = sum & 0xff;
  return payload;
}

/** RFC 1071. */
function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function writeHeader(
  writer: Writer,
  header: { readonly to: string; readonly from: string; readonly type: number },
): void {
  writeMac(writer, header.to);
  writeMac(writer, header.from);
  writeWords(writer, [header.type]);
}

/** 16-bit words in network order. */
function writeWords(writer: Writer, words: readonly number[]): void {
  for (const word of words) {
    writer.u8(word >> 8);
    writer.u8(word & 0xff);
  }
}

function writeMac(writer: Writer, mac: string): void {
  for (const pair of mac.split(':')) writer.u8(Number.parseInt(pair, 16));
}
