import type { Reader } from '../bytes/reader.js';
import { Writer } from '../bytes/writer.js';
import { NLM_F_ACK, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR } from './constants.js';
import { NetlinkError } from './errors.js';
import {
  type Answer,
  decodeDone,
  decodeError,
  encodeMessage,
  formatMessage,
  type MessageHeader,
  type NetlinkMessage,
} from './message.js';

/** The kernel copies a request into one buffer, and each acknowledgement takes about 1 KiB of the receive buffer. */
const batchMaxBytes = 64 * 1024;
const batchMaxMessages = 512;

/** Deleting a link can wait some 20 ms in the kernel: a long batch gets longer. */
const timeoutPerMessageMs = 50;

/** How long a batch may take where a single request may take `timeoutMs`. */
export function batchTimeoutMs(timeoutMs: number, messages: number): number {
  return timeoutMs + (messages - 1) * timeoutPerMessageMs;
}

/** What became of each message of a batch, in order: undefined is success. */
export type BatchResult = readonly (NetlinkError | undefined)[];

/**
 * Called for what a message brought: the object of a get, an echo, a dump's parts; and once more for the
 * `NLMSG_DONE` of a dump, whose flags can say that it was interrupted.
 */
export type OnReply = (index: number, header: MessageHeader, reader: Reader) => void;

/** Messages encoded into one datagram, numbered upwards from `firstSeq`. */
export interface EncodedBatch {
  readonly datagram: Buffer;
  readonly firstSeq: number;
  readonly messages: readonly NetlinkMessage[];
}

/** Reports whether a message asks for a dump; the same bits mean something else on other types. */
export function isDump(message: NetlinkMessage): boolean {
  return (message.type & 3) === 2 && (message.flags & NLM_F_DUMP) === NLM_F_DUMP;
}

/**
 * Encodes messages into as few datagrams as the limits allow, each message with `NLM_F_ACK` unless
 * it is a dump, which ends by itself.
 *
 * Errors: EncodeError, and then nothing is encoded.
 * Cost: one buffer per datagram, none per attribute.
 */
export function encodeBatches(messages: readonly NetlinkMessage[], firstSeq: number): EncodedBatch[] {
  const batches: EncodedBatch[] = [];
  let writer = new Writer();
  let first = 0;
  for (let index = 0; index <= messages.length; index++) {
    const message = messages[index];
    if (
      index > first &&
      (message === undefined || writer.length > batchMaxBytes || index - first === batchMaxMessages)
    ) {
      batches.push({
        datagram: writer.written(),
        firstSeq: (firstSeq + first) >>> 0,
        messages: messages.slice(first, index),
      });
      if (message !== undefined) writer = new Writer();
      first = index;
    }
    if (message !== undefined) {
      encodeMessage(writer, message, { seq: (firstSeq + index) >>> 0, flags: isDump(message) ? 0 : NLM_F_ACK });
    }
  }
  return batches;
}

/** Collects the answers to one encoded batch. */
export class BatchAnswers {
  readonly batch: EncodedBatch;
  readonly results: (NetlinkError | undefined)[];
  readonly #answered: boolean[];
  readonly #onReply: OnReply | undefined;
  #open: number;

  constructor(batch: EncodedBatch, onReply?: OnReply) {
    this.batch = batch;
    this.results = new Array<NetlinkError | undefined>(batch.messages.length).fill(undefined);
    this.#answered = new Array<boolean>(batch.messages.length).fill(false);
    this.#onReply = onReply;
    this.#open = batch.messages.length;
  }

  /** Reports whether every message has its terminal answer. */
  get complete(): boolean {
    return this.#open === 0;
  }

  /** The requests without an answer yet, in words. */
  get unanswered(): string {
    const { messages } = this.batch;
    const first = this.#answered.indexOf(false);
    const message = messages[first];
    if (message === undefined) return '';
    return this.#open === 1 ? formatMessage(message) : `${formatMessage(message)} and ${this.#open - 1} more`;
  }

  /**
   * Takes a received message that belongs to this batch; others are passed over.
   *
   * Errors: DecodeError.
   */
  take(header: MessageHeader, reader: Reader): void {
    const index = (header.seq - this.batch.firstSeq) >>> 0;
    const message = this.batch.messages[index];
    if (message === undefined) return;
    if (header.type === NLMSG_ERROR) this.#settle(index, message, decodeError(reader, header.flags));
    else this.#onReply?.(index, header, reader);
    if (header.type === NLMSG_DONE) this.#settle(index, message, decodeDone(reader, header.flags));
  }

  #settle(index: number, message: NetlinkMessage, answer: Answer): void {
    if (this.#answered[index] === true) return;
    this.#answered[index] = true;
    this.#open--;
    if (answer.errno !== 0) {
      const { errno, extAck } = answer;
      this.results[index] = new NetlinkError({ errno, request: formatMessage(message), extAck });
    }
  }
}

/**
 * Throws when a batch did not succeed as a whole.
 *
 * Errors: the NetlinkError where there is one, an AggregateError of them where there are more.
 */
export function assertBatch(result: BatchResult): void {
  const errors = result.filter((error) => error !== undefined);
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) {
    throw new AggregateError(
      errors,
      `${errors.length} of ${result.length} requests failed: ${errors[0]?.message ?? ''}`,
    );
  }
}
