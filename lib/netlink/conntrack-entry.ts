import type { Writer } from '../bytes/writer.js';
import { attrEnd, attrInet, attrStart } from './attr.js';
import type { NetlinkConnection } from './connection.js';
import { AF_INET, AF_INET6, NLM_F_CREATE, NLM_F_EXCL } from './constants.js';
import { isNetlinkError } from './errors.js';
import type { NetlinkMessage } from './message.js';

/** linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h, nf_conntrack_tcp.h */
const NFNL_SUBSYS_CTNETLINK = 1;
const IPCTNL_MSG_CT_NEW = 0;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_STATUS = 3;
const CTA_PROTOINFO = 4;
const CTA_TIMEOUT = 7;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_SRC = 1;
const CTA_IP_V4_DST = 2;
const CTA_IP_V6_SRC = 3;
const CTA_IP_V6_DST = 4;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
const CTA_PROTOINFO_TCP = 1;
const CTA_PROTOINFO_TCP_STATE = 1;
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4;
const CTA_PROTOINFO_TCP_FLAGS_REPLY = 5;
const IPS_SEEN_REPLY = 1 << 1;
const IPS_ASSURED = 1 << 2;
const IPS_CONFIRMED = 1 << 3;
const TCP_CONNTRACK_ESTABLISHED = 3;
/** Windows are not known: none is too big. */
const IP_CT_TCP_FLAG_BE_LIBERAL = 0x08;
const NLA_F_NESTED = 0x8000;
const tcpNumber = 6;
/** Of an established connection, as the kernel has it. */
const timeoutSec = 432_000;

/** An open TCP connection, by who opened it. */
export interface TcpFlow {
  readonly client: string;
  readonly clientPort: number;
  readonly server: string;
  readonly serverPort: number;
}

function nested(writer: Writer, type: number, body: () => void): void {
  const mark = attrStart(writer, type | NLA_F_NESTED);
  body();
  attrEnd(writer, mark);
}

function sized(writer: Writer, type: number, body: () => void): void {
  const mark = attrStart(writer, type);
  body();
  attrEnd(writer, mark);
}

interface End {
  readonly address: string;
  readonly port: number;
}

function tuple(writer: Writer, type: number, from: End, to: End): void {
  const isInet6 = from.address.includes(':');
  nested(writer, type, () => {
    nested(writer, CTA_TUPLE_IP, () => {
      attrInet(writer, isInet6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, from.address);
      attrInet(writer, isInet6 ? CTA_IP_V6_DST : CTA_IP_V4_DST, to.address);
    });
    nested(writer, CTA_TUPLE_PROTO, () => {
      sized(writer, CTA_PROTO_NUM, () => writer.u8(tcpNumber));
      sized(writer, CTA_PROTO_SRC_PORT, () => writer.u16be(from.port));
      sized(writer, CTA_PROTO_DST_PORT, () => writer.u16be(to.port));
    });
  });
}

/** Encodes the request for one flow. */
export function conntrackNewMessage(flow: TcpFlow): NetlinkMessage {
  const client = { address: flow.client, port: flow.clientPort };
  const server = { address: flow.server, port: flow.serverPort };
  return {
    type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: (writer) => {
      writer.u8(flow.client.includes(':') ? AF_INET6 : AF_INET);
      writer.zeros(3);
      tuple(writer, CTA_TUPLE_ORIG, client, server);
      tuple(writer, CTA_TUPLE_REPLY, server, client);
      sized(writer, CTA_STATUS, () => writer.u32be(IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED));
      sized(writer, CTA_TIMEOUT, () => writer.u32be(timeoutSec));
      nested(writer, CTA_PROTOINFO, () =>
        nested(writer, CTA_PROTOINFO_TCP, () => {
          sized(writer, CTA_PROTOINFO_TCP_STATE, () => writer.u8(TCP_CONNTRACK_ESTABLISHED));
          for (const type of [CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, CTA_PROTOINFO_TCP_FLAGS_REPLY]) {
            sized(writer, type, () => {
              writer.u8(IP_CT_TCP_FLAG_BE_LIBERAL);
              writer.u8(IP_CT_TCP_FLAG_BE_LIBERAL);
            });
          }
        }),
      );
    },
    subject: () => `conntrack -I -p tcp -s ${flow.client} -d ${flow.server} --dport ${flow.serverPort}`,
  };
}

/**
 * Makes open TCP connections known to the kernel's tracking, which otherwise takes whoever speaks next for the one who
 * opened it. Reports how many were not known before; one that is known, also translated, stays as it is.
 *
 * Equivalent to: `conntrack -I -p tcp -s $client -d $server --sport … --dport … --state ESTABLISHED --timeout 432000`
 * Source: linux/netfilter/nfnetlink_conntrack.h
 * Errors: NetlinkError, NetlinkTimeout.
 */
export async function conntrackAdopt(connection: NetlinkConnection, flows: readonly TcpFlow[]): Promise<number> {
  const results = await connection.batch(flows.map(conntrackNewMessage));
  const failed = results.find((result) => result !== undefined && !isNetlinkError(result, 'EEXIST'));
  if (failed !== undefined) throw failed;
  return results.filter((result) => result === undefined).length;
}
