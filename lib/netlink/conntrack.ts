import type { Reader } from '../bytes/reader.js';
import type { Writer } from '../bytes/writer.js';
import { attrEnd, attrStart, eachAttr, rawAttr, type RawAttr } from './attr.js';
import type { NetlinkConnection } from './connection.js';
import { AF_INET, AF_INET6, NLM_F_DUMP } from './constants.js';
import { isNetlinkError } from './errors.js';
import { readInet } from './inet.js';
import type { NetlinkMessage } from './message.js';

/** Protocol number of a connection for `NetlinkConnection.open` (linux/netlink.h). */
export const NETLINK_NETFILTER = 12;

/** linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_conntrack.h */
const NFNL_SUBSYS_CTNETLINK = 1;
const IPCTNL_MSG_CT_GET = 1;
const IPCTNL_MSG_CT_DELETE = 2;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_TUPLE_IP = 1;
const CTA_IP_V4_SRC = 1;
const CTA_IP_V6_SRC = 3;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_DST = 2;
const CTA_IP_V6_DST = 4;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_DST_PORT = 3;
const CTA_ID = 12;
const CTA_ZONE = 18;
const CTA_FILTER = 25;
const CTA_FILTER_ORIG_FLAGS = 1;
/** Which parts of the tuple a dump is filtered by (net/netfilter/nf_internals.h, CTA_FILTER_F_*). */
const CTA_FILTER_F_CTA_PROTO_NUM = 1 << 3;
const CTA_FILTER_F_CTA_PROTO_DST_PORT = 1 << 5;
const NLA_F_NESTED = 0x8000;

const protocolNumbers = { tcp: 6, udp: 17, sctp: 132 } as const;

/** A tracked connection, by how it began. */
export interface Conntrack {
  readonly protocol: number;
  readonly dst: string;
  readonly dstPort: number;
  /** Where replies come from: the address behind translation. */
  readonly replySrc: string;
  /** The attributes that name it in a deletion, as they were received. */
  readonly identity: readonly RawAttr[];
}

/** Connections by where they were first sent to. */
export interface ConntrackFilter {
  readonly family: 4 | 6;
  readonly protocol: keyof typeof protocolNumbers;
  /** The kernel filters by it; absent: any. */
  readonly dstPort?: number;
}

const afOf = (family: 4 | 6): number => (family === 4 ? AF_INET : AF_INET6);

function nfgenmsg(writer: Writer, family: number): void {
  writer.u8(family);
  writer.zeros(3);
}

function filterBody(writer: Writer, filter: ConntrackFilter): void {
  nfgenmsg(writer, afOf(filter.family));
  const tuple = attrStart(writer, CTA_TUPLE_ORIG | NLA_F_NESTED);
  const proto = attrStart(writer, CTA_TUPLE_PROTO | NLA_F_NESTED);
  const num = attrStart(writer, CTA_PROTO_NUM);
  writer.u8(protocolNumbers[filter.protocol]);
  attrEnd(writer, num);
  if (filter.dstPort !== undefined) {
    const port = attrStart(writer, CTA_PROTO_DST_PORT);
    writer.u16be(filter.dstPort);
    attrEnd(writer, port);
  }
  attrEnd(writer, proto);
  attrEnd(writer, tuple);
  const flags = attrStart(writer, CTA_FILTER | NLA_F_NESTED);
  const orig = attrStart(writer, CTA_FILTER_ORIG_FLAGS);
  writer.u32le(CTA_FILTER_F_CTA_PROTO_NUM | (filter.dstPort === undefined ? 0 : CTA_FILTER_F_CTA_PROTO_DST_PORT));
  attrEnd(writer, orig);
  attrEnd(writer, flags);
}

function listMessage(filter: ConntrackFilter): NetlinkMessage {
  return {
    type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET,
    flags: NLM_F_DUMP,
    body: (writer) => filterBody(writer, filter),
    subject: () =>
      `conntrack -L -p ${filter.protocol}${filter.dstPort === undefined ? '' : ` --orig-port-dst ${filter.dstPort}`}`,
  };
}

/** Decodes a connection; undefined for one without ports. Errors: DecodeError. */
export function decodeConntrack(reader: Reader): Conntrack | undefined {
  reader.what = 'nf_conntrack';
  reader.skip(4);
  const identity: RawAttr[] = [];
  let dst: string | undefined;
  let protocol: number | undefined;
  let dstPort: number | undefined;
  let replySrc = '';
  eachAttr(reader, (type, rawType) => {
    if (type === CTA_TUPLE_REPLY) {
      eachAttr(reader, (part) => {
        if (part !== CTA_TUPLE_IP) return;
        eachAttr(reader, (each) => {
          if (each === CTA_IP_V4_SRC || each === CTA_IP_V6_SRC) replySrc = readInet(reader);
        });
      });
      return;
    }
    if (type !== CTA_TUPLE_ORIG && type !== CTA_ZONE && type !== CTA_ID) return;
    const start = reader.offset;
    identity.push(rawAttr(reader, rawType));
    if (type !== CTA_TUPLE_ORIG) return;
    reader.offset = start;
    eachAttr(reader, (part) => {
      if (part === CTA_TUPLE_IP) {
        eachAttr(reader, (each) => {
          if (each === CTA_IP_V4_DST || each === CTA_IP_V6_DST) dst = readInet(reader);
        });
      } else if (part === CTA_TUPLE_PROTO) {
        eachAttr(reader, (each) => {
          if (each === CTA_PROTO_NUM) protocol = reader.u8();
          else if (each === CTA_PROTO_DST_PORT) dstPort = reader.u16be();
        });
      }
    });
  });
  return dst === undefined || protocol === undefined || dstPort === undefined
    ? undefined
    : { dst, protocol, dstPort, replySrc, identity };
}

/**
 * Lists tracked connections of one family and protocol.
 *
 * Equivalent to: `conntrack -L -f $family -p $protocol --orig-port-dst $port`
 * Source: linux/netfilter/nfnetlink_conntrack.h
 * Errors: NetlinkError, NetlinkTimeout.
 * Cost: the kernel walks all connections; only those that match are sent.
 */
export async function conntrackList(connection: NetlinkConnection, filter: ConntrackFilter): Promise<Conntrack[]> {
  const number = protocolNumbers[filter.protocol];
  const found = await connection.dump(listMessage(filter), (_header, reader) => decodeConntrack(reader));
  // Kernels before 5.8 know no filter and list everything.
  return found.filter(
    (each) => each.protocol === number && (filter.dstPort === undefined || each.dstPort === filter.dstPort),
  );
}

/**
 * Forgets connections; what comes of them next is treated as new. Reports how many there were.
 *
 * Equivalent to: `conntrack -D …`
 * Errors: NetlinkError; none for one that has just ended.
 */
export async function conntrackDelete(
  connection: NetlinkConnection,
  family: 4 | 6,
  entries: readonly Conntrack[],
): Promise<number> {
  const messages = entries.map((entry): NetlinkMessage => ({
    type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE,
    flags: 0,
    body: (writer) => {
      nfgenmsg(writer, afOf(family));
      for (const { type, bytes } of entry.identity) {
        const mark = attrStart(writer, type);
        writer.bytes(bytes);
        attrEnd(writer, mark);
      }
    },
    subject: () => `conntrack -D ${entry.dst}:${entry.dstPort}`,
  }));
  const results = await connection.batch(messages);
  const failed = results.find((result) => result !== undefined && !isNetlinkError(result, 'ENOENT'));
  if (failed !== undefined) throw failed;
  return results.filter((result) => result === undefined).length;
}
