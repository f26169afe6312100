import type { Reader } from '../bytes/reader.js';
import type { Writer } from '../bytes/writer.js';
import {
  attrInet,
  attrsRaw,
  attrStart,
  attrEnd,
  attrText,
  attrU32,
  eachAttr,
  rawAttr,
  type RawAttr,
  type WithUnknown,
} from './attr.js';
import type { NetlinkConnection } from './connection.js';
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  IFA_ADDRESS,
  IFA_BROADCAST,
  IFA_CACHEINFO,
  IFA_FLAGS,
  IFA_LABEL,
  IFA_LOCAL,
  IFA_PROTO,
  IFA_RT_PRIORITY,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  RTM_DELADDR,
  RTM_GETADDR,
  RTM_NEWADDR,
} from './constants.js';
import { inetFamily, readInet, splitPrefix } from './inet.js';
import type { NetlinkMessage } from './message.js';

/** Lifetimes of an address (linux/if_addr.h, struct ifa_cacheinfo); 0xffffffff s is for ever. */
export interface AddrCacheinfo {
  readonly preferredSec: number;
  readonly validSec: number;
  /** Hundredths of a second since boot; the kernel's to say. */
  readonly cstamp?: number;
  readonly tstamp?: number;
}

/** An address on a link (linux/if_addr.h, struct ifaddrmsg and IFA_*). */
export interface Addr extends WithUnknown {
  readonly ifindex: number;
  /** The local address with its prefix length: `10.1.0.5/24`. */
  readonly address: string;
  /** The other end of a point-to-point link, without a length. */
  readonly peer?: string;
  readonly broadcast?: string;
  /** IPv4 only; begins with the link's name. */
  readonly label?: string;
  /** `RT_SCOPE_*`; universe when absent. */
  readonly scope?: number;
  /** `IFA_F_*`, e.g. `IFA_F_NODAD | IFA_F_NOPREFIXROUTE`. */
  readonly flags?: number;
  /** Metric of the prefix route. */
  readonly priority?: number;
  /** `IFA_PROTO`: who made it. Kernels before 5.18 drop it. */
  readonly protocol?: number;
  readonly cacheinfo?: AddrCacheinfo;
}

/** Writes the body of an address message. */
export function encodeAddr(writer: Writer, addr: Addr): void {
  const { address, length } = splitPrefix(addr.address);
  const flags = addr.flags ?? 0;
  writer.u8(inetFamily(address));
  writer.u8(length);
  writer.u8(flags & 0xff);
  writer.u8(addr.scope ?? 0);
  writer.u32le(addr.ifindex);
  attrInet(writer, IFA_LOCAL, address);
  attrInet(writer, IFA_ADDRESS, addr.peer ?? address);
  if (addr.broadcast !== undefined) attrInet(writer, IFA_BROADCAST, addr.broadcast);
  if (addr.label !== undefined) attrText(writer, IFA_LABEL, addr.label);
  if (addr.flags !== undefined) attrU32(writer, IFA_FLAGS, flags);
  if (addr.priority !== undefined) attrU32(writer, IFA_RT_PRIORITY, addr.priority);
  if (addr.protocol !== undefined) {
    const mark = attrStart(writer, IFA_PROTO);
    writer.u8(addr.protocol);
    attrEnd(writer, mark);
  }
  if (addr.cacheinfo !== undefined) {
    const { preferredSec, validSec, cstamp = 0, tstamp = 0 } = addr.cacheinfo;
    const mark = attrStart(writer, IFA_CACHEINFO);
    for (const word of [preferredSec, validSec, cstamp, tstamp]) writer.u32le(word);
    attrEnd(writer, mark);
  }
  attrsRaw(writer, addr.unknown);
}

/**
 * Decodes the body of an `RTM_NEWADDR` or `RTM_DELADDR`.
 *
 * Errors: DecodeError; also when there is no address in it.
 */
export function decodeAddr(reader: Reader): Addr {
  reader.what = 'ifaddrmsg';
  reader.u8();
  const length = reader.u8();
  const headerFlags = reader.u8();
  const scope = reader.u8();
  const ifindex = reader.u32le();
  let local: string | undefined;
  let address: string | undefined;
  const addr: { -readonly [K in keyof Addr]: Addr[K] } = { ifindex, address: '', scope, flags: headerFlags };
  const unknown: RawAttr[] = [];
  eachAttr(reader, (type, rawType) => {
    switch (type) {
      case IFA_LOCAL:
        local = readInet(reader);
        break;
      case IFA_ADDRESS:
        address = readInet(reader);
        break;
      case IFA_BROADCAST:
        addr.broadcast = readInet(reader);
        break;
      case IFA_LABEL:
        addr.label = reader.text(reader.remaining);
        break;
      case IFA_FLAGS:
        addr.flags = reader.u32le();
        break;
      case IFA_RT_PRIORITY:
        addr.priority = reader.u32le();
        break;
      case IFA_PROTO:
        addr.protocol = reader.u8();
        break;
      case IFA_CACHEINFO:
        addr.cacheinfo = {
          preferredSec: reader.u32le(),
          validSec: reader.u32le(),
          cstamp: reader.u32le(),
          tstamp: reader.u32le(),
        };
        break;
      default:
        unknown.push(rawAttr(reader, rawType));
    }
  });
  const own = local ?? address;
  if (own === undefined) throw reader.error('has neither IFA_LOCAL nor IFA_ADDRESS');
  addr.address = `${own}/${length}`;
  if (address !== undefined && address !== own) addr.peer = address;
  if (unknown.length > 0) addr.unknown = unknown;
  return addr;
}

function addrMessage(type: number, flags: number, addr: Addr): NetlinkMessage {
  return {
    type,
    flags,
    body: (writer) => encodeAddr(writer, addr),
    subject: () => `${addr.address} dev #${addr.ifindex}`,
  };
}

/** The request of `addrAdd`. */
export function addrAddMessage(addr: Addr): NetlinkMessage {
  return addrMessage(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, addr);
}

/** The request of `addrReplace`. */
export function addrReplaceMessage(addr: Addr): NetlinkMessage {
  return addrMessage(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, addr);
}

/** The request of `addrDelete`. */
export function addrDeleteMessage(addr: Addr): NetlinkMessage {
  return addrMessage(RTM_DELADDR, 0, addr);
}

/** The request of `addrList`: of one link, of one family, or all. */
export function addrListMessage(filter: { readonly ifindex?: number; readonly family?: number } = {}): NetlinkMessage {
  return {
    type: RTM_GETADDR,
    flags: NLM_F_DUMP,
    body: (writer) => {
      writer.u8(filter.family ?? AF_UNSPEC);
      writer.zeros(3);
      writer.u32le(filter.ifindex ?? 0);
    },
    subject: () => (filter.ifindex === undefined ? '' : `dev #${filter.ifindex}`),
  };
}

/**
 * Adds an address to a link.
 *
 * Equivalent to: `ip addr add $address dev $link`
 * Source: linux/if_addr.h; net/ipv4/devinet.c, net/ipv6/addrconf.c
 * Errors: NetlinkError EEXIST when the link has it, ENODEV when there is no such link.
 */
export async function addrAdd(connection: NetlinkConnection, addr: Addr): Promise<void> {
  await connection.request(addrAddMessage(addr));
}

/**
 * Adds an address to a link, or changes the lifetimes, flags and metric of the one that is there.
 *
 * Equivalent to: `ip addr replace $address dev $link`
 * Source: linux/if_addr.h; net/ipv4/devinet.c, net/ipv6/addrconf.c
 * Errors: NetlinkError ENODEV when there is no such link.
 */
export async function addrReplace(connection: NetlinkConnection, addr: Addr): Promise<void> {
  await connection.request(addrReplaceMessage(addr));
}

/**
 * Removes an address from a link.
 *
 * Equivalent to: `ip addr del $address dev $link`
 * Errors: NetlinkError EADDRNOTAVAIL when the link does not have it, ENODEV when there is no such link.
 */
export async function addrDelete(connection: NetlinkConnection, addr: Addr): Promise<void> {
  await connection.request(addrDeleteMessage(addr));
}

/** Decodes one message of an address dump, undefined for a family other than IPv4 and IPv6. */
export function addrFromDump(reader: Reader): Addr | undefined {
  const family = reader.buffer[reader.offset];
  return family === AF_INET || family === AF_INET6 ? decodeAddr(reader) : undefined;
}

/**
 * Lists IPv4 and IPv6 addresses, of one link where `ifindex` is given.
 *
 * Equivalent to: `ip addr show dev $link`
 * Errors: NetlinkError ENODEV when there is no such link; DumpInterrupted.
 */
export async function addrList(
  connection: NetlinkConnection,
  filter: { readonly ifindex?: number; readonly family?: number } = {},
): Promise<Addr[]> {
  return connection.dump(addrListMessage(filter), (_header, reader) => addrFromDump(reader));
}
