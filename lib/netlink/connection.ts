import { DecodeError, type Reader } from '../bytes/reader.js';
import { Writer } from '../bytes/writer.js';
import type { NativeApi, NativeError, NetlinkSocket, NetnsRef } from '../../native/api.js';
import { assertBatch, BatchAnswers, type BatchResult, batchTimeoutMs, encodeBatches, type OnReply } from './batch.js';
import { NETLINK_ROUTE, NLM_F_ACK, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN } from './constants.js';
import { errnoNumber } from './errno.js';
import { dumpConsistently } from './consistent.js';
import { NetlinkClosed, NetlinkError, NetlinkTimeout } from './errors.js';
import {
  decodeDone,
  decodeError,
  eachMessage,
  encodeMessage,
  formatMessage,
  isInterrupted,
  type MessageHeader,
  type NetlinkMessage,
} from './message.js';

/** How a connection is opened. */
export interface ConnectionOptions {
  /** The namespace it works in; ours when absent. */
  readonly netns?: NetnsRef;
  /** `NETLINK_ROUTE` when absent. */
  readonly protocol?: number;
  /** How long a request may take; 5000 when absent. */
  readonly timeoutMs?: number;
  readonly receiveBufferBytes?: number;
}

/** How one request is made. */
export interface RequestOptions {
  /** Overrides the connection's; a batch gets some more per message. */
  readonly timeoutMs?: number;
  /** Sends on the calling thread: for short requests known not to wait in the kernel. */
  readonly sync?: boolean;
  readonly onReply?: OnReply;
}

/** Decodes one object of an answer; undefined leaves it out. */
export type DecodeReply<T> = (header: MessageHeader, reader: Reader) => T | undefined;

/** Something sent whose answers are still awaited. */
interface Pending {
  take(header: MessageHeader, reader: Reader): void;
  /** Answers may have been lost. */
  lost(error: NetlinkError): void;
  fail(error: unknown): void;
}

/**
 * A netlink socket for requests. Requests may overlap; dumps wait for one another, as the kernel
 * runs one per socket. Notifications come by a socket of their own (`subscribe`), so that a burst of
 * them cannot displace an answer.
 */
export class NetlinkConnection {
  readonly #pending = new Map<number, Pending>();
  readonly #timeoutMs: number;
  #socket: NetlinkSocket | undefined;
  #seq = 1;
  #closed: { readonly cause?: unknown } | undefined;
  #lastDump: Promise<unknown> = Promise.resolve();

  private constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Opens a socket in a namespace and keeps it there.
   *
   * Errors: NativeError ENOENT when there is no such namespace, EPERM without the right to enter it.
   */
  static async open(native: NativeApi, options: ConnectionOptions = {}): Promise<NetlinkConnection> {
    const connection = new NetlinkConnection(options.timeoutMs ?? 5000);
    const { netns, receiveBufferBytes } = options;
    connection.#socket = await native.netlinkOpen({
      protocol: options.protocol ?? NETLINK_ROUTE,
      ...(netns === undefined ? {} : { netns }),
      ...(receiveBufferBytes === undefined ? {} : { receiveBufferBytes }),
      onMessage: (datagram) => connection.#receive(datagram),
      onError: (error) => connection.#fault(error),
    });
    return connection;
  }

  /** Its address in the kernel, by which notifications name who made a change. */
  get portid(): number {
    return this.#socket?.portid ?? 0;
  }

  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /**
   * Sends one request and waits for its acknowledgement.
   *
   * Errors: NetlinkError when the kernel refuses it, NetlinkTimeout, NetlinkClosed, EncodeError.
   */
  async request(message: NetlinkMessage, options?: RequestOptions): Promise<void> {
    await this.requestAll([message], options);
  }

  /**
   * Sends requests at once and waits for all acknowledgements.
   *
   * Errors: as `request`; an AggregateError of NetlinkErrors when several were refused.
   */
  async requestAll(messages: readonly NetlinkMessage[], options?: RequestOptions): Promise<void> {
    assertBatch(await this.batch(messages, options));
  }

  /**
   * Sends many requests at once, in as few sends as possible, and says what became of each. The kernel
   * goes on after one that it refuses.
   *
   * Errors: NetlinkTimeout, NetlinkClosed, EncodeError (and then nothing is sent). Refusals are results.
   * Cost: one send and one wake-up per 512 messages or 64 KiB.
   */
  async batch(messages: readonly NetlinkMessage[], options: RequestOptions = {}): Promise<BatchResult> {
    const batches = encodeBatches(messages, this.#reserveSeq(messages.length));
    let results: BatchResult = [];
    for (const batch of batches) {
      const base = results.length;
      const { onReply } = options;
      const answers = new BatchAnswers(
        batch,
        onReply === undefined ? undefined : (index, header, reader) => onReply(base + index, header, reader),
      );
      await this.#exchange(answers, options);
      results = base === 0 ? answers.results : [...results, ...answers.results];
    }
    return results;
  }

  /**
   * Sends requests between two messages that make one transaction of them: all are applied or none.
   *
   * Equivalent to: `nft -f -`
   * Errors: NetlinkError when the kernel refuses one (an AggregateError of several), NetlinkTimeout, NetlinkClosed,
   * EncodeError (and then nothing is sent).
   * Cost: one send of up to 4 MiB.
   */
  async transaction(
    begin: NetlinkMessage,
    messages: readonly NetlinkMessage[],
    { end, ...options }: { readonly end: NetlinkMessage } & Omit<RequestOptions, 'onReply'>,
  ): Promise<void> {
    const count = messages.length + 2;
    const firstSeq = this.#reserveSeq(count);
    const writer = new Writer();
    encodeMessage(writer, begin, { seq: firstSeq, flags: 0 });
    for (const [index, message] of messages.entries())
      encodeMessage(writer, message, { seq: firstSeq + 1 + index, flags: NLM_F_ACK });
    encodeMessage(writer, end, { seq: firstSeq + count - 1, flags: 0 });
    const answers = new BatchAnswers({ datagram: writer.written(), firstSeq: firstSeq + 1, messages });
    const { datagram } = answers.batch;
    const timeoutMs = batchTimeoutMs(options.timeoutMs ?? this.#timeoutMs, messages.length);
    await this.#await<void>({ firstSeq, count, datagram, timeoutMs, sync: options.sync ?? false }, (settle, fail) => ({
      request: () => answers.unanswered,
      take(header, reader) {
        const isEdge = header.seq === firstSeq || header.seq === firstSeq + count - 1;
        if (isEdge && header.type === NLMSG_ERROR) {
          const { errno, extAck } = decodeError(reader, header.flags);
          if (errno !== 0) fail(new NetlinkError({ errno, request: formatMessage(begin), extAck }));
          return;
        }
        answers.take(header, reader);
        if (answers.complete) settle(undefined);
      },
      lost: undefined,
    }));
    assertBatch(answers.results);
  }

  /**
   * Sends one request and returns the object it brings.
   *
   * Errors: as `request`; NetlinkError ENODATA when it brings none; DecodeError.
   */
  async get<T>(message: NetlinkMessage, decode: DecodeReply<T>): Promise<T> {
    let found: T | undefined;
    const onReply: OnReply = (_index, header, reader) => {
      found ??= decode(header, reader);
    };
    await this.request(message, { onReply });
    if (found !== undefined) return found;
    throw new NetlinkError({ errno: errnoNumber('ENODATA') ?? 0, request: formatMessage(message) });
  }

  /**
   * Lists objects, again from the start when they changed meanwhile.
   *
   * Errors: NetlinkError, DumpInterrupted when they never stood still, NetlinkTimeout, NetlinkClosed, DecodeError.
   */
  async dump<T>(message: NetlinkMessage, decode: DecodeReply<T>): Promise<T[]> {
    const before = this.#lastDump;
    const run = (async () => {
      await before.catch(() => undefined);
      return dumpConsistently(message, () => this.#dumpOnce(message, decode));
    })();
    this.#lastDump = run.catch(() => undefined);
    return run;
  }

  /** Closes the socket; what is unanswered fails with NetlinkClosed. Again is a no-op. */
  close(): void {
    this.#shut({});
  }

  #reserveSeq(count: number): number {
    if (this.#seq + count > 0xffffffff) this.#seq = 1;
    const first = this.#seq;
    this.#seq += count;
    return first;
  }

  #exchange(answers: BatchAnswers, options: RequestOptions): Promise<void> {
    const { firstSeq, messages, datagram } = answers.batch;
    const timeoutMs = batchTimeoutMs(options.timeoutMs ?? this.#timeoutMs, messages.length);
    return this.#await<void>(
      { firstSeq, count: messages.length, datagram, timeoutMs, sync: options.sync ?? false },
      (settle) => ({
        request: () => answers.unanswered,
        take(header, reader) {
          answers.take(header, reader);
          if (answers.complete) settle(undefined);
        },
        lost: undefined,
      }),
    );
  }

  #dumpOnce<T>(message: NetlinkMessage, decode: DecodeReply<T>): Promise<T[] | undefined> {
    const writer = new Writer(256);
    const firstSeq = this.#reserveSeq(1);
    encodeMessage(writer, message, { seq: firstSeq, flags: 0 });
    const values: T[] = [];
    let interrupted = false;
    let failure: unknown;
    const sent = { firstSeq, count: 1, datagram: writer.written(), timeoutMs: this.#timeoutMs, sync: false };
    return this.#await<T[] | undefined>(sent, (settle, fail) => ({
      request: () => formatMessage(message),
      take(header, reader) {
        if (isInterrupted(header)) interrupted = true;
        if (header.type === NLMSG_ERROR || header.type === NLMSG_DONE) {
          const answer = (header.type === NLMSG_DONE ? decodeDone : decodeError)(reader, header.flags);
          const { errno, extAck } = answer;
          if (errno !== 0) fail(new NetlinkError({ errno, request: formatMessage(message), extAck }));
          else if (interrupted) settle(undefined);
          else if (failure !== undefined) fail(failure);
          else settle(values);
        } else if (failure === undefined && !interrupted) {
          try {
            const value = decode(header, reader);
            if (value !== undefined) values.push(value);
          } catch (error) {
            failure = error;
          }
        }
      },
      lost: () => {
        interrupted = true;
      },
    }));
  }

  #await<T>(
    sent: { firstSeq: number; count: number; datagram: Buffer; timeoutMs: number; sync: boolean },
    receiver: (
      settle: (value: T) => void,
      fail: (error: unknown) => void,
    ) => { request: () => string; take: Pending['take']; lost: (() => void) | undefined },
  ): Promise<T> {
    const { firstSeq, count, timeoutMs } = sent;
    return new Promise<T>((resolve, reject) => {
      const finish = (): void => {
        clearTimeout(timer);
        for (let seq = firstSeq; seq < firstSeq + count; seq++) this.#pending.delete(seq);
      };
      const fail = (error: unknown): void => {
        finish();
        reject(error instanceof Error ? error : new Error(String(error)));
      };
      const settle = (value: T): void => {
        finish();
        resolve(value);
      };
      const { request, take, lost } = receiver(settle, fail);
      // A process that was stopped finds its timers due before it has read what came meanwhile: read first.
      const expire = (): void => fail(new NetlinkTimeout(request(), timeoutMs));
      const timer = setTimeout(() => setImmediate(expire), timeoutMs);
      const pending: Pending = {
        take,
        lost: lost ?? ((error) => fail(new NetlinkError({ errno: error.errno, request: request(), cause: error }))),
        fail: (cause) => fail(cause instanceof DecodeError ? cause : new NetlinkClosed(request(), cause)),
      };
      const socket = this.#socket;
      if (this.#closed !== undefined || socket === undefined) {
        pending.fail(this.#closed?.cause);
        return;
      }
      for (let seq = firstSeq; seq < firstSeq + count; seq++) this.#pending.set(seq, pending);
      const refused = (cause: unknown): void => {
        const errno = (cause as Partial<NativeError>).errno;
        fail(errno === undefined ? cause : new NetlinkError({ errno: Math.abs(errno), request: request(), cause }));
      };
      if (!sent.sync) {
        socket.send(sent.datagram).catch((cause: unknown) => {
          if (this.#pending.get(firstSeq + count - 1) === pending || this.#pending.get(firstSeq) === pending)
            refused(cause);
        });
        return;
      }
      try {
        socket.sendSync(sent.datagram);
      } catch (cause) {
        refused(cause);
      }
    });
  }

  #receive(datagram: Buffer): void {
    try {
      eachMessage(datagram, (header, reader) => {
        if (header.type === NLMSG_OVERRUN) this.#lose(errnoNumber('ENOBUFS') ?? 0);
        const pending = this.#pending.get(header.seq);
        if (pending === undefined) return;
        try {
          pending.take(header, reader);
        } catch (error) {
          pending.fail(error);
        }
      });
    } catch (error) {
      for (const pending of new Set(this.#pending.values())) pending.fail(error);
    }
  }

  #lose(errno: number, cause?: unknown): void {
    const error = new NetlinkError({ errno, request: 'netlink socket', cause });
    for (const pending of new Set(this.#pending.values())) pending.lost(error);
  }

  #fault(error: NativeError): void {
    if (error.code === 'ENOBUFS') this.#lose(error.errno === 0 ? 0 : Math.abs(error.errno), error);
    else this.#shut({ cause: error });
  }

  #shut(closed: { readonly cause?: unknown }): void {
    if (this.#closed !== undefined) return;
    this.#closed = closed;
    this.#socket?.close();
    for (const pending of new Set(this.#pending.values())) pending.fail(closed.cause);
  }
}
