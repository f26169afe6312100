import type { Reader } from '../bytes/reader.js';
import type { Writer } from '../bytes/writer.js';
import { attrU32 } from './attr.js';
import type { NetlinkConnection } from './connection.js';
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  NDA_IFINDEX,
  NDA_MASTER,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_REPLACE,
  NUD_PERMANENT,
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
} from './constants.js';
import { inetFamily } from './inet.js';
import type { NetlinkMessage } from './message.js';
import { decodeNdaAttrs, decodeNdmsg, encodeNdaAttrs, encodeNdmsg, type NdaAttrs } from './ndmsg.js';

/** A neighbour: which link-layer address an IP address has on a link (linux/neighbour.h). */
export interface Neigh extends NdaAttrs {
  readonly ifindex: number;
  /** The IP address, of either family. */
  readonly dst: string;
  /** `NUD_*`; permanent when absent. */
  readonly state?: number;
  /** `NTF_*`: `NTF_EXT_LEARNED`, `NTF_PROXY`, `NTF_ROUTER`. */
  readonly flags?: number;
  /** `RTN_*`, the kernel's to say. */
  readonly type?: number;
}

/** Writes the body of a neighbour message. */
export function encodeNeigh(writer: Writer, neigh: Neigh): void {
  encodeNdmsg(writer, {
    family: inetFamily(neigh.dst),
    ifindex: neigh.ifindex,
    state: neigh.state ?? NUD_PERMANENT,
    flags: neigh.flags ?? 0,
    type: neigh.type ?? 0,
  });
  encodeNdaAttrs(writer, neigh);
}

/**
 * Decodes the body of an `RTM_NEWNEIGH` or `RTM_DELNEIGH` of an IP family.
 *
 * Errors: DecodeError; also when there is no address in it.
 */
export function decodeNeigh(reader: Reader): Neigh {
  const { ifindex, state, flags, type } = decodeNdmsg(reader);
  const neigh = decodeNdaAttrs(reader, { ifindex, state, flags, type });
  const { dst } = neigh;
  if (dst === undefined) throw reader.error('has no NDA_DST');
  return { ...neigh, dst };
}

function subject(neigh: Neigh): string {
  const lladdr = neigh.lladdr === undefined ? '' : ` lladdr ${neigh.lladdr}`;
  return `${neigh.dst}${lladdr} dev #${neigh.ifindex}`;
}

/** The request of `neighReplace`. */
export function neighReplaceMessage(neigh: Neigh): NetlinkMessage {
  return {
    type: RTM_NEWNEIGH,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: (writer) => encodeNeigh(writer, neigh),
    subject: () => subject(neigh),
  };
}

/** The request of `neighDelete`. */
export function neighDeleteMessage(neigh: Neigh): NetlinkMessage {
  return {
    type: RTM_DELNEIGH,
    flags: 0,
    body: (writer) => encodeNeigh(writer, neigh),
    subject: () => subject(neigh),
  };
}

/** Which neighbours to list; the kernel does the filtering. */
export interface NeighFilter {
  readonly family?: typeof AF_INET | typeof AF_INET6;
  readonly ifindex?: number;
  /** Links of this bridge or VRF only. */
  readonly master?: number;
}

/** The request of `neighList`. */
export function neighListMessage(filter: NeighFilter = {}): NetlinkMessage {
  return {
    type: RTM_GETNEIGH,
    flags: NLM_F_DUMP,
    body: (writer) => {
      encodeNdmsg(writer, { family: filter.family ?? AF_UNSPEC, ifindex: 0, state: 0, flags: 0, type: 0 });
      if (filter.ifindex !== undefined) attrU32(writer, NDA_IFINDEX, filter.ifindex);
      if (filter.master !== undefined) attrU32(writer, NDA_MASTER, filter.master);
    },
    subject: () => (filter.ifindex === undefined ? '' : `dev #${filter.ifindex}`),
  };
}

/** Decodes one message of a neighbour dump, undefined for a family other than IPv4 and IPv6. */
export function neighFromDump(reader: Reader): Neigh | undefined {
  const family = reader.buffer[reader.offset];
  return family === AF_INET || family === AF_INET6 ? decodeNeigh(reader) : undefined;
}

/**
 * Adds a neighbour entry, or changes the one that is there.
 *
 * Equivalent to: `ip neigh replace $dst lladdr $lladdr dev $link nud permanent`
 * Source: linux/neighbour.h; net/core/neighbour.c: neigh_add
 * Errors: NetlinkError ENODEV when there is no such link, EINVAL without a usable address.
 */
export async function neighReplace(connection: NetlinkConnection, neigh: Neigh): Promise<void> {
  await connection.request(neighReplaceMessage(neigh));
}

/**
 * Removes a neighbour entry; `ifindex` and `dst` (and `NTF_PROXY`) say which.
 *
 * Equivalent to: `ip neigh del $dst dev $link`
 * Errors: NetlinkError ENOENT when there is none, ENODEV when there is no such link.
 */
export async function neighDelete(connection: NetlinkConnection, neigh: Neigh): Promise<void> {
  await connection.request(neighDeleteMessage(neigh));
}

/**
 * Lists neighbour entries of both families, or as filtered.
 *
 * Equivalent to: `ip neigh show dev $link nud all`
 * Errors: DumpInterrupted.
 */
export async function neighList(connection: NetlinkConnection, filter: NeighFilter = {}): Promise<Neigh[]> {
  return connection.dump(neighListMessage(filter), (_header, reader) => neighFromDump(reader));
}
