import type { Reader } from '../bytes/reader.js';
import type { Writer } from '../bytes/writer.js';
import { attrU32 } from './attr.js';
import type { NetlinkConnection } from './connection.js';
import {
  AF_BRIDGE,
  NDA_MASTER,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NTF_MASTER,
  NTF_SELF,
  NUD_NOARP,
  NUD_PERMANENT,
  NUD_REACHABLE,
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
} from './constants.js';
import type { NetlinkMessage } from './message.js';
import { decodeNdaAttrs, decodeNdmsg, encodeNdaAttrs, encodeNdmsg, type NdaAttrs } from './ndmsg.js';

/**
 * A forwarding-database entry: where frames to a MAC go.
 *
 * With `NTF_SELF` it is the link's own: on a VXLAN device `dst` is the VTEP, and the all-zero MAC
 * stands for all that is not known (one entry with many destinations: append). With `NTF_MASTER`
 * it is the bridge's, saying that the MAC is behind this port.
 */
export interface Fdb extends NdaAttrs {
  /** The VXLAN device (`NTF_SELF`) or the bridge's port (`NTF_MASTER`). */
  readonly ifindex: number;
  readonly lladdr: string;
  /** VTEP, IPv4 or IPv6. */
  readonly dst?: string;
  /**
   * `NUD_*`. When absent: `NUD_NOARP | NUD_PERMANENT` with `NTF_SELF`, `NUD_NOARP | NUD_REACHABLE`
   * (static) with `NTF_MASTER`, where permanent would say that the MAC is the host's own.
   */
  readonly state?: number;
  /** `NTF_*`; `NTF_SELF` when absent. */
  readonly flags?: number;
}

/** Writes the body of a forwarding-database message. */
export function encodeFdb(writer: Writer, fdb: Fdb): void {
  const flags = fdb.flags ?? NTF_SELF;
  const lifetime = (flags & NTF_MASTER) === 0 ? NUD_PERMANENT : NUD_REACHABLE;
  encodeNdmsg(writer, {
    family: AF_BRIDGE,
    ifindex: fdb.ifindex,
    state: fdb.state ?? NUD_NOARP | lifetime,
    flags,
    type: 0,
  });
  encodeNdaAttrs(writer, fdb);
}

/**
 * Decodes the body of an `RTM_NEWNEIGH` or `RTM_DELNEIGH` of family AF_BRIDGE.
 *
 * Errors: DecodeError; also when there is no link-layer address in it.
 */
export function decodeFdb(reader: Reader): Fdb {
  const { ifindex, state, flags } = decodeNdmsg(reader);
  const fdb = decodeNdaAttrs(reader, { ifindex, state, flags });
  const { lladdr } = fdb;
  if (lladdr === undefined) throw reader.error('has no NDA_LLADDR');
  return { ...fdb, lladdr };
}

function fdbMessage(type: number, flags: number, fdb: Fdb): NetlinkMessage {
  return {
    type,
    flags,
    body: (writer) => encodeFdb(writer, fdb),
    subject: () => {
      const dst = fdb.dst === undefined ? '' : ` dst ${fdb.dst}`;
      return `fdb ${fdb.lladdr}${dst} dev #${fdb.ifindex}`;
    },
  };
}

/** The request of `fdbAdd`. */
export function fdbAddMessage(fdb: Fdb): NetlinkMessage {
  return fdbMessage(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, fdb);
}

/** The request of `fdbAppend`. */
export function fdbAppendMessage(fdb: Fdb): NetlinkMessage {
  return fdbMessage(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_APPEND, fdb);
}

/** The request of `fdbReplace`. */
export function fdbReplaceMessage(fdb: Fdb): NetlinkMessage {
  return fdbMessage(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, fdb);
}

/** The request of `fdbDelete`. */
export function fdbDeleteMessage(fdb: Fdb): NetlinkMessage {
  return fdbMessage(RTM_DELNEIGH, 0, fdb);
}

/** Which entries to list: of one link, or of one bridge's ports; the kernel does the filtering. */
export interface FdbFilter {
  readonly ifindex?: number;
  readonly master?: number;
}

/** The request of `fdbList`. */
export function fdbListMessage(filter: FdbFilter = {}): NetlinkMessage {
  return {
    type: RTM_GETNEIGH,
    flags: NLM_F_DUMP,
    body: (writer) => {
      encodeNdmsg(writer, { family: AF_BRIDGE, ifindex: filter.ifindex ?? 0, state: 0, flags: 0, type: 0 });
      if (filter.master !== undefined) attrU32(writer, NDA_MASTER, filter.master);
    },
    subject: () => (filter.ifindex === undefined ? 'fdb' : `fdb dev #${filter.ifindex}`),
  };
}

/** Decodes one message of a forwarding-database dump, undefined for another family's. */
export function fdbFromDump(reader: Reader): Fdb | undefined {
  return reader.buffer[reader.offset] === AF_BRIDGE ? decodeFdb(reader) : undefined;
}

/**
 * Adds an entry that is not there yet.
 *
 * Equivalent to: `bridge fdb add $mac dev $link dst $dst self permanent`
 * Errors: NetlinkError EEXIST when the MAC has an entry, EOPNOTSUPP when the link keeps none.
 */
export async function fdbAdd(connection: NetlinkConnection, fdb: Fdb): Promise<void> {
  await connection.request(fdbAddMessage(fdb));
}

/**
 * Adds one more destination to a multicast or the all-zero MAC of a VXLAN device: the head-end
 * replication list is the destinations of the all-zero MAC. A destination that is there already stays
 * as it is. On a unicast MAC that has one the kernel changes nothing and says so to nobody: replace there.
 *
 * Equivalent to: `bridge fdb append $mac dev $link dst $dst self permanent`
 * Source: linux/neighbour.h (NDA_*); drivers/net/vxlan: vxlan_fdb_update
 * Errors: NetlinkError EOPNOTSUPP when the link keeps no entries.
 */
export async function fdbAppend(connection: NetlinkConnection, fdb: Fdb): Promise<void> {
  await connection.request(fdbAppendMessage(fdb));
}

/**
 * Makes this the only destination of a MAC.
 *
 * Equivalent to: `bridge fdb replace $mac dev $link dst $dst self permanent`
 * Source: linux/neighbour.h (NDA_*); drivers/net/vxlan: vxlan_fdb_update
 * Errors: NetlinkError EOPNOTSUPP for the all-zero MAC of a VXLAN device: append and delete there.
 */
export async function fdbReplace(connection: NetlinkConnection, fdb: Fdb): Promise<void> {
  await connection.request(fdbReplaceMessage(fdb));
}

/**
 * Removes one destination of a MAC, or the whole entry where no `dst` is given or it was the last.
 *
 * Equivalent to: `bridge fdb del $mac dev $link dst $dst self`
 * Errors: NetlinkError ENOENT when the MAC has no entry; none when only the destination is not there.
 */
export async function fdbDelete(connection: NetlinkConnection, fdb: Fdb): Promise<void> {
  await connection.request(fdbDeleteMessage(fdb));
}

/**
 * Lists entries. One of a bridge's port shows up once for the bridge (`NTF_MASTER` in `flags`) and,
 * when the port keeps entries of its own, as a VXLAN device does, once for each of those (`NTF_SELF`).
 *
 * Equivalent to: `bridge fdb show br $bridge brport $link`
 * Errors: DumpInterrupted.
 */
export async function fdbList(connection: NetlinkConnection, filter: FdbFilter = {}): Promise<Fdb[]> {
  return connection.dump(fdbListMessage(filter), (_header, reader) => fdbFromDump(reader));
}
