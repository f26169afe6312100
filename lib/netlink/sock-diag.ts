import type { Reader } from '../bytes/reader.js';
import { eachAttr } from './attr.js';
import type { NetlinkConnection } from './connection.js';
import { AF_INET, AF_INET6, NLM_F_DUMP } from './constants.js';
import { isNetlinkError } from './errors.js';
import { readInet } from './inet.js';
import type { NetlinkMessage } from './message.js';

/** Protocol number of a connection for `NetlinkConnection.open` (linux/netlink.h). */
export const NETLINK_SOCK_DIAG = 4;

/** linux/sock_diag.h, linux/inet_diag.h; states of net/tcp_states.h */
const SOCK_DIAG_BY_FAMILY = 20;
const INET_DIAG_SKV6ONLY = 11;
const TCP_CLOSE = 7;
const TCP_LISTEN = 10;
const protocolNumbers = { tcp: 6, udp: 17, sctp: 132 } as const;
const inetDiagSockIdBytes = 48;

/** A socket that takes what comes to a port. */
export interface Listener {
  readonly family: 4 | 6;
  /** `0.0.0.0` and `::` are all addresses. */
  readonly address: string;
  readonly port: number;
  /** A socket of family 6 on all addresses takes IPv4 as well, unless told not to. */
  readonly v6only: boolean;
  /** As in the links of /proc/PID/fd. */
  readonly inode: number;
}

/** A socket of UDP that is bound and not connected stands in TCP_CLOSE. */
const stateOf = { tcp: TCP_LISTEN, udp: TCP_CLOSE, sctp: TCP_LISTEN } as const;

function listMessage(protocol: keyof typeof protocolNumbers, family: number): NetlinkMessage {
  return {
    type: SOCK_DIAG_BY_FAMILY,
    flags: NLM_F_DUMP,
    body: (writer) => {
      writer.u8(family);
      writer.u8(protocolNumbers[protocol]);
      // INET_DIAG_SKV6ONLY comes with every answer of family 6.
      writer.u8(0);
      writer.u8(0);
      writer.u32le(1 << stateOf[protocol]);
      writer.zeros(inetDiagSockIdBytes);
    },
    subject: () => `ss -ln ${protocol}`,
  };
}

/** Decodes an `inet_diag_msg`. Errors: DecodeError. */
export function decodeListener(reader: Reader): Listener {
  reader.what = 'inet_diag_msg';
  const isInet6 = reader.u8() === AF_INET6;
  reader.skip(3);
  const port = reader.u16be();
  reader.skip(2);
  const after = reader.end;
  const start = reader.offset;
  reader.end = start + (isInet6 ? 16 : 4);
  const address = readInet(reader);
  reader.end = after;
  reader.offset = start;
  // Source and destination address, interface, cookie; expires, queues, uid.
  reader.skip(16 + 16 + 4 + 8 + 4 + 4 + 4 + 4);
  const inode = reader.u32le();
  let v6only = false;
  eachAttr(reader, (type) => {
    if (type === INET_DIAG_SKV6ONLY) v6only = reader.u8() !== 0;
  });
  return { family: isInet6 ? 6 : 4, address, port, v6only, inode };
}

/**
 * Lists the sockets that listen, or with UDP are bound without a peer.
 *
 * Equivalent to: `ss -ln --tcp`
 * Source: linux/inet_diag.h
 * Errors: NetlinkError, NetlinkTimeout; none, and an empty list, where the kernel does not know the protocol.
 */
export async function listenerList(
  connection: NetlinkConnection,
  protocol: keyof typeof protocolNumbers,
): Promise<Listener[]> {
  const found: Listener[] = [];
  for (const family of [AF_INET, AF_INET6]) {
    try {
      found.push(
        ...(await connection.dump(listMessage(protocol, family), (_header, reader) => decodeListener(reader))),
      );
    } catch (error) {
      if (!isNetlinkError(error, 'ENOENT') && !isNetlinkError(error, 'EINVAL') && !isNetlinkError(error, 'EOPNOTSUPP'))
        throw error;
    }
  }
  return found;
}
