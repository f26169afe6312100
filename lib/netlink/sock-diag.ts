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

/** States of net/tcp_states.h in which both ends are known and may still send. */
const openStates = { established: 1, finWait1: 4, finWait2: 5, closeWait: 8 } as const;
/** States before and after these: a connection that is being opened, and one whose last bytes may still be on their way. */
export const endingStates: readonly number[] = [3, 9, 11];
/** `::ffff:0:0/96`: how a socket of both families shows IPv4. */
const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/;

/** A TCP socket; one that listens has no remote end. */
export interface TcpSocket {
  readonly listens: boolean;
  readonly local: string;
  readonly localPort: number;
  readonly remote: string;
  readonly remotePort: number;
}

/** Asks for the TCP sockets of one family that listen or are connected, or in further states. Equivalent to: `ss -tan` */
export function tcpListMessage(family: 4 | 6, further: readonly number[] = []): NetlinkMessage {
  const states = [TCP_LISTEN, ...Object.values(openStates), ...further];
  return {
    type: SOCK_DIAG_BY_FAMILY,
    flags: NLM_F_DUMP,
    body: (writer) => {
      writer.u8(family === 4 ? AF_INET : AF_INET6);
      writer.u8(protocolNumbers.tcp);
      writer.zeros(2);
      writer.u32le(states.reduce((mask, state) => mask | (1 << state), 0));
      writer.zeros(inetDiagSockIdBytes);
    },
    subject: () => `ss -tan -${family}`,
  };
}

/** Decodes an answer to `tcpListMessage`. Source: linux/inet_diag.h. Errors: DecodeError. */
export function decodeTcpSocket(reader: Reader): TcpSocket {
  reader.what = 'inet_diag_msg';
  const sizeBytes = reader.u8() === AF_INET6 ? 16 : 4;
  const listens = reader.u8() === TCP_LISTEN;
  reader.skip(2);
  const [localPort, remotePort] = [reader.u16be(), reader.u16be()];
  const { end, offset } = reader;
  const address = (at: number): string => {
    reader.offset = at;
    reader.end = at + sizeBytes;
    const text = readInet(reader);
    reader.end = end;
    return mapped.exec(text)?.[1] ?? text;
  };
  const [local, remote] = [address(offset), address(offset + 16)];
  reader.offset = end;
  return { listens, local, localPort, remote, remotePort };
}
