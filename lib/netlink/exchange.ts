import type { NativeApi, NativeError, NetnsRef } from '../../native/api.js';
import { assertBatch, BatchAnswers, type BatchResult, batchTimeoutMs, encodeBatches, type OnReply } from './batch.js';
import type { DecodeReply } from './connection.js';
import { NETLINK_ROUTE, NLMSG_DONE } from './constants.js';
import { errnoNumber } from './errno.js';
import { dumpConsistently } from './consistent.js';
import { NetlinkError, NetlinkTimeout } from './errors.js';
import { eachMessage, formatMessage, isInterrupted, type NetlinkMessage } from './message.js';

/** How an exchange is made. */
export interface ExchangeOptions {
  /** Written inside the namespace before anything is sent: [path below /proc/sys, value]. */
  readonly sysctls?: readonly (readonly [path: string, value: string])[];
  /** 5000 when absent, and some more per message. */
  readonly timeoutMs?: number;
  /** NETLINK_ROUTE when absent. */
  readonly protocol?: number;
  readonly onReply?: OnReply;
}

/**
 * Makes requests inside a namespace and leaves nothing open in it: enter, write sysctls, send, receive, leave.
 *
 * Equivalent to: `ip -n $netns -batch -`
 * Errors: NetlinkTimeout; NativeError ENOENT when there is no such namespace or sysctl; EncodeError (and then
 * nothing is sent). Refusals are results, in the order of the messages.
 * Cost: one short-lived thread and one send per 512 messages or 64 KiB.
 */
export async function exchange(
  native: NativeApi,
  netns: NetnsRef | undefined,
  messages: readonly NetlinkMessage[],
  options: ExchangeOptions = {},
): Promise<BatchResult> {
  const { sysctls, onReply } = options;
  const batches = encodeBatches(messages, 1);
  if (batches.length === 0) {
    for (const [path, value] of sysctls ?? []) await native.sysctlWrite(path, value, netns);
  }
  let results: BatchResult = [];
  for (const [number, batch] of batches.entries()) {
    const base = results.length;
    const answers = new BatchAnswers(
      batch,
      onReply === undefined ? undefined : (index, header, reader) => onReply(base + index, header, reader),
    );
    const timeoutMs = batchTimeoutMs(options.timeoutMs ?? 5000, batch.messages.length);
    const received = await native
      .netlinkExchange({
        protocol: options.protocol ?? NETLINK_ROUTE,
        ...(netns === undefined ? {} : { netns }),
        ...(number > 0 || sysctls === undefined ? {} : { sysctls }),
        datagram: batch.datagram,
        answers: batch.messages.length,
        timeoutMs,
      })
      .catch((cause: unknown) => {
        if ((cause as Partial<NativeError>).code !== 'ETIMEDOUT') throw cause;
        throw new NetlinkTimeout(answers.unanswered, timeoutMs);
      });
    for (const datagram of received) eachMessage(datagram, (header, reader) => answers.take(header, reader));
    if (!answers.complete) throw new NetlinkTimeout(answers.unanswered, timeoutMs);
    results = base === 0 ? answers.results : [...results, ...answers.results];
  }
  return results;
}

/** One namespace's part of an `exchangeInTurn`. */
export interface ExchangePart extends Pick<ExchangeOptions, 'sysctls'> {
  /** The process's own when absent; such parts come first. */
  readonly netns?: NetnsRef;
  /** As many as fit one send: 512 messages, 64 KiB. */
  readonly messages: readonly NetlinkMessage[];
}

/**
 * Makes requests in several namespaces, one after another and in one trip; none is sent to a namespace after a refusal in
 * one before it. Returns the results of those that were sent to.
 *
 * Equivalent to: `ip -batch - && ip -n $netns -batch -`
 * Errors: as exchange; RangeError for a part that does not fit one send.
 * Cost: one short-lived thread and one send per part.
 */
export async function exchangeInTurn(native: NativeApi, parts: readonly ExchangePart[]): Promise<BatchResult[]> {
  const batches = parts.map(({ messages }) => {
    const [batch, ...more] = encodeBatches(messages, 1);
    if (batch === undefined || more.length > 0) throw new RangeError(`${messages.length} messages do not fit one send`);
    return batch;
  });
  const open = batches.map((batch) => new BatchAnswers(batch));
  const timeoutMs = batchTimeoutMs(5000, Math.max(0, ...parts.map(({ messages }) => messages.length)));
  const received = await native
    .netlinkExchangeInTurn(
      parts.map(({ netns, sysctls, messages }, index) => ({
        protocol: NETLINK_ROUTE,
        ...(netns === undefined ? {} : { netns }),
        ...(sysctls === undefined ? {} : { sysctls }),
        datagram: batches[index]?.datagram ?? new Uint8Array(),
        answers: messages.length,
        refusalsOnly: true,
        timeoutMs,
      })),
    )
    .catch((cause: unknown) => {
      if ((cause as Partial<NativeError>).code !== 'ETIMEDOUT') throw cause;
      throw new NetlinkTimeout(open.map(({ unanswered }) => unanswered).join(', '), timeoutMs);
    });
  const made = open.slice(0, received.length);
  for (const [index, answers] of made.entries()) {
    for (const datagram of received[index] ?? [])
      eachMessage(datagram, (header, reader) => answers.take(header, reader));
  }
  return made.map(({ results }) => results);
}

/**
 * Gets one object inside a namespace and leaves nothing open in it.
 *
 * Equivalent to: `ip -n $netns link show dev $link`
 * Errors: NetlinkError, ENODATA when nothing comes; NetlinkTimeout; NativeError; DecodeError.
 */
export async function exchangeGet<T>(
  native: NativeApi,
  netns: NetnsRef | undefined,
  request: { readonly message: NetlinkMessage; readonly decode: DecodeReply<T>; readonly timeoutMs?: number },
): Promise<T> {
  const { message, decode, ...options } = request;
  let found: T | undefined;
  const result = await exchange(native, netns, [message], {
    ...options,
    onReply: (_index, header, reader) => {
      found ??= decode(header, reader);
    },
  });
  assertBatch(result);
  if (found !== undefined) return found;
  throw new NetlinkError({ errno: errnoNumber('ENODATA') ?? 0, request: formatMessage(message) });
}

/** What a listing asks for. */
export interface DumpRequest<T> extends Pick<ExchangeOptions, 'timeoutMs' | 'protocol'> {
  readonly message: NetlinkMessage;
  readonly decode: DecodeReply<T>;
}

/**
 * Lists objects inside a namespace and leaves nothing open in it; again from the start when they changed meanwhile.
 *
 * Equivalent to: `ip -n $netns addr show`
 * Errors: NetlinkError, DumpInterrupted, NetlinkTimeout, NativeError, DecodeError.
 */
export async function exchangeDump<T>(
  native: NativeApi,
  netns: NetnsRef | undefined,
  request: DumpRequest<T>,
): Promise<T[]> {
  const { message, decode, ...options } = request;
  return dumpConsistently(message, async () => {
    const values: T[] = [];
    let interrupted = false;
    const result = await exchange(native, netns, [message], {
      ...options,
      onReply: (_index, header, reader) => {
        if (isInterrupted(header)) interrupted = true;
        if (interrupted || header.type === NLMSG_DONE) return;
        const value = decode(header, reader);
        if (value !== undefined) values.push(value);
      },
    });
    assertBatch(result);
    return interrupted ? undefined : values;
  });
}
