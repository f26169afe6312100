import {
  Etcd3,
  type ICompare,
  type IDuplexStream,
  type ILeaseKeepAliveRequest,
  type ILeaseKeepAliveResponse,
  type IKeyValue,
  type IOptions,
  type IRequestOp,
  type ITxnResponse,
  type IWatchRequest,
  type IWatchResponse,
} from 'etcd3';
import { TsnetError } from '../../core/errors.js';
import { socketPath } from '../socket-path.js';

/** How to reach an etcd: `http://HOST:PORT`, `HOST:PORT` or `unix:PATH`, any number of members. */
export interface EtcdClientOptions {
  readonly endpoints: readonly string[];
  /** Deadline of every unary call, ms. */
  readonly deadlineMs?: number;
}

/** One key as etcd holds it. */
export interface KeyValue {
  readonly key: string;
  readonly value: Buffer;
  /** Revision of the last change; what a transaction compares. */
  readonly modRevision: number;
  readonly createRevision: number;
  /** Lease id as decimal text, `0` for none. */
  readonly lease: string;
}

/** A list of keys as they were together at one revision. */
export interface Listing {
  readonly revision: number;
  readonly kvs: readonly KeyValue[];
}

/** Why etcd did not do what it was asked. */
export type EtcdFaultReason =
  'unreachable' | 'deadline' | 'compacted' | 'future' | 'lease-missing' | 'no-space' | 'refused';

/** A failed call to etcd, always ERR_STORE_UNREACHABLE to whoever is above. */
export class EtcdFault extends TsnetError {
  readonly reason: EtcdFaultReason;

  constructor(reason: EtcdFaultReason, message: string, cause: unknown) {
    super('ERR_STORE_UNREACHABLE', message, { cause });
    this.name = 'EtcdFault';
    this.reason = reason;
  }

  /** Reports whether the call may have been carried out all the same. */
  get isAmbiguous(): boolean {
    return this.reason === 'unreachable' || this.reason === 'deadline';
  }
}

export type WatchStream = IDuplexStream<IWatchRequest, IWatchResponse>;
export type KeepAliveStream = IDuplexStream<ILeaseKeepAliveRequest, ILeaseKeepAliveResponse>;

const defaultDeadlineMs = 5000;
const pageSize = 2000;

/**
 * A connection to etcd over the `etcd3` package, of which only the plain calls and raw streams are used.
 * Every unary call has a deadline, and is tried once at each member before it fails if it only reads.
 * Errors: ERR_USAGE for the path of a socket that is too long.
 */
export class EtcdClient {
  readonly #etcd: Etcd3;
  readonly #endpoints: readonly string[];
  readonly #deadlineMs: number;
  #closed = false;

  constructor(options: EtcdClientOptions) {
    for (const endpoint of options.endpoints)
      if (endpoint.startsWith('unix:')) socketPath(endpoint.replace(/^unix:(?:\/\/)?/, ''), 'ERR_USAGE');
    this.#endpoints = options.endpoints;
    this.#deadlineMs = options.deadlineMs ?? defaultDeadlineMs;
    this.#etcd = new Etcd3({
      hosts: [...options.endpoints],
      grpcOptions: {
        // etcd ends connections that are pinged more often than every 5 s.
        'grpc.keepalive_time_ms': 10_000,
        'grpc.keepalive_timeout_ms': 5000,
        'grpc.keepalive_permit_without_calls': 1,
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.min_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 1000,
        'grpc.max_receive_message_length': -1,
        'grpc.max_send_message_length': -1,
      },
      faultHandling: { host: () => passThrough, global: passThrough },
    });
  }

  get endpoints(): readonly string[] {
    return this.#endpoints;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  close(): void {
    this.#closed = true;
    this.#etcd.close();
  }

  /** Reads one key, linearizably. */
  async get(key: string): Promise<KeyValue | undefined> {
    const response = await this.#read((options) => this.#etcd.kv.range({ key: Buffer.from(key) }, options));
    const kv = response.kvs[0];
    return kv === undefined ? undefined : toKeyValue(kv);
  }

  /** Lists a prefix at one revision, page by page; the newest revision unless one is named. */
  async list(prefix: string, revision = 0): Promise<Listing> {
    const kvs: KeyValue[] = [];
    let at = revision;
    let from = Buffer.from(prefix);
    for (;;) {
      const key = from;
      const response = await this.#read((options) =>
        this.#etcd.kv.range({ key, range_end: prefixEnd(prefix), limit: pageSize, revision: at }, options),
      );
      if (at === 0) at = Number(response.header.revision);
      for (const kv of response.kvs) kvs.push(toKeyValue(kv));
      const last = response.kvs.at(-1);
      if (!response.more || last === undefined) return { revision: at, kvs };
      from = Buffer.concat([last.key, Buffer.from([0])]);
    }
  }

  /** Reads several keys together, as they were at one revision (the newest unless one is named). */
  async getMany(keys: readonly string[], revision = 0): Promise<Listing> {
    const kvs: KeyValue[] = [];
    let at = revision;
    for (let from = 0; from === 0 || from < keys.length; from += maxTxnOps) {
      const success = keys
        .slice(from, from + maxTxnOps)
        .map((key): IRequestOp => ({ request_range: { key: Buffer.from(key), revision: at } }));
      const response = await this.#read((options) => this.#etcd.kv.txn({ success }, options));
      if (at === 0) at = Number(response.header.revision);
      for (const item of response.responses) for (const kv of item.response_range.kvs) kvs.push(toKeyValue(kv));
    }
    return { revision: at, kvs };
  }

  /** One transaction, sent once. Errors: EtcdFault, of which `isAmbiguous` says whether it may have happened. */
  async txn(
    compare: readonly ICompare[],
    success: readonly IRequestOp[],
  ): Promise<{ readonly succeeded: boolean; readonly revision: number }> {
    const response = await this.#once<ITxnResponse>((options) =>
      this.#etcd.kv.txn({ compare: [...compare], success: [...success] }, options),
    );
    return { succeeded: response.succeeded, revision: Number(response.header.revision) };
  }

  /** Grants a lease; etcd rounds up to whole seconds and has a least one. */
  async leaseGrant(ttlMs: number): Promise<{ readonly leaseId: string; readonly ttlMs: number }> {
    const response = await this.#once((options) =>
      this.#etcd.leaseClient.leaseGrant({ TTL: Math.ceil(ttlMs / 1000) }, options),
    );
    return { leaseId: response.ID, ttlMs: Number(response.TTL) * 1000 };
  }

  async leaseRevoke(leaseId: string): Promise<void> {
    await this.#once((options) => this.#etcd.leaseClient.leaseRevoke({ ID: leaseId }, options));
  }

  /** What the members of the cluster say where clients and other members reach them. Equivalent to: `etcdctl member list` */
  async memberUrls(): Promise<string[]> {
    const { members } = await this.#read((options) => this.#etcd.cluster.memberList({}, options));
    return members.flatMap(({ clientURLs, peerURLs }) => [...clientURLs, ...peerURLs]);
  }

  /** Forgets history up to a revision. */
  async compact(revision: number): Promise<void> {
    await this.#once((options) => this.#etcd.kv.compact({ revision, physical: true }, options));
  }

  /** Asks the cluster for its newest revision: fails where no quorum answers. */
  async revision(): Promise<number> {
    const response = await this.#read((options) =>
      this.#etcd.kv.range({ key: Buffer.from('\0'), count_only: true }, options),
    );
    return Number(response.header.revision);
  }

  /** Opens a raw watch stream; `watchPrefix` is the loop over it. */
  async openWatch(): Promise<WatchStream> {
    return this.#open(() => this.#etcd.watchClient.watch());
  }

  /** Opens a raw keep-alive stream; LeaseKeeper is the loop over it. */
  async openKeepAlive(): Promise<KeepAliveStream> {
    return this.#open(() => this.#etcd.leaseClient.leaseKeepAlive());
  }

  async #open<T>(open: () => Promise<T>): Promise<T> {
    try {
      return await open();
    } catch (error) {
      throw this.#toFault(error);
    }
  }

  async #read<T>(call: (options: { deadline: number }) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#once(call);
      } catch (error) {
        if (attempt >= this.#endpoints.length || !(error instanceof EtcdFault) || !error.isAmbiguous) throw error;
      }
    }
  }

  async #once<T>(call: (options: { deadline: number }) => Promise<T>): Promise<T> {
    try {
      return await call({ deadline: Date.now() + this.#deadlineMs });
    } catch (error) {
      throw this.#toFault(error);
    }
  }

  #toFault(error: unknown): EtcdFault {
    if (error instanceof EtcdFault) return error;
    const text = error instanceof Error ? error.message : String(error);
    return new EtcdFault(faultReason(error, text), `etcd at ${this.#endpoints.join(', ')}: ${text}`, error);
  }
}

/** etcd's default `--max-txn-ops`: neither comparisons nor operations of a transaction may be more. */
export const maxTxnOps = 128;

function faultReason(error: unknown, text: string): EtcdFaultReason {
  if (text.includes('has been compacted')) return 'compacted';
  if (text.includes('is a future revision')) return 'future';
  if (text.includes('requested lease not found')) return 'lease-missing';
  if (text.includes('database space exceeded')) return 'no-space';
  const name = error instanceof Error ? error.constructor.name : '';
  if (name === 'GRPCDeadlineExceededError') return 'deadline';
  // These come from etcd itself after it looked at the request; everything else says nothing of the outcome.
  return name === 'GRPCInvalidArgumentError' ||
    name === 'GRPCFailedPreconditionError' ||
    name === 'EtcdPermissionDeniedError'
    ? 'refused'
    : 'unreachable';
}

// The package's own policies would hold back calls for 5 s after three failures and repeat writes blindly.
const never = (): { dispose: () => void } => ({ dispose: () => undefined });
const passThrough = {
  onSuccess: never,
  onFailure: never,
  execute: async (run: (context: { signal: AbortSignal }) => unknown): Promise<unknown> =>
    run({ signal: neverAborted }),
} as unknown as NonNullable<NonNullable<IOptions['faultHandling']>['global']>;
const neverAborted = new AbortController().signal;

function toKeyValue(kv: IKeyValue): KeyValue {
  return {
    key: kv.key.toString('utf8'),
    value: kv.value,
    modRevision: Number(kv.mod_revision),
    createRevision: Number(kv.create_revision),
    lease: kv.lease,
  };
}

/** The end of the range that a prefix means: its last byte one higher. */
export function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  for (let at = end.length - 1; at >= 0; at -= 1) {
    const byte = end[at] ?? 0xff;
    if (byte < 0xff) {
      end[at] = byte + 1;
      return end.subarray(0, at + 1);
    }
  }
  return Buffer.from([0]);
}
