import type { Reader } from '../bytes/reader.js';
import type { Writer } from '../bytes/writer.js';
import {
  attrEnd,
  attrInet,
  attrStart,
  type AttrField,
  AttrTable,
  attrU32,
  bytesField,
  inetField,
  nestedField,
  u32Field,
  u8Field,
  type WithUnknown,
} from './attr.js';
import type { NetlinkConnection } from './connection.js';
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  RT_SCOPE_HOST,
  RT_SCOPE_LINK,
  RT_SCOPE_NOWHERE,
  RT_SCOPE_UNIVERSE,
  RT_TABLE_COMPAT,
  RT_TABLE_MAIN,
  RTA_DST,
  RTA_EXPIRES,
  RTA_FLOW,
  RTA_GATEWAY,
  RTA_IIF,
  RTA_MARK,
  RTA_METRICS,
  RTA_MULTIPATH,
  RTA_NH_ID,
  RTA_OIF,
  RTA_PREF,
  RTA_PREFSRC,
  RTA_PRIORITY,
  RTA_SRC,
  RTA_TABLE,
  RTA_VIA,
  RTAX_ADVMSS,
  RTAX_FEATURES,
  RTAX_HOPLIMIT,
  RTAX_INITCWND,
  RTAX_LOCK,
  RTAX_MTU,
  RTAX_QUICKACK,
  RTAX_WINDOW,
  RTM_DELROUTE,
  RTM_GETROUTE,
  RTM_NEWROUTE,
  RTN_BROADCAST,
  RTN_LOCAL,
  RTN_MULTICAST,
  RTN_UNICAST,
  RTN_UNSPEC,
  RTPROT_STATIC,
  RTPROT_UNSPEC,
} from './constants.js';
import { isNetlinkError } from './errors.js';
import { inetFamily, readInet, splitPrefix, writeInet } from './inet.js';
import type { NetlinkMessage } from './message.js';

/** Metrics of a route (linux/rtnetlink.h, RTAX_*). `lock` is a bit mask of the types that are fixed. */
export interface RouteMetrics extends WithUnknown {
  readonly lock?: number;
  readonly mtu?: number;
  readonly window?: number;
  readonly advmss?: number;
  readonly hoplimit?: number;
  readonly initcwnd?: number;
  readonly features?: number;
  readonly quickack?: number;
}

/** A route (linux/rtnetlink.h, struct rtmsg and RTA_*). */
export interface Route extends WithUnknown {
  /** `10.1.0.0/16`; the default route is `0.0.0.0/0` or `::/0`. */
  readonly dst: string;
  readonly src?: string;
  /** Next hop of the destination's own family. */
  readonly gateway?: string;
  /** Next hop of the other family: an IPv4 destination by an IPv6 router. */
  readonly via?: string;
  /** Link to leave by (`RTA_OIF`). */
  readonly ifindex?: number;
  readonly iif?: number;
  readonly prefsrc?: string;
  /** The metric: lower wins. */
  readonly priority?: number;
  /** `RT_TABLE_*` or any 32-bit number; main when absent. */
  readonly table?: number;
  /** `RTPROT_*` or a number of our own as a mark; static when absent. */
  readonly protocol?: number;
  /** `RT_SCOPE_*`; when absent as `ip` has it: host for local, link without a gateway, else universe. */
  readonly scope?: number;
  /** `RTN_*`; unicast when absent. */
  readonly type?: number;
  readonly tos?: number;
  /** `RTNH_F_*`, e.g. `RTNH_F_ONLINK`. */
  readonly flags?: number;
  readonly metrics?: RouteMetrics;
  /** IPv6 router preference: 0 medium, 1 high, 3 low. */
  readonly pref?: number;
  readonly mark?: number;
  readonly flow?: number;
  /** Seconds, IPv6. */
  readonly expires?: number;
  readonly nhId?: number;
  /** Several next hops, as the kernel has them (struct rtnexthop). */
  readonly multipath?: Uint8Array;
}

const routeMetrics = new AttrTable<RouteMetrics>('RTA_METRICS', {
  lock: u32Field(RTAX_LOCK),
  mtu: u32Field(RTAX_MTU),
  window: u32Field(RTAX_WINDOW),
  advmss: u32Field(RTAX_ADVMSS),
  hoplimit: u32Field(RTAX_HOPLIMIT),
  initcwnd: u32Field(RTAX_INITCWND),
  features: u32Field(RTAX_FEATURES),
  quickack: u32Field(RTAX_QUICKACK),
});

/** The address of a prefix whose length is in the header; the zero-length prefix has none. */
const prefixField = (type: number): AttrField<string> => ({
  types: [type],
  write(writer, value) {
    const { address, length } = splitPrefix(value);
    if (length > 0) attrInet(writer, type, address);
  },
  read: readInet,
});

/** `struct rtvia`: a family in host order and an address. */
const viaField: AttrField<string> = {
  types: [RTA_VIA],
  write(writer, value) {
    const mark = attrStart(writer, RTA_VIA);
    writer.u16le(inetFamily(value));
    writeInet(writer, value);
    attrEnd(writer, mark);
  },
  read(reader) {
    reader.u16le();
    return readInet(reader);
  },
};

type RouteAttrs = Omit<Route, 'protocol' | 'scope' | 'type' | 'tos' | 'flags'>;

const routeAttrs = new AttrTable<RouteAttrs>('RTA', {
  dst: prefixField(RTA_DST),
  src: prefixField(RTA_SRC),
  gateway: inetField(RTA_GATEWAY),
  via: viaField,
  ifindex: u32Field(RTA_OIF),
  iif: u32Field(RTA_IIF),
  prefsrc: inetField(RTA_PREFSRC),
  priority: u32Field(RTA_PRIORITY),
  table: u32Field(RTA_TABLE),
  metrics: nestedField(RTA_METRICS, routeMetrics),
  pref: u8Field(RTA_PREF),
  mark: u32Field(RTA_MARK),
  flow: u32Field(RTA_FLOW),
  expires: u32Field(RTA_EXPIRES),
  nhId: u32Field(RTA_NH_ID),
  multipath: bytesField(RTA_MULTIPATH),
});

function defaultScope(route: Route): number {
  if (inetFamily(route.dst) === AF_INET6) return RT_SCOPE_UNIVERSE;
  const type = route.type ?? RTN_UNICAST;
  if (type === RTN_LOCAL) return RT_SCOPE_HOST;
  if (type === RTN_BROADCAST || type === RTN_MULTICAST) return RT_SCOPE_LINK;
  const hops = route.gateway ?? route.via ?? route.multipath ?? route.nhId;
  return type === RTN_UNICAST && hops === undefined ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
}

/** What stands in the header where the route says nothing. */
interface RouteDefaults {
  readonly protocol: number;
  readonly scope: number;
  readonly type: number;
}

/** Matches every route when deleting. */
const anyRoute: RouteDefaults = { protocol: RTPROT_UNSPEC, scope: RT_SCOPE_NOWHERE, type: RTN_UNSPEC };

/** Writes the body of a route message. */
export function encodeRoute(writer: Writer, route: Route, defaults?: RouteDefaults): void {
  const table = route.table ?? RT_TABLE_MAIN;
  writer.u8(inetFamily(route.dst));
  writer.u8(splitPrefix(route.dst).length);
  writer.u8(route.src === undefined ? 0 : splitPrefix(route.src).length);
  writer.u8(route.tos ?? 0);
  writer.u8(table > 255 ? RT_TABLE_COMPAT : table);
  writer.u8(route.protocol ?? defaults?.protocol ?? RTPROT_STATIC);
  writer.u8(route.scope ?? defaults?.scope ?? defaultScope(route));
  writer.u8(route.type ?? defaults?.type ?? RTN_UNICAST);
  writer.u32le(route.flags ?? 0);
  routeAttrs.encode(writer, route);
}

/**
 * Decodes the body of an `RTM_NEWROUTE` or `RTM_DELROUTE` of an IP family.
 *
 * Errors: DecodeError.
 */
export function decodeRoute(reader: Reader): Route {
  reader.what = 'rtmsg';
  const zero = reader.u8() === AF_INET6 ? '::' : '0.0.0.0';
  const dstLength = reader.u8();
  const srcLength = reader.u8();
  const seed = {
    dst: zero,
    tos: reader.u8(),
    table: reader.u8(),
    protocol: reader.u8(),
    scope: reader.u8(),
    type: reader.u8(),
    flags: reader.u32le(),
  };
  const route = routeAttrs.decode(reader, seed);
  const dst = `${route.dst}/${dstLength}`;
  return route.src === undefined ? { ...route, dst } : { ...route, dst, src: `${route.src}/${srcLength}` };
}

function routeMessage(type: number, flags: number, route: Route): NetlinkMessage {
  return {
    type,
    flags,
    body: (writer) => encodeRoute(writer, route, type === RTM_DELROUTE ? anyRoute : undefined),
    subject: () => {
      const words = [route.dst];
      if (route.gateway !== undefined) words.push(`via ${route.gateway}`);
      if (route.ifindex !== undefined) words.push(`dev #${route.ifindex}`);
      if (route.table !== undefined) words.push(`table ${route.table}`);
      return words.join(' ');
    },
  };
}

/** The request of `routeAdd`. */
export function routeAddMessage(route: Route): NetlinkMessage {
  return routeMessage(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route);
}

/** The request of `routeReplace`. */
export function routeReplaceMessage(route: Route): NetlinkMessage {
  return routeMessage(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route);
}

/** The request of `routeDelete`. */
export function routeDeleteMessage(route: Route): NetlinkMessage {
  return routeMessage(RTM_DELROUTE, 0, route);
}

/** Which routes to list; the kernel does the filtering. */
export interface RouteFilter {
  readonly family?: typeof AF_INET | typeof AF_INET6;
  readonly table?: number;
  readonly protocol?: number;
  readonly ifindex?: number;
  readonly type?: number;
}

/** The request of `routeList`. */
export function routeListMessage(filter: RouteFilter = {}): NetlinkMessage {
  return {
    type: RTM_GETROUTE,
    flags: NLM_F_DUMP,
    body: (writer) => {
      writer.u8(filter.family ?? AF_UNSPEC);
      writer.zeros(4);
      writer.u8(filter.protocol ?? 0);
      writer.u8(0);
      writer.u8(filter.type ?? 0);
      writer.u32le(0);
      if (filter.table !== undefined) attrU32(writer, RTA_TABLE, filter.table);
      if (filter.ifindex !== undefined) attrU32(writer, RTA_OIF, filter.ifindex);
    },
    subject: () => (filter.table === undefined ? '' : `table ${filter.table}`),
  };
}

/** Decodes one message of a route dump, undefined for a family other than IPv4 and IPv6. */
export function routeFromDump(reader: Reader): Route | undefined {
  const family = reader.buffer[reader.offset];
  return family === AF_INET || family === AF_INET6 ? decodeRoute(reader) : undefined;
}

/**
 * Adds a route that is not there yet.
 *
 * Equivalent to: `ip route add $dst via $gateway dev $link`
 * Errors: NetlinkError EEXIST when there is one; ENETUNREACH or EINVAL when the gateway is not on the link.
 */
export async function routeAdd(connection: NetlinkConnection, route: Route): Promise<void> {
  await connection.request(routeAddMessage(route));
}

/**
 * Adds a route, or changes the one with the same destination, table and metric.
 *
 * Equivalent to: `ip route replace $dst via $gateway dev $link`
 * Source: linux/rtnetlink.h; net/ipv4/fib_frontend.c, net/ipv6/route.c
 * Errors: NetlinkError ENETUNREACH or EINVAL when the gateway is not on the link, ENETDOWN when that is down.
 */
export async function routeReplace(connection: NetlinkConnection, route: Route): Promise<void> {
  await connection.request(routeReplaceMessage(route));
}

/**
 * Removes the first route that matches all that is given.
 *
 * Equivalent to: `ip route del $dst via $gateway dev $link table $table`
 * Errors: NetlinkError ESRCH when there is none.
 */
export async function routeDelete(connection: NetlinkConnection, route: Route): Promise<void> {
  await connection.request(routeDeleteMessage(route));
}

/**
 * Lists routes of both families and all tables, or as filtered. A table that does not exist has none.
 *
 * Equivalent to: `ip route show table $table proto $protocol`
 * Errors: DumpInterrupted.
 */
export async function routeList(connection: NetlinkConnection, filter: RouteFilter = {}): Promise<Route[]> {
  try {
    return await connection.dump(routeListMessage(filter), (_header, reader) => routeFromDump(reader));
  } catch (error) {
    if (filter.table !== undefined && isNetlinkError(error, 'ENOENT')) return [];
    throw error;
  }
}
