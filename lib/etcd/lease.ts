import { Backoff } from '../sync/backoff.js';
import { EtcdFault, type EtcdClient, type KeepAliveStream } from './client.js';

/** How a lease was lost: etcd said that it is gone, or nobody acknowledged it for its whole lifetime. */
export type LeaseLoss = 'gone' | 'unacknowledged';

interface Held {
  /** As granted: etcd may have rounded what was asked, or the lease may be an older one. */
  ttlMs: number;
  /** When each request that is not yet answered was sent, oldest first; monotonic, ms. */
  readonly sentAt: number[];
  /** Sending time of the newest request that was acknowledged: etcd counts from later than that. */
  acknowledgedAt: number;
  readonly lose: (loss: LeaseLoss) => void;
}

/** A lease that is kept. */
export interface KeptLease {
  readonly leaseId: string;
  /** Resolves once, when the lease is lost; never after `stop`. */
  readonly lost: Promise<LeaseLoss>;
  /** Sends one keep-alive now. */
  renew(): void;
  /** Stops keeping it; etcd lets it expire. */
  stop(): void;
}

/**
 * Keeps any number of leases alive over one stream. Time is monotonic and counted from the sending of
 * the last acknowledged request, so that a lease is reported lost no later than etcd drops it.
 */
export class LeaseKeeper {
  readonly #client: EtcdClient;
  readonly #held = new Map<string, Held>();
  readonly #stopping = new AbortController();
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #backoff = new Backoff(50, 1000);
  #stream: KeepAliveStream | undefined;
  #isOpening = false;

  constructor(client: EtcdClient) {
    this.#client = client;
  }

  /** Ends the stream; leases run out by themselves. */
  close(): void {
    this.#stopping.abort();
    for (const timer of this.#timers) clearInterval(timer);
    this.#held.clear();
    this.#stream?.cancel();
    this.#stream = undefined;
  }

  /** Grants a lease. Equivalent to: `etcdctl lease grant`. */
  grant(ttlMs: number): Promise<{ readonly leaseId: string; readonly ttlMs: number }> {
    return this.#client.leaseGrant(ttlMs);
  }

  /**
   * Keeps a lease: every third of its lifetime by itself, or only by `renew` when `manual`.
   * The first request goes out at once.
   */
  keep(leaseId: string, ttlMs: number, options: { readonly manual?: boolean } = {}): KeptLease {
    const timers: NodeJS.Timeout[] = [];
    const stop = (): void => {
      for (const timer of timers) {
        clearInterval(timer);
        this.#timers.delete(timer);
      }
      if (this.#held.get(leaseId) === held) this.#held.delete(leaseId);
    };
    let lose: (loss: LeaseLoss) => void = () => undefined;
    const lost = new Promise<LeaseLoss>((resolve) => {
      lose = (loss) => {
        stop();
        resolve(loss);
      };
    });
    const held: Held = { ttlMs, sentAt: [], acknowledgedAt: performance.now(), lose };
    this.#held.set(leaseId, held);
    const renew = (): void => this.#send(leaseId);
    if (options.manual !== true) timers.push(setInterval(renew, ttlMs / 3));
    const check = (): void => {
      if (performance.now() - held.acknowledgedAt >= held.ttlMs) held.lose('unacknowledged');
    };
    timers.push(setInterval(check, Math.min(ttlMs / 10, 500)));
    for (const timer of timers) this.#timers.add(timer);
    renew();
    return { leaseId, lost, renew, stop };
  }

  #send(leaseId: string): void {
    const held = this.#held.get(leaseId);
    if (held === undefined) return;
    if (this.#stream === undefined) {
      void this.#open();
      return;
    }
    held.sentAt.push(performance.now());
    this.#stream.write({ ID: leaseId });
  }

  async #open(): Promise<void> {
    if (this.#isOpening || this.#stopping.signal.aborted) return;
    this.#isOpening = true;
    try {
      const stream = await this.#client.openKeepAlive();
      stream.on('error', () => this.#broken(stream));
      stream.on('end', () => this.#broken(stream));
      if (this.#stopping.signal.aborted) {
        stream.cancel();
        return;
      }
      stream.on('data', (answer) => this.#acknowledge(answer.ID, Number(answer.TTL)));
      this.#stream = stream;
    } catch {
      await this.#backoff.wait(this.#stopping.signal);
    } finally {
      this.#isOpening = false;
    }
    for (const leaseId of this.#held.keys()) this.#send(leaseId);
  }

  #broken(stream: KeepAliveStream): void {
    if (this.#stream !== stream) return;
    this.#stream = undefined;
    // Answers to what was sent will not come; what was sent is not acknowledged.
    for (const held of this.#held.values()) held.sentAt.length = 0;
    void this.#backoff.wait(this.#stopping.signal).then(() => (this.#held.size > 0 ? this.#open() : undefined));
  }

  #acknowledge(leaseId: string, ttlSeconds: number): void {
    this.#backoff.reset();
    const held = this.#held.get(leaseId);
    const sentAt = held?.sentAt.shift();
    if (held === undefined) return;
    if (ttlSeconds <= 0) held.lose('gone');
    else if (sentAt !== undefined) held.acknowledgedAt = sentAt;
    if (ttlSeconds > 0) held.ttlMs = ttlSeconds * 1000;
  }
}

export interface HoldLeaseOptions {
  readonly ttlMs: number;
  /** A lease of before to go on with, when it still lives. */
  readonly leaseId?: string;
  /** Whether the keys are tied to `leaseId` already. */
  readonly isAttached?: boolean;
  /** Ties keys to the lease: called at the start and again for every new lease. */
  readonly attach: (leaseId: string) => Promise<void>;
  readonly onLost?: (loss: LeaseLoss) => void;
  readonly onRegranted?: (leaseId: string) => void;
  readonly onError?: (error: unknown) => void;
  /** Kept alive by `renew` only, and after a loss granted anew at the next `renew`, or for the one that found the lease gone. */
  readonly manual?: boolean;
  readonly signal: AbortSignal;
}

/** A lease held for good: a lost one is replaced and its keys are put again. */
export interface HeldLease {
  /** Sends a keep-alive now; nothing while there is no lease. */
  renew(): void;
  readonly leaseId: string | undefined;
  /** Settles when holding has ended. */
  readonly ended: Promise<void>;
}

/** Holds a lease until the signal, through losses and outages. */
export function holdLease(keeper: LeaseKeeper, options: HoldLeaseOptions): HeldLease {
  let kept: KeptLease | undefined;
  // A manually held lease stands for somebody else's sign of life: without one there is no new lease either.
  let want: () => void = () => undefined;
  let signMs = performance.now();
  const ended = (async (): Promise<void> => {
    const backoff = new Backoff(50, 1000);
    let leaseId = options.leaseId;
    let isFirst = true;
    while (!options.signal.aborted) {
      try {
        leaseId ??= (await keeper.grant(options.ttlMs)).leaseId;
        if (!isFirst || options.isAttached !== true || leaseId !== options.leaseId) await options.attach(leaseId);
      } catch (error) {
        if (error instanceof EtcdFault && error.reason === 'lease-missing') leaseId = undefined;
        else options.onError?.(error);
        await backoff.wait(options.signal);
        continue;
      }
      if (options.signal.aborted) break;
      backoff.reset();
      if (!isFirst) options.onRegranted?.(leaseId);
      isFirst = false;
      kept = keeper.keep(leaseId, options.ttlMs, { manual: options.manual === true });
      const loss = await Promise.race([kept.lost, aborted(options.signal)]);
      kept.stop();
      kept = undefined;
      if (loss !== undefined) options.onLost?.(loss);
      leaseId = undefined;
      const isSigned = loss === 'gone' && performance.now() - signMs < options.ttlMs;
      if (options.manual === true && !isSigned)
        await Promise.race([new Promise<void>((resolve) => (want = resolve)), aborted(options.signal)]);
    }
  })();
  return {
    renew: () => {
      signMs = performance.now();
      want();
      kept?.renew();
    },
    get leaseId() {
      return kept?.leaseId;
    },
    ended,
  };
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    else signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
}
