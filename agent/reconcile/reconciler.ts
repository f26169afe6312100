import type { NativeApi, NetnsRef } from '../../native/api.js';
import { TsnetError } from '../../core/errors.js';
import type { LinkMark } from '../../core/ids.js';
import type { KernelObject } from '../../core/kernel.js';
import type { Logger } from '../../lib/log.js';
import { NetlinkConnection } from '../../lib/netlink/connection.js';
import { kernelError } from '../kernel-error.js';
import { Audit, repairLinkSettings } from './audit.js';
import { backoffMs, systemClock, type Clock } from './backoff.js';
import { Loop } from './loop.js';
import type { LinkEvent } from './notices.js';
import { reconcilerStatus, type ReconcilerStatus } from './status.js';
import { newWorkings, type Workings } from './workings.js';

/** How a reconciler is started. */
export interface ReconcilerOptions {
  readonly native: NativeApi;
  readonly log: Logger;
  /** Everything is compared with a full dump this often; 0 turns that off. */
  readonly auditMs: number;
  /** The namespace to work in; the process's own when absent. */
  readonly netns?: NetnsRef;
  readonly clock?: Clock;
}

/** A link of ours, as somebody else is told of it. */
export interface MarkedLink {
  readonly name: string;
  readonly ifindex: number;
  readonly alias: string;
  readonly mark: LinkMark;
}

interface Connections {
  readonly main: NetlinkConnection;
  readonly reaper: NetlinkConnection;
}

/**
 * Keeps the kernel as its owners want it: one map of desired objects, one of observed objects, and a set
 * of keys that may differ. A flush plans the operations for those keys alone and sends them as one batch.
 *
 *     setDesired ──▶ desired ─┐
 *                             ├─▶ dirty keys ──▶ plan ──▶ batch ──▶ kernel
 *     notifications, dumps ─▶ observed ◀────────────── notifications ──┘
 *
 * What is observed equal to what is desired is never sent, so a restarted agent changes nothing that is
 * right. What nobody desires of that which was there at the start stays until `prune` is called.
 */
export class Reconciler {
  /** Others may batch requests of their own on it. */
  readonly connection: NetlinkConnection;
  readonly #options: ReconcilerOptions;
  readonly #clock: Clock;
  readonly #connections: Connections;
  readonly #parts: Workings;
  readonly #loop: Loop;
  readonly #audit: Audit;
  #isPruning = false;

  private constructor(options: ReconcilerOptions, connections: Connections) {
    const { native, netns, log } = options;
    const clock = options.clock ?? systemClock;
    this.#options = options;
    this.#clock = clock;
    this.#connections = connections;
    this.connection = connections.main;
    this.#parts = newWorkings({
      native,
      netns,
      connection: connections.main,
      reaperConnection: connections.reaper,
      clock,
      log,
      wake: () => this.#loop.wake(),
      look: (link) => this.#look(link),
      onLoss: (cause) => this.#onLoss(cause),
      onError: (error) => this.#onError(error),
    });
    const { backlog, view, settling } = this.#parts;
    this.#loop = new Loop({
      hasWork: () => backlog.dirty.size > 0 || view.isDoubted || view.hasSuspectRoutes,
      turn: () => this.#turn(),
      onIdle: () => {
        if (settling.isAwaited) settling.evaluate();
      },
      onError: (error) => this.#onError(error),
    });
    this.#audit = new Audit({ clock, intervalMs: options.auditMs, run: () => this.audit(), log });
  }

  /**
   * Opens its sockets, subscribes, and reads what is there. Changes nothing.
   *
   * Errors: NativeError EPERM without the right to, ENOENT when there is no such namespace.
   */
  static async start(options: ReconcilerOptions): Promise<Reconciler> {
    const { native, netns } = options;
    const where = netns === undefined ? {} : { netns };
    const main = await NetlinkConnection.open(native, where);
    const reaper = await NetlinkConnection.open(native, where).catch((error: unknown) => {
      main.close();
      throw error;
    });
    const reconciler = new Reconciler(options, { main, reaper });
    try {
      await reconciler.#parts.view.open(native, netns);
      await reconciler.#parts.view.load();
    } catch (error) {
      reconciler.close();
      throw error;
    }
    reconciler.#audit.plan();
    return reconciler;
  }

  /**
   * Replaces what one owner wants; nothing removes it. An equal object that others want too stays for
   * them; of different versions the last one handed in wins.
   *
   * Cost: proportional to the owner's objects.
   */
  setDesired(owner: string, objects: readonly KernelObject[]): void {
    const { desired, settling, drift, backlog } = this.#parts;
    const { changed, dropped } = desired.replace(owner, objects);
    settling.noteDropped(owner, dropped);
    for (const key of changed) {
      drift.forget(key);
      backlog.retryNow(key);
    }
    // Asking again for what failed means: try again now.
    for (const key of desired.keysOfOwner(owner)) if (backlog.failing.has(key)) backlog.retryNow(key);
    this.#loop.wake();
  }

  /**
   * Leaves what an owner has just asked for to somebody who makes it anyway: until `made` has ended none of it is sent,
   * and what the kernel says of it is no change from outside. What is not as asked for then is made as ever.
   */
  lend(owner: string, made: Promise<unknown>): void {
    this.#parts.loans.lend(owner, made);
  }

  /**
   * Resolves when all that the owner wants is there, and what it has stopped wanting is gone.
   *
   * Errors: of the first of its objects that fails, or of the link that one waits for: ERR_KERNEL,
   * ERR_VNI_CONFLICT, ERR_PARENT_UNKNOWN, ERR_LINK_CONFLICT, ERR_PORTS_EXHAUSTED. ERR_DEADLINE names
   * the first object that is not there in time; ERR_STOPPING when the reconciler is closed.
   */
  settled(owner: string, timeoutMs: number): Promise<void> {
    return this.#parts.settling.settled(owner, timeoutMs);
  }

  /**
   * From now on removes objects with our mark that nobody desires, which is to be called once every
   * owner of before the restart has had its say. Links of endpoints are left to who made them.
   */
  prune(): void {
    this.#isPruning = true;
    this.#markStrays();
    this.#loop.wake();
  }

  /** Asks the kernel for one link, for whoever has just made or moved it. */
  async refreshLink(name: string): Promise<void> {
    await this.#parts.view.refreshLink(name);
    this.#loop.wake();
  }

  /** The ifindex of any link of the namespace; undefined where there is none. */
  linkIndex(name: string): number | undefined {
    return this.#parts.view.links.byName(name)?.ifindex;
  }

  /** Links with our mark. */
  markedLinks(): MarkedLink[] {
    return [...this.#parts.view.links.values()].flatMap(({ name, ifindex, alias, mark }) => {
      return mark === null ? [] : [{ name, ifindex, alias, mark }];
    });
  }

  /** Tells of links with our mark that come and go; returns what ends that. */
  onLink(listener: (event: LinkEvent) => void): () => void {
    return this.#parts.notices.listen(listener);
  }

  /** Deletes a link of ours at the shared price of those that are deleted with it; a missing one is a success. */
  deleteLink(ifindex: number): Promise<void> {
    return this.#parts.reaper.delete(ifindex);
  }

  status(): ReconcilerStatus {
    return reconcilerStatus(this.#parts);
  }

  /** Compares everything with a full dump and repairs what differs. Resolves when that has been sent. */
  async audit(): Promise<void> {
    const { native, netns } = this.#options;
    await this.#loop.exclusively(async () => {
      await this.#load();
      await repairLinkSettings(this.#parts, native, netns);
    });
    await this.#loop.exclusively(() => this.#parts.flush.run());
    this.#loop.wake();
  }

  /** Stops. What is desired stays in the kernel. */
  close(): void {
    if (this.#loop.isClosed) return;
    const { backlog, deletions, view, settling } = this.#parts;
    this.#loop.close();
    this.#audit.close();
    backlog.close();
    deletions.close();
    view.close();
    this.#connections.main.close();
    this.#connections.reaper.close();
    settling.rejectAll(new TsnetError('ERR_STOPPING', 'the agent is stopping'));
  }

  async #turn(): Promise<void> {
    const { view, flush, backlog } = this.#parts;
    if (view.isDoubted) await this.#load();
    await flush.run();
    if (backlog.dirty.size > 0) this.#loop.wake();
  }

  async #load(): Promise<void> {
    const { native, netns } = this.#options;
    const { view, drift } = this.#parts;
    await view.open(native, netns);
    await view.load();
    drift.reset();
    this.#markStrays();
  }

  #markStrays(): void {
    if (!this.#isPruning) return;
    for (const key of this.#parts.comparison.strays()) this.#parts.backlog.dirty.add(key);
  }

  #look(link: string): void {
    this.refreshLink(link).catch((error: unknown) => {
      if (!this.#loop.isClosed) this.#options.log.warn({ err: error, link }, 'a link could not be asked for');
    });
  }

  #onLoss(cause: unknown): void {
    if (this.#loop.isClosed) return;
    const text = cause instanceof Error ? cause.message : String(cause);
    this.#options.log.warn({ cause: text }, 'netlink notifications were lost: reading everything again');
    this.#parts.view.doubt();
    this.#loop.wake();
  }

  #onError(error: unknown): void {
    if (this.#loop.isClosed) return;
    this.#options.log.error({ err: error }, 'kernel objects could not be brought in line');
    // What was sent may or may not have been done.
    const { echoes, backlog, settling, view } = this.#parts;
    for (const key of echoes.clear()) backlog.dirty.add(key);
    settling.rejectAll(kernelError(error));
    view.doubt();
    const random = (): number => this.#clock.random();
    this.#clock.after(backoffMs(3, random), () => this.#loop.wake());
  }
}
