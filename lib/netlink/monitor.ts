import type { NativeApi, NativeError, NetnsRef } from '../../native/api.js';
import type { Reader } from '../bytes/reader.js';
import { type Addr, decodeAddr } from './addr.js';
import {
  AF_BRIDGE,
  AF_INET,
  AF_INET6,
  NETLINK_ROUTE,
  NLMSG_OVERRUN,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_DELROUTE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWROUTE,
} from './constants.js';
import { decodeFdb, type Fdb } from './fdb.js';
import { decodeLink, type Link } from './link-value.js';
import { eachMessage, type MessageHeader } from './message.js';
import { decodeNeigh, type Neigh } from './neigh.js';
import { decodeRoute, type Route } from './route.js';

type Change = 'new' | 'delete';

/**
 * Something that changed in the kernel. A `bridgePort` that is deleted left its bridge; the link may
 * still be there. After `resync` anything may have changed: list again. After `closed` nothing comes.
 */
export type NetlinkEvent =
  | { readonly kind: 'link'; readonly change: Change; readonly link: Link }
  | { readonly kind: 'bridgePort'; readonly change: Change; readonly link: Link }
  | { readonly kind: 'addr'; readonly change: Change; readonly addr: Addr }
  | { readonly kind: 'route'; readonly change: Change; readonly route: Route }
  | { readonly kind: 'neigh'; readonly change: Change; readonly neigh: Neigh }
  | { readonly kind: 'fdb'; readonly change: Change; readonly fdb: Fdb }
  | { readonly kind: 'resync'; readonly cause: unknown }
  | { readonly kind: 'closed'; readonly cause: unknown };

/**
 * Decodes a notification; undefined for one of another type or family.
 *
 * Source: net/core/rtnetlink.c: rtnl_notify; linux/rtnetlink.h (RTM_*)
 * Errors: DecodeError.
 */
export function decodeEvent(header: MessageHeader, reader: Reader): NetlinkEvent | undefined {
  const family = reader.remaining > 0 ? reader.buffer[reader.offset] : undefined;
  const isInet = family === AF_INET || family === AF_INET6;
  const change = (header.type & 3) === 0 ? 'new' : 'delete';
  switch (header.type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return { kind: family === AF_BRIDGE ? 'bridgePort' : 'link', change, link: decodeLink(reader) };
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return isInet ? { kind: 'addr', change, addr: decodeAddr(reader) } : undefined;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return isInet ? { kind: 'route', change, route: decodeRoute(reader) } : undefined;
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
      if (family === AF_BRIDGE) return { kind: 'fdb', change, fdb: decodeFdb(reader) };
      return isInet ? { kind: 'neigh', change, neigh: decodeNeigh(reader) } : undefined;
    default:
      return undefined;
  }
}

/** What to be told of, and where. */
export interface SubscribeOptions {
  /** `RTNLGRP_*`. */
  readonly groups: readonly number[];
  /** The namespace; ours when absent. */
  readonly netns?: NetnsRef;
  readonly receiveBufferBytes?: number;
}

/** A subscription that lasts until it is closed. */
export interface Subscription {
  close(): void;
}

/**
 * Calls `listener` for every change in the groups, from the moment the promise resolves: who lists
 * afterwards misses nothing. Lost or undecodable notifications come as `resync`.
 *
 * Equivalent to: `ip monitor link address route neigh`
 * Source: linux/rtnetlink.h (RTNLGRP_*)
 * Errors: NativeError ENOENT when there is no such namespace, EPERM without the right to enter it.
 */
export async function subscribe(
  native: NativeApi,
  options: SubscribeOptions,
  listener: (event: NetlinkEvent) => void,
): Promise<Subscription> {
  return native.netlinkOpen({
    protocol: NETLINK_ROUTE,
    ...options,
    onMessage: (datagram) => {
      const events: NetlinkEvent[] = [];
      try {
        eachMessage(datagram, (header, reader) => {
          if (header.type === NLMSG_OVERRUN) events.push({ kind: 'resync', cause: 'NLMSG_OVERRUN' });
          const event = decodeEvent(header, reader);
          if (event !== undefined) events.push(event);
        });
      } catch (cause) {
        events.push({ kind: 'resync', cause });
      }
      for (const event of events) listener(event);
    },
    onError: (cause: NativeError) => listener({ kind: cause.code === 'ENOBUFS' ? 'resync' : 'closed', cause }),
  });
}

const queueMaxEvents = 8192;

/**
 * Yields every change in the groups until the signal aborts or the socket closes. A consumer that falls
 * more than 8192 events behind gets one `resync` in their place.
 *
 * Equivalent to: `ip monitor`
 * Errors: as `subscribe`.
 */
export async function* watchEvents(
  native: NativeApi,
  options: SubscribeOptions & { readonly signal?: AbortSignal },
): AsyncGenerator<NetlinkEvent, void, undefined> {
  const { signal, ...subscribed } = options;
  let queue: NetlinkEvent[] = [];
  let wake: () => void = () => undefined;
  const subscription = await subscribe(native, subscribed, (event) => {
    if (queue.length >= queueMaxEvents) queue = [{ kind: 'resync', cause: `${queueMaxEvents} events behind` }];
    queue.push(event);
    wake();
  });
  const onAbort = (): void => wake();
  const isAborted = (): boolean => signal?.aborted === true;
  signal?.addEventListener('abort', onAbort);
  try {
    while (!isAborted()) {
      const events = queue;
      queue = [];
      for (const event of events) {
        yield event;
        if (event.kind === 'closed') return;
        if (isAborted()) return;
      }
      if (queue.length > 0) continue;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    signal?.removeEventListener('abort', onAbort);
    subscription.close();
  }
}
