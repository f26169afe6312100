import type { TsnetError } from '../../core/errors.js';
import type { Logger } from '../../lib/log.js';
import { backoffMs, type Clock } from './backoff.js';

/** What the kernel refused last, and when it is asked again. */
export interface Failure {
  readonly error: TsnetError;
  readonly attempts: number;
  readonly retryAtMs: number;
}

export interface BacklogListener {
  /** Keys that failed have become dirty again. */
  onDue(): void;
  /** A key that was not failing has failed. */
  onFailure(error: TsnetError): void;
}

/**
 * Keys that are not known to be in order: those to be looked at by the next flush (dirty), those that
 * wait for a link (blocked), and those that failed and are asked for again after a while.
 */
export class Backlog {
  readonly dirty = new Set<string>();
  readonly #blocked = new Map<string, Set<string>>();
  readonly #blockedBy = new Map<string, string>();
  readonly #failing = new Map<string, Failure>();
  #cancelRetry: () => void = () => undefined;

  constructor(
    private readonly clock: Clock,
    private readonly log: Logger,
    private readonly listener: BacklogListener,
  ) {}

  get failing(): ReadonlyMap<string, Failure> {
    return this.#failing;
  }

  /** Empties the dirty set, and returns what was in it. */
  take(): string[] {
    const keys = [...this.dirty];
    this.dirty.clear();
    for (const key of keys) this.unblock(key);
    return keys;
  }

  /** The link that a key waits for. */
  blockerOf(key: string): string | undefined {
    return this.#blockedBy.get(key);
  }

  block(key: string, link: string): void {
    this.#failing.delete(key);
    this.#blockedBy.set(key, link);
    this.#blocked.set(link, (this.#blocked.get(link) ?? new Set<string>()).add(key));
  }

  unblock(key: string): void {
    const link = this.#blockedBy.get(key);
    if (link === undefined) return;
    this.#blockedBy.delete(key);
    const keys = this.#blocked.get(link);
    keys?.delete(key);
    if (keys?.size === 0) this.#blocked.delete(link);
  }

  /** Makes dirty what waits for a link. */
  release(link: string): void {
    for (const key of this.#blocked.get(link) ?? []) {
      this.#blockedBy.delete(key);
      this.dirty.add(key);
    }
    this.#blocked.delete(link);
  }

  /** The failure of a key, or of the link that it waits for. */
  failureOf(key: string): TsnetError | undefined {
    const link = this.#blockedBy.get(key);
    const failure = this.#failing.get(key) ?? (link === undefined ? undefined : this.#failing.get(`link ${link}`));
    return failure?.error;
  }

  /** Notes a failure; it is logged when it is another one than before. */
  fail(key: string, error: TsnetError): void {
    const before = this.#failing.get(key);
    const attempts = (before?.attempts ?? 0) + 1;
    const delayMs = backoffMs(attempts, () => this.clock.random());
    this.#failing.set(key, { error, attempts, retryAtMs: this.clock.nowMs() + delayMs });
    if (before?.error.code !== error.code) this.log.warn({ code: error.code, key }, error.message);
    this.#planRetry();
    if (attempts === 1) this.listener.onFailure(error);
  }

  /** Forgets a failure. */
  absolve(key: string): void {
    this.#failing.delete(key);
  }

  /** Forgets a failure and looks at the key again. */
  retryNow(key: string): void {
    this.#failing.delete(key);
    this.dirty.add(key);
  }

  close(): void {
    this.#cancelRetry();
  }

  #planRetry(): void {
    this.#cancelRetry();
    let earliestMs = Infinity;
    for (const { retryAtMs } of this.#failing.values()) earliestMs = Math.min(earliestMs, retryAtMs);
    if (earliestMs === Infinity) return;
    this.#cancelRetry = this.clock.after(Math.max(0, earliestMs - this.clock.nowMs()), () => {
      const nowMs = this.clock.nowMs();
      for (const [key, failure] of this.#failing) {
        if (failure.retryAtMs > nowMs) continue;
        this.#failing.set(key, { ...failure, retryAtMs: Infinity });
        this.dirty.add(key);
      }
      this.#planRetry();
      this.listener.onDue();
    });
  }
}
