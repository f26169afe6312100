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
  RTM_DELLINK,
  RTM_NEWLINK,
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

/** How long notifications are collected while nobody waits for them: longer than an attach takes. */
const gatherMs = 8;

/** linux/netlink.h: a message that asks nothing, and is acknowledged when it asks for that. */
const NLMSG_NOOP = 1;

const noop = { type: NLMSG_NOOP, flags: 0, body: () => undefined, subject: () => '' };

interface Barrier {
  readonly resolve: () => void;
  readonly isHurried: boolean;
}

/** The change notifications of one namespace, with a way of knowing that none is still on its way. */
export class Feed {
  readonly #waiting = new Map<number, Barrier>();
  /** How many of them are waited for at once. */
  #hurried = 0;
  #socket: NetlinkSocket | undefined;
  #seq = 0;
  #closed = false;
  #received: Buffer[] = [];
  #isDelivering = false;
  #due: NodeJS.Timeout | undefined;

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
   *
   * @param isHurried otherwise notifications are still collected for a while, for whoever only has to know in the end.
   */
  barrier(isHurried = true): Promise<void> {
    const socket = this.#socket;
    if (this.#closed || socket === undefined) return Promise.resolve();
    this.#seq += 1;
    const seq = this.#seq;
    const writer = new Writer(16);
    encodeMessage(writer, noop, { seq, flags: NLM_F_ACK });
    return new Promise((resolve, reject) => {
      this.#waiting.set(seq, { resolve, isHurried });
      if (isHurried) this.#hurried += 1;
      try {
        socket.sendSync(writer.written());
        if (isHurried) this.#deliverAtEndOfTurn();
        else this.gather();
      } catch (error) {
        this.#arrive(seq);
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
    clearTimeout(this.#due);
    this.#received = [];
    this.#socket?.close();
    this.#release();
  }

  /**
   * Leaves notifications in the kernel for a while. Making one veth brings some ten of its links, each with all that is
   * known of it: each would wake this process on its own, at the expense of whoever makes the link, and those that a later
   * one repeats are not worth reading. What is asked for in that while, an attach above all, is answered first; whoever
   * waits at a barrier waits no longer for it.
   */
  gather(): void {
    if (this.#closed || this.#isDelivering || this.#due !== undefined) return;
    this.#socket?.pause();
    this.#due = setTimeout(() => this.#deliverAtEndOfTurn(), gatherMs);
  }

  #receive(datagram: Buffer): void {
    this.#received.push(datagram);
    if (this.#hurried > 0) this.#deliverAtEndOfTurn();
    else this.gather();
  }

  /** Between a timer and the immediates of the same turn, what the kernel has is received. */
  #deliverAtEndOfTurn(): void {
    if (this.#isDelivering || this.#closed) return;
    clearTimeout(this.#due);
    this.#due = undefined;
    this.#socket?.resume();
    this.#isDelivering = true;
    setImmediate(() => {
      this.#isDelivering = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    if (this.#closed) return;
    const messages: Message[] = [];
    let broken: unknown;
    for (const datagram of this.#received.splice(0)) {
      try {
        eachMessage(datagram, (header, reader) => messages.push({ header, reader }));
      } catch (cause) {
        broken = cause;
      }
    }
    const reached: (() => void)[] = [];
    for (const { header, reader } of withoutRepetitions(messages)) {
      try {
        const arrived = this.#take(header, reader);
        if (arrived !== undefined) reached.push(arrived);
      } catch (cause) {
        broken = cause;
      }
    }
    if (broken !== undefined) this.listener({ kind: 'resync', cause: broken });
    for (const resolve of reached) resolve();
  }

  #take(header: MessageHeader, reader: Reader): (() => void) | undefined {
    if (header.type === NLMSG_ERROR) return this.#arrive(header.seq)?.resolve;
    reader.lean = true;
    const event: NetlinkEvent | undefined =
      header.type === NLMSG_OVERRUN ? { kind: 'resync', cause: 'NLMSG_OVERRUN' } : decodeEvent(header, reader);
    if (event !== undefined) this.listener(event);
    return undefined;
  }

  /** What was lost may be what a barrier waits for; the resync that follows makes up for it. */
  #fault(cause: NativeError): void {
    const isLoss = cause.code === 'ENOBUFS';
    this.#deliver();
    if (!isLoss) this.#closed = true;
    this.listener({ kind: isLoss ? 'resync' : 'closed', cause });
    this.#release();
  }

  #arrive(seq: number): Barrier | undefined {
    const barrier = this.#waiting.get(seq);
    this.#waiting.delete(seq);
    if (barrier?.isHurried === true) this.#hurried -= 1;
    return barrier;
  }

  #release(): void {
    for (const seq of [...this.#waiting.keys()]) this.#arrive(seq)?.resolve();
  }
}

interface Message {
  readonly header: MessageHeader;
  readonly reader: Reader;
}

/** struct ifinfomsg (linux/rtnetlink.h): family at 0, index at 4, flags at 8. */
const ifinfomsgBytes = 16;
const IFF_UP = 1;
/** An attribute's header and IFNAMSIZ (linux/if.h). */
const nameBytes = 4 + 16;

/**
 * Leaves out the descriptions of a link that a later one repeats: its last one is read in the place of its first. One
 * that goes down and up again, or is renamed, is kept in order: its fall takes routes with it, its name may be another's.
 */
function withoutRepetitions(messages: readonly Message[]): Message[] {
  const kept: Message[] = [];
  const places = new Map<string, { readonly at: number; readonly state: string }>();
  for (const message of messages) {
    const { header, reader } = message;
    const isLink = header.type === RTM_NEWLINK || header.type === RTM_DELLINK;
    if (isLink && reader.remaining >= ifinfomsgBytes) {
      const { buffer, offset } = reader;
      const key = `${buffer.readUInt8(offset)}/${buffer.readUInt32LE(offset + 4)}`;
      // The kernel puts IFLA_IFNAME first; that more than the name may be compared costs a repetition at most.
      const start = offset + ifinfomsgBytes;
      const name = buffer.toString('latin1', start, Math.min(start + nameBytes, reader.end));
      const state = `${buffer.readUInt32LE(offset + 8) & IFF_UP}/${name}`;
      const place = places.get(key);
      if (header.type === RTM_DELLINK) places.delete(key);
      else if (place?.state === state) {
        kept[place.at] = message;
        continue;
      } else places.set(key, { at: kept.length, state });
    }
    kept.push(message);
  }
  return kept;
}
