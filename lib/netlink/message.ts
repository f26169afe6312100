import { DecodeError, Reader } from '../bytes/reader.js';
import type { Writer } from '../bytes/writer.js';
import { eachAttr } from './attr.js';
import {
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSGERR_ATTR_MISS_NEST,
  NLMSGERR_ATTR_MISS_TYPE,
  NLMSGERR_ATTR_MSG,
  NLMSGERR_ATTR_OFFS,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELLINKPROP,
  RTM_DELNEIGH,
  RTM_DELROUTE,
  RTM_GETADDR,
  RTM_GETLINK,
  RTM_GETNEIGH,
  RTM_GETROUTE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWLINKPROP,
  RTM_NEWNEIGH,
  RTM_NEWROUTE,
  RTM_SETLINK,
} from './constants.js';
import type { ExtAck } from './errors.js';

/**
 *  0               4       6       8              12              16
 * +---------------+-------+-------+---------------+---------------+- - -
 * |   nlmsg_len   | type  | flags |   nlmsg_seq   |   nlmsg_pid   | body
 * +---------------+-------+-------+---------------+---------------+- - -
 */
export const messageHeaderBytes = 16;

/** One request, ready to be written into a batch. Builders make it; connections number and send it. */
export interface NetlinkMessage {
  readonly type: number;
  /** Flags beyond `NLM_F_REQUEST` and `NLM_F_ACK`, which whoever sends it adds. */
  readonly flags: number;
  /** Writes the family header and the attributes. */
  readonly body: (writer: Writer) => void;
  /** The subject for error texts, in the words of `ip`: `vx1 mtu 1450`. */
  readonly subject: () => string;
}

/** The header of a received message (linux/netlink.h, struct nlmsghdr). */
export interface MessageHeader {
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
  readonly portid: number;
}

const messageNames = new Map(
  Object.entries({
    RTM_NEWLINK,
    RTM_DELLINK,
    RTM_GETLINK,
    RTM_SETLINK,
    RTM_NEWADDR,
    RTM_DELADDR,
    RTM_GETADDR,
    RTM_NEWROUTE,
    RTM_DELROUTE,
    RTM_GETROUTE,
    RTM_NEWNEIGH,
    RTM_DELNEIGH,
    RTM_GETNEIGH,
    RTM_NEWLINKPROP,
    RTM_DELLINKPROP,
  }).map(([name, type]) => [type, name]),
);

/** A request in words, for errors and logs: `RTM_NEWLINK vx1 type vxlan`. */
export function formatMessage(message: NetlinkMessage): string {
  const subject = message.subject();
  const name = messageNames.get(message.type) ?? `message type ${message.type}`;
  return subject === '' ? name : `${name} ${subject}`;
}

/** Writes one message with its header; `flags` are added to the message's own and `NLM_F_REQUEST`. */
export function encodeMessage(writer: Writer, message: NetlinkMessage, options: { seq: number; flags: number }): void {
  const start = writer.reserve(messageHeaderBytes);
  message.body(writer);
  writer.setU32le(start, writer.length - start);
  writer.setU16le(start + 4, message.type);
  writer.setU16le(start + 6, message.flags | options.flags | NLM_F_REQUEST);
  writer.setU32le(start + 8, options.seq);
  writer.setU32le(start + 12, 0);
  writer.zeros(-writer.length & 3);
}

/**
 * Calls `visit` for each message of a datagram, with the reader confined to the body.
 *
 * Errors: DecodeError when a length is shorter than its header or passes the datagram's end;
 * messages before it have been visited.
 */
export function eachMessage(datagram: Buffer, visit: (header: MessageHeader, reader: Reader) => void): void {
  let start = 0;
  while (start < datagram.length) {
    if (datagram.length - start < messageHeaderBytes) {
      throw new DecodeError('nlmsghdr', start, datagram.length - start);
    }
    const length = datagram.readUInt32LE(start);
    if (length < messageHeaderBytes || length > datagram.length - start) {
      throw new DecodeError('nlmsghdr', start, datagram.length - start, `impossible length ${length}`);
    }
    const reader = new Reader(datagram, 'nlmsghdr');
    reader.offset = start + messageHeaderBytes;
    reader.end = start + length;
    const header = {
      type: datagram.readUInt16LE(start + 4),
      flags: datagram.readUInt16LE(start + 6),
      seq: datagram.readUInt32LE(start + 8),
      portid: datagram.readUInt32LE(start + 12),
    };
    visit(header, reader);
    start += (length + 3) & ~3;
  }
}

/** Reports whether a dump's message says that what is listed changed meanwhile (`NLM_F_DUMP_INTR`). */
export function isInterrupted(header: MessageHeader): boolean {
  return (header.flags & NLM_F_DUMP_INTR) !== 0;
}

/** A terminal answer: `NLMSG_ERROR` (errno 0 is the acknowledgement) or `NLMSG_DONE`. */
export interface Answer {
  /** Positive error number, 0 for success. */
  readonly errno: number;
  readonly extAck?: ExtAck;
}

function decodeExtAck(reader: Reader): ExtAck {
  const extAck: { -readonly [K in keyof ExtAck]: ExtAck[K] } = {};
  reader.what = 'nlmsgerr_attrs';
  eachAttr(reader, (type) => {
    if (type === NLMSGERR_ATTR_MSG) extAck.message = reader.text(reader.remaining);
    else if (type === NLMSGERR_ATTR_OFFS) extAck.offset = reader.u32le();
    else if (type === NLMSGERR_ATTR_MISS_TYPE) extAck.missingType = reader.u32le();
    else if (type === NLMSGERR_ATTR_MISS_NEST) extAck.missingNest = reader.u32le();
  });
  return extAck;
}

/**
 * Decodes the body of an `NLMSG_ERROR`: errno, the refused request's header (and the rest of it
 * unless capped), then the extended acknowledgement.
 *
 * Source: linux/netlink.h, struct nlmsgerr
 * Errors: DecodeError.
 */
export function decodeError(reader: Reader, flags: number): Answer {
  reader.what = 'nlmsgerr';
  const errno = Math.abs(reader.i32le());
  const request = reader.skip(messageHeaderBytes);
  if ((flags & NLM_F_ACK_TLVS) === 0) return { errno };
  if ((flags & NLM_F_CAPPED) === 0 && errno !== 0) {
    const length = reader.buffer.readUInt32LE(request);
    const rest = length - messageHeaderBytes;
    if (rest < 0 || rest > reader.remaining) throw reader.error(`impossible length ${length} of the request`);
    reader.skip((rest + 3) & ~3);
  }
  return { errno, extAck: decodeExtAck(reader) };
}

/**
 * Decodes the body of an `NLMSG_DONE`: errno, then the extended acknowledgement.
 *
 * Errors: DecodeError.
 */
export function decodeDone(reader: Reader, flags: number): Answer {
  reader.what = 'NLMSG_DONE';
  if (reader.remaining === 0) return { errno: 0 };
  const errno = Math.abs(reader.i32le());
  return (flags & NLM_F_ACK_TLVS) === 0 ? { errno } : { errno, extAck: decodeExtAck(reader) };
}
