import type { NativeApi, NativeError, NetlinkSocket, NetnsRef } from '../../native/api.js';
import type { Reader } from '../../lib/bytes/reader.js';
import { Writer } from '../../lib/bytes/writer.js';
import {
  NETLINK_ROUTE,
  NLM_F_ACK,
  NLMSG_ERROR,
  NLMSG_OVERRUN,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
} from '../../lib/netlink/constants.js';
import { eachMessage, encodeMessage, type MessageHeader } from '../../lib/netlink/message.js';
import { decodeEvent, type NetlinkEvent } from '../../lib/netlink/monitor.js';

const groups = [
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV6_ROUTE,
];

/** linux/netlink.h: a message that asks nothing, and is acknowledged when it asks for that. */
const NLMSG_NOOP = 1;

const noop = { type: NLMSG_NOOP, flags: 0, body: () => undefined, subject: () => '' };

/** The change notifications of one namespace, with a way of knowing that none is still on its way. */
export class Feed {
  readonly #waiting = new Map<number, () => void>();
  #socket: NetlinkSocket | undefined;
  #seq = 0;
  #closed = false;

  private constructor(private readonly listener: (event: NetlinkEvent) => void) {}

  /**
   * Calls `listener` for every change from now on, in order. `resync` says that some were lost.
   *
   * Equivalent to: `ip monitor link address route neigh`, `bridge monitor fdb`
   */
  static async open(
    native: NativeApi,
    netns: NetnsRef | undefined,
    listener: (event: NetlinkEvent) => void,
  ): Promise<Feed> {
    const feed = new Feed(listener);
    feed.#socket = await native.netlinkOpen({
      protocol: NETLINK_ROUTE,
      ...(netns === undefined ? {} : { netns }),
      groups,
      onMessage: (datagram) => feed.#receive(datagram),
      onError: (error) => feed.#fault(error),
    });
    return feed;
  }

  /**
   * Resolves when every notification that the kernel had queued before this call has been delivered.
   * The acknowledgement of a message that asks nothing queues up behind them on the same socket. An
   * acknowledged request's notifications were queued before its acknowledgement, so after a request and
   * a barrier its effects are known, except for those that the kernel does later on its own.
   */
  barrier(): Promise<void> {
    const socket = this.#socket;
    if (this.#closed || socket === undefined) return Promise.resolve();
    this.#seq += 1;
    const seq = this.#seq;
    const writer = new Writer(16);
    encodeMessage(writer, noop, { seq, flags: NLM_F_ACK });
    return new Promise((resolve, reject) => {
      this.#waiting.set(seq, resolve);
      try {
        socket.sendSync(writer.written());
      } catch (error) {
        this.#waiting.delete(seq);
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    });
  }

  /** Whether nothing comes any more: closed, or failed for good. */
  get closed(): boolean {
    return this.#closed;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket?.close();
    this.#release();
  }

  #receive(datagram: Buffer): void {
    const reached: (() => void)[] = [];
    try {
      eachMessage(datagram, (header, reader) => {
        const arrived = this.#take(header, reader);
        if (arrived !== undefined) reached.push(arrived);
      });
    } catch (cause) {
      this.listener({ kind: 'resync', cause });
    }
    for (const resolve of reached) resolve();
  }

  #take(header: MessageHeader, reader: Reader): (() => void) | undefined {
    if (header.type === NLMSG_ERROR) {
      const waiting = this.#waiting.get(header.seq);
      this.#waiting.delete(header.seq);
      return waiting;
    }
    const event: NetlinkEvent | undefined =
      header.type === NLMSG_OVERRUN ? { kind: 'resync', cause: 'NLMSG_OVERRUN' } : decodeEvent(header, reader);
    if (event !== undefined) this.listener(event);
    return undefined;
  }

  /** What was lost may be what a barrier waits for; the resync that follows makes up for it. */
  #fault(cause: NativeError): void {
    const isLoss = cause.code === 'ENOBUFS';
    if (!isLoss) this.#closed = true;
    this.listener({ kind: isLoss ? 'resync' : 'closed', cause });
    this.#release();
  }

  #release(): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }
}
