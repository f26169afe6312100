import type { ICompare, IRequestOp } from 'etcd3';
import { TsnetError } from '../../core/errors.js';
import { maxTxnOps, prefixEnd, EtcdFault, type EtcdClient, type KeyValue } from './client.js';

/**
 * What a decision reads from and writes to. All reads of one attempt see one revision; every key
 * read singly is compared at commit, so that a decision only takes effect on what it was made from.
 */
export class Txn {
  readonly #client: EtcdClient;
  readonly #read = new Map<string, KeyValue | undefined>();
  readonly #ops = new Map<string, IRequestOp>();
  readonly #values = new Map<string, Buffer>();
  readonly #empty = new Set<string>();
  #revision = 0;

  constructor(client: EtcdClient) {
    this.#client = client;
  }

  /** Revision that this attempt sees; 0 before the first read. */
  get revision(): number {
    return this.#revision;
  }

  /** Reads a key and makes the commit depend on it; sees what this transaction writes. */
  async get(key: string): Promise<KeyValue | undefined> {
    await this.load([key]);
    if (!this.#ops.has(key)) return this.#read.get(key);
    const value = this.#values.get(key);
    return value === undefined ? undefined : { key, value, modRevision: 0, createRevision: 0, lease: '0' };
  }

  /** Reads several keys with one call; `get` answers from it afterwards. */
  async load(keys: readonly string[]): Promise<void> {
    const wanted = [...new Set(keys)].filter((key) => !this.#read.has(key));
    if (wanted.length === 0) return;
    const listing = await this.#client.getMany(wanted, this.#revision);
    this.#revision = listing.revision;
    for (const key of wanted) this.#read.set(key, undefined);
    for (const kv of listing.kvs) this.#read.set(kv.key, kv);
  }

  /**
   * Takes keys as somebody else knows them at a revision: `get` answers from it. What is wrong or has changed since makes
   * the commit fail.
   */
  expect(kvs: Iterable<readonly [key: string, kv: KeyValue | undefined]>, revision: number): void {
    for (const [key, kv] of kvs) this.#read.set(key, kv);
    this.#revision = revision;
  }

  /**
   * Lists a prefix. The commit does not depend on it: read and write a guard key where a rule spans
   * the keys of the prefix.
   */
  async list(prefix: string): Promise<readonly KeyValue[]> {
    const listing = await this.#client.list(prefix, this.#revision);
    this.#revision = listing.revision;
    return listing.kvs;
  }

  put(key: string, value: Buffer | string, leaseId?: string): void {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value;
    this.#values.set(key, bytes);
    this.#ops.set(key, {
      request_put: { key: Buffer.from(key), value: bytes, ...(leaseId === undefined ? {} : { lease: leaseId }) },
    });
  }

  delete(key: string): void {
    this.#values.delete(key);
    this.#ops.set(key, { request_delete_range: { key: Buffer.from(key) } });
  }

  /** Deletes whatever begins with a prefix; one operation. */
  deletePrefix(prefix: string): void {
    this.#ops.set(prefix, { request_delete_range: { key: Buffer.from(prefix), range_end: prefixEnd(prefix) } });
  }

  /** Makes the commit depend on there being no key with this prefix. */
  expectEmpty(prefix: string): void {
    this.#empty.add(prefix);
  }

  /** Operations so far; etcd takes 128 in one transaction. */
  get size(): number {
    return Math.max(this.#ops.size, this.#read.size + this.#empty.size);
  }

  /** Commits; the revision (0 when there was nothing to write), or undefined when something read has changed. */
  async commit(): Promise<number | undefined> {
    if (this.#ops.size === 0) return 0;
    if (this.size > maxTxnOps)
      throw new TsnetError('ERR_INTERNAL', `a transaction of ${this.size} operations was built (at most ${maxTxnOps})`);
    const compare = [...this.#read].map(([key, kv]): ICompare => compareMod(key, kv?.modRevision ?? 0));
    for (const prefix of this.#empty) compare.push({ ...compareAbsent(prefix), range_end: prefixEnd(prefix) });
    try {
      const done = await this.#client.txn(compare, [...this.#ops.values()]);
      return done.succeeded ? done.revision : undefined;
    } catch (error) {
      if (!(error instanceof EtcdFault) || !error.isAmbiguous) throw error;
      return this.#outcome(error);
    }
  }

  // The answer is missing, not necessarily the effect: a value of ours that now stands tells.
  async #outcome(fault: EtcdFault): Promise<number | undefined> {
    const first = this.#values.entries().next().value;
    if (first === undefined) throw fault;
    const kv = await this.#client.get(first[0]).catch(() => Promise.reject(fault));
    if (kv === undefined || !kv.value.equals(first[1])) throw fault;
    return kv.modRevision > this.#revision ? kv.modRevision : undefined;
  }
}

/** `mod(KEY) = REVISION`; 0 means that the key is absent. */
function compareMod(key: string, revision: number): ICompare {
  return { key: Buffer.from(key), target: 'Mod', result: 'Equal', mod_revision: revision };
}

// On a range that holds nothing etcd compares an empty key, whose create revision is 0.
function compareAbsent(key: string): ICompare {
  return { key: Buffer.from(key), target: 'Create', result: 'Equal', create_revision: 0 };
}

export interface TransactOptions {
  /** Attempts before ERR_STORE_CONFLICT. */
  readonly attempts?: number;
  /** What is decided, for the error. */
  readonly what: string;
  readonly random?: () => number;
}

export interface Committed<T> {
  readonly result: T;
  /** Revision at which the effect stands; 0 when nothing was written. */
  readonly revision: number;
}

/**
 * Reads, decides and commits in one transaction that compares all that was read; again from the start
 * when somebody was quicker. `decide` must have no effect but on its Txn.
 * Errors: what `decide` throws; ERR_STORE_CONFLICT after the last attempt; ERR_STORE_UNREACHABLE.
 */
export async function transact<T>(
  client: EtcdClient,
  decide: (txn: Txn) => Promise<T> | T,
  options: TransactOptions,
): Promise<Committed<T>> {
  const attempts = options.attempts ?? 24;
  const random = options.random ?? Math.random;
  for (let attempt = 1; attempt <= attempts; attempt += 1) {
    const txn = new Txn(client);
    const result = await decideAt(txn, decide);
    if (result !== undefined) {
      const revision = await txn.commit();
      if (revision !== undefined) return { result: result.value, revision };
    }
    await delay(random() * Math.min(5 * 2 ** attempt, 200));
  }
  throw new TsnetError('ERR_STORE_CONFLICT', `${options.what}: lost against other changes ${attempts} times`);
}

// A snapshot that is compacted while it is read counts as a lost attempt.
async function decideAt<T>(txn: Txn, decide: (txn: Txn) => Promise<T> | T): Promise<{ readonly value: T } | undefined> {
  try {
    return { value: await decide(txn) };
  } catch (error) {
    if (error instanceof EtcdFault && error.reason === 'compacted') return undefined;
    throw error;
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
