import type { NativeApi, NetnsRef } from '../../native/api.js';
import { TsnetError, type ErrorCode } from '../../core/errors.js';
import type { LinkMark } from '../../core/ids.js';
import type { KernelFdbPort, KernelObject } from '../../core/kernel.js';
import { failpoint } from '../../lib/failpoint.js';
import type { Logger } from '../../lib/log.js';
import { NetlinkConnection } from '../../lib/netlink/connection.js';
import { Applier, type Outcome } from './applier.js';
import { Backlog } from './backlog.js';
import { backoffMs, systemClock, type Clock } from './backoff.js';
import { DesiredState } from './desired-state.js';
import { linkConflict } from './failure.js';
import { ensureNoRouterAdverts } from './link-sysctl.js';
import { KernelView } from './kernel-view.js';
import { LinkReaper } from './link-reaper.js';
import type { LinkEntry } from './link-table.js';
import { MarkGrace } from './mark-grace.js';
import { formatReconcileObject, isAsDesired, isLink, linkNameOf } from './object.js';
import { Settling } from './settling.js';
import { planOperations, type LinkState, type Operation, type Plan } from './plan.js';

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

export interface LinkEvent {
  readonly event: 'new' | 'gone';
  readonly name: string;
  readonly ifindex: number;
  readonly alias: string;
}

/** Something that the kernel does not take. */
export interface FailingObject {
  /** As the command that would make it. */
  readonly object: string;
  readonly code: ErrorCode;
  readonly message: string;
  readonly attempts: number;
}

export interface ReconcilerStatus {
  /** Objects desired, what follows from others included. */
  readonly objects: number;
  /** Changes from outside undone since the start. */
  readonly repairs: number;
  readonly failing: readonly FailingObject[];
}

const maxUnkept = 3;
const maxDrifts = 8;

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
  readonly #clock: Clock;
  readonly #desired: DesiredState;
  readonly #view: KernelView;
  readonly #applier: Applier;
  readonly #reaper: LinkReaper;
  readonly #reaperConnection: NetlinkConnection;

  readonly #backlog: Backlog;
  readonly #inFlight = new Set<string>();
  /** Keys sent and acknowledged whose notifications may still come: what these say is no change from outside. */
  readonly #echoing = new Set<string>();
  /** Those of them that have been spoken of. */
  readonly #spoken = new Set<string>();
  /** How many times in a row a key was not as asked for right after it was acknowledged. */
  readonly #unkept = new Map<string, number>();
  /** Entries of a bridge whose MAC another entry that is wanted too has taken, by MAC. */
  readonly #superseded = new Map<string, Set<string>>();
  readonly #grace: MarkGrace;
  readonly #deleting = new Map<string, number>();
  /** How often a key was changed from outside since the last full read. */
  readonly #drifts = new Map<string, number>();
  /** Keys changed from outside, until they are repaired. */
  readonly #drifted = new Set<string>();
  readonly #settling: Settling;
  readonly #linkListeners = new Set<(event: LinkEvent) => void>();

  #cancelAudit: () => void = () => undefined;
  #lock: Promise<unknown> = Promise.resolve();
  #scheduled = false;
  #pruning = false;
  #loadDue = false;
  #closed = false;
  #repairs = 0;

  private constructor(
    private readonly options: ReconcilerOptions,
    connections: Connections,
  ) {
    const { native, netns, log } = options;
    this.#clock = options.clock ?? systemClock;
    this.#backlog = new Backlog(this.#clock, log, () => this.#schedule());
    this.connection = connections.main;
    this.#reaperConnection = connections.reaper;
    this.#desired = new DesiredState((object, owners) => {
      log.warn({ object: formatReconcileObject(object), owners }, 'owners differ about one object: the last wins');
    });
    this.#view = new KernelView(this.connection, {
      onObject: (key) => this.#onObject(key),
      onLink: (name, before, after) => this.#onLink(name, before, after),
      onLoss: (cause) => this.#onLoss(cause),
    });
    this.#applier = new Applier({ native, netns, connection: this.connection, view: this.#view });
    this.#grace = new MarkGrace({
      clock: this.#clock,
      look: (link) => this.#look(link),
      onOver: (key) => this.#backlog.dirty.add(key),
    });
    this.#settling = new Settling({
      desired: this.#desired,
      backlog: this.#backlog,
      isInFlight: (key) => this.#inFlight.has(key),
      formatKey: (key) => this.#formatKey(key),
    });
    this.#reaper = new LinkReaper(connections.reaper, (group) => {
      return [...this.#view.links.values()].some((link) => link.group === group);
    });
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
      await reconciler.#view.open(native, netns);
      await reconciler.#view.load();
    } catch (error) {
      reconciler.close();
      throw error;
    }
    reconciler.#planAudit();
    return reconciler;
  }

  /**
   * Replaces what one owner wants; nothing removes it. An equal object that others want too stays for
   * them; of different versions the last one handed in wins.
   *
   * Cost: proportional to the owner's objects.
   */
  setDesired(owner: string, objects: readonly KernelObject[]): void {
    const { changed, dropped } = this.#desired.replace(owner, objects);
    this.#settling.noteDropped(owner, dropped);
    for (const key of changed) {
      this.#drifted.delete(key);
      this.#backlog.retryNow(key);
    }
    // Asking again for what failed means: try again now.
    for (const key of this.#desired.keysOfOwner(owner)) if (this.#backlog.failing.has(key)) this.#backlog.retryNow(key);
    this.#schedule();
  }

  /**
   * Leaves what an owner has just asked for to somebody who makes it anyway: until `made` has ended none of it is sent,
   * and what the kernel says of it is no change from outside. What is not as asked for then is made as ever.
   */
  lend(owner: string, made: Promise<unknown>): void {
    const keys = [...this.#desired.keysOfOwner(owner)].filter((key) => this.#backlog.dirty.delete(key));
    for (const key of keys) this.#inFlight.add(key);
    const ended = made.then(
      () => true,
      () => false,
    );
    void ended.then((isMade) => this.#takeBack(keys, isMade));
  }

  /**
   * Resolves when all that the owner wants is there, and what it has stopped wanting is gone.
   *
   * Errors: of the first of its objects that fails, or of the link that one waits for: ERR_KERNEL,
   * ERR_VNI_CONFLICT, ERR_PARENT_UNKNOWN, ERR_LINK_CONFLICT, ERR_PORTS_EXHAUSTED. ERR_DEADLINE names
   * the first object that is not there in time; ERR_STOPPING when the reconciler is closed.
   */
  settled(owner: string, timeoutMs: number): Promise<void> {
    return this.#settling.settled(owner, timeoutMs);
  }

  /**
   * From now on removes objects with our mark that nobody desires, which is to be called once every
   * owner of before the restart has had its say. Links of endpoints are left to who made them.
   */
  prune(): void {
    this.#pruning = true;
    this.#markStrays();
    this.#schedule();
  }

  /** Asks the kernel for one link, for whoever has just made or moved it. */
  async refreshLink(name: string): Promise<void> {
    await this.#view.refreshLink(name);
    this.#schedule();
  }

  /** The ifindex of any link of the namespace; undefined where there is none. */
  linkIndex(name: string): number | undefined {
    return this.#view.links.byName(name)?.ifindex;
  }

  /** Links with our mark. */
  markedLinks(): MarkedLink[] {
    return [...this.#view.links.values()].flatMap(({ name, ifindex, alias, mark }) => {
      return mark === null ? [] : [{ name, ifindex, alias, mark }];
    });
  }

  /** Tells of links with our mark that come and go; returns what ends that. */
  onLink(listener: (event: LinkEvent) => void): () => void {
    this.#linkListeners.add(listener);
    return () => this.#linkListeners.delete(listener);
  }

  /** Deletes a link of ours at the shared price of those that are deleted with it; a missing one is a success. */
  deleteLink(ifindex: number): Promise<void> {
    return this.#reaper.delete(ifindex);
  }

  status(): ReconcilerStatus {
    const failing = [...this.#backlog.failing].flatMap(([key, { error, attempts }]) => {
      const object = this.#desired.get(key) ?? this.#view.objects.get(key);
      if (object === undefined) return [];
      return [{ object: formatReconcileObject(object), code: error.code, message: error.message, attempts }];
    });
    return { objects: this.#desired.map.size, repairs: this.#repairs, failing };
  }

  /** Compares everything with a full dump and repairs what differs. Resolves when that has been sent. */
  async audit(): Promise<void> {
    await this.#exclusively(async () => {
      await this.#load();
      await this.#auditSysctls();
    });
    await this.#exclusively(() => this.#flush());
  }

  /** Stops. What is desired stays in the kernel. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelAudit();
    this.#backlog.close();
    this.#view.close();
    this.connection.close();
    this.#reaperConnection.close();
    this.#settling.rejectAll(new TsnetError('ERR_STOPPING', 'the agent is stopping'));
  }

  // — what the kernel says —

  #onObject(key: string): void {
    if (this.#echoing.has(key) || this.#inFlight.has(key)) {
      this.#spoken.add(key);
      return;
    }
    const desired = this.#desired.get(key);
    if (desired === undefined || this.#backlog.dirty.has(key)) return;
    const observed = this.#view.objects.get(key);
    if (observed !== undefined && isAsDesired(desired, observed)) {
      this.#backlog.absolve(key);
      this.#backlog.unblock(key);
      return;
    }
    if (observed === undefined && desired.kind === 'fdb-port' && this.#isSuperseded(desired, key)) return;
    if (this.#backlog.failing.has(key)) return;
    if (!this.#deleting.has(linkNameOf(desired)) && this.#backlog.blockerOf(key) === undefined) {
      this.#drifted.add(key);
      if (this.#isContested(key)) {
        const text = `${formatReconcileObject(desired)}: something else on this host keeps changing it`;
        return this.#fail(key, new TsnetError('ERR_KERNEL', text));
      }
    }
    this.#backlog.dirty.add(key);
    this.#schedule();
  }

  /** Counts changes from outside between two audits: a fight with another program is not fought at full speed. */
  #isContested(key: string): boolean {
    const times = (this.#drifts.get(key) ?? 0) + 1;
    this.#drifts.set(key, times);
    return times > maxDrifts;
  }

  /**
   * A bridge has one entry per MAC. While an endpoint moves between hosts both places may be wanted for
   * an instant: the one set last stands, and the other is looked at again when that goes.
   */
  #isSuperseded(object: KernelFdbPort, key: string): boolean {
    const holder = this.#view.holderOf(object);
    if (holder === undefined || holder === key || this.#desired.get(holder) === undefined) return false;
    this.#superseded.set(object.mac, (this.#superseded.get(object.mac) ?? new Set<string>()).add(key));
    return true;
  }

  #onLink(name: string, before: LinkEntry | undefined, after: LinkEntry | undefined): void {
    if (after === undefined) {
      this.#deleting.delete(name);
      for (const key of this.#desired.keysOn(name)) if (!this.#inFlight.has(key)) this.#backlog.dirty.add(key);
    }
    this.#backlog.release(name);
    for (const [key, { error }] of this.#backlog.failing)
      if (mayHaveEnded(error, name, after)) this.#backlog.dirty.add(key);
    if (before !== undefined && before.mark !== null) this.#emit('gone', before);
    if (after !== undefined && after.mark !== null) this.#emit('new', after);
    this.#schedule();
  }

  #emit(event: LinkEvent['event'], { name, ifindex, alias }: LinkEntry): void {
    for (const listener of this.#linkListeners) listener({ event, name, ifindex, alias });
  }

  #onLoss(cause: unknown): void {
    if (this.#closed) return;
    this.options.log.warn(
      { cause: cause instanceof Error ? cause.message : String(cause) },
      'netlink notifications were lost: reading everything again',
    );
    this.#loadDue = true;
    this.#schedule();
  }

  async #load(): Promise<void> {
    const { native, netns } = this.options;
    this.#loadDue = false;
    await this.#view.open(native, netns);
    await this.#view.load();
    this.#drifts.clear();
    this.#markStrays();
  }

  /** Settings of links have no notification. */
  async #auditSysctls(): Promise<void> {
    const { native, netns, log } = this.options;
    for (const object of this.#view.objects.values()) {
      if (!isLink(object) || this.#desired.get(`link ${object.name}`) === undefined) continue;
      if (!(await ensureNoRouterAdverts(native, object.name, netns))) continue;
      this.#repairs += 1;
      log.info(
        { object: `sysctl net.ipv6.conf.${object.name}.accept_ra=0`, was: 'changed' },
        'repaired a change from outside',
      );
    }
  }

  #markStrays(): void {
    if (!this.#pruning) return;
    for (const key of this.#view.objects.keys()) if (this.#desired.get(key) === undefined) this.#backlog.dirty.add(key);
  }

  #planAudit(): void {
    const { auditMs, log } = this.options;
    if (auditMs <= 0 || this.#closed) return;
    // Spread, so that the agents of many hosts on one machine, or of one rack, do not all dump at once.
    this.#cancelAudit = this.#clock.after(auditMs * (0.9 + 0.2 * this.#clock.random()), () => {
      void this.audit()
        .catch((error: unknown) => {
          if (!this.#closed) log.error({ err: error }, 'the audit of kernel objects failed');
        })
        .finally(() => this.#planAudit());
    });
  }

  // — flushing —

  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    if (this.#backlog.dirty.size === 0 && !this.#loadDue && !this.#view.hasSuspectRoutes) {
      if (this.#settling.isAwaited) this.#settling.evaluate();
      return;
    }
    this.#scheduled = true;
    setImmediate(() => {
      void this.#exclusively(async () => {
        this.#scheduled = false;
        if (this.#loadDue) await this.#load();
        await this.#flush();
      }).catch((error: unknown) => this.#onFlushError(error));
    });
  }

  /** Flushes and dumps wait for one another: a plan is made from a view that nothing of ours is about to change. */
  #exclusively(work: () => Promise<void>): Promise<void> {
    const run = this.#lock.then(async () => {
      if (!this.#closed) await work();
    });
    this.#lock = run.catch(() => undefined);
    return run;
  }

  #onFlushError(error: unknown): void {
    if (this.#closed) return;
    this.options.log.error({ err: error }, 'kernel objects could not be brought in line');
    // What was sent may or may not have been done.
    for (const key of this.#inFlight) this.#backlog.dirty.add(key);
    this.#inFlight.clear();
    this.#echoing.clear();
    this.#spoken.clear();
    const failure = new TsnetError('ERR_KERNEL', error instanceof Error ? error.message : String(error), {
      cause: error,
    });
    this.#settling.rejectAll(failure);
    this.#loadDue = true;
    this.#clock.after(
      backoffMs(3, () => this.#clock.random()),
      () => this.#schedule(),
    );
  }

  async #flush(): Promise<void> {
    failpoint('reconcile.flush.before');
    if (this.#view.hasSuspectRoutes) await this.#view.reloadSuspectRoutes();
    const keys = this.#backlog.take();
    if (keys.length === 0) return this.#settling.evaluate();
    const plan = planOperations(
      { desired: this.#desired.map, observed: this.#view.objects, linkState: (name) => this.#linkState(name) },
      keys,
    );
    this.#note(plan);
    this.#settleQuiet(keys, plan);
    const operations = plan.operations.filter((operation) => !this.#startDeletion(operation));
    if (operations.length > 0) await this.#send(operations);
    failpoint('reconcile.flush.after');
    this.#settling.evaluate();
    if (this.#backlog.dirty.size > 0) this.#schedule();
  }

  async #send(operations: readonly Operation[]): Promise<void> {
    for (const { key } of operations) this.#inFlight.add(key);
    const outcomes = await this.#applier.apply(operations);
    for (const operation of operations) {
      this.#inFlight.delete(operation.key);
      this.#echoing.add(operation.key);
      this.#conclude(operation, outcomes.get(operation.key));
    }
    this.#settling.evaluate();
    await this.#view.barrier();
    for (const { key, object, verb } of operations) {
      const isSpoken = this.#endEcho(key);
      if (isSpoken) this.#recheck(key);
      else if (outcomes.get(key) === undefined) this.#view.assume(key, verb === 'remove' ? undefined : object);
    }
  }

  async #takeBack(keys: readonly string[], isMade: boolean): Promise<void> {
    for (const key of keys) {
      this.#inFlight.delete(key);
      this.#echoing.add(key);
    }
    this.#settling.evaluate();
    // Nobody waits for this: the notifications may be collected.
    if (isMade) await this.#view.barrier(false).catch((error: unknown) => this.#onFlushError(error));
    for (const key of keys) {
      const isSpoken = this.#endEcho(key);
      const object = this.#desired.get(key);
      if (!isMade || object === undefined) this.#backlog.dirty.add(key);
      else if (isSpoken) this.#recheck(key);
      else this.#view.assume(key, object);
    }
    this.#schedule();
  }

  /** What is told of a key is news again. Reports whether it has been spoken of meanwhile. */
  #endEcho(key: string): boolean {
    this.#echoing.delete(key);
    return this.#spoken.delete(key);
  }

  /** What was told of our own request last is either what was asked for, or a change from outside after it. */
  #recheck(key: string): void {
    const desired = this.#desired.get(key);
    const observed = this.#view.objects.get(key);
    const isRight =
      desired === undefined ? observed === undefined : observed !== undefined && isAsDesired(desired, observed);
    if (observed === undefined && desired?.kind === 'fdb-port' && this.#isSuperseded(desired, key)) return;
    if (isRight || this.#backlog.failing.has(key) || this.#backlog.blockerOf(key) !== undefined) {
      this.#unkept.delete(key);
      return;
    }
    const times = (this.#unkept.get(key) ?? 0) + 1;
    if (times <= maxUnkept) {
      this.#unkept.set(key, times);
      this.#backlog.dirty.add(key);
      return;
    }
    this.#unkept.delete(key);
    const text = this.#formatKey(key);
    this.#fail(key, new TsnetError('ERR_KERNEL', `${text}: acknowledged, but not kept by the kernel`));
  }

  #conclude({ key, object, verb }: Operation, outcome: Outcome): void {
    const { log } = this.options;
    this.#grace.forget(key);
    if (object.kind === 'fdb-port' && verb === 'remove') {
      for (const other of this.#superseded.get(object.mac) ?? []) this.#backlog.dirty.add(other);
      this.#superseded.delete(object.mac);
    }
    if (outcome === 'blocked') {
      const isMasterMissing = object.kind === 'port' && this.#view.links.isOurs(object.link);
      return this.#backlog.block(key, isMasterMissing ? object.master : linkNameOf(object));
    }
    if (outcome !== undefined) return this.#fail(key, outcome);
    this.#backlog.absolve(key);
    if (!this.#drifted.delete(key) || verb === 'remove') return;
    this.#repairs += 1;
    log.info(
      { object: formatReconcileObject(object), was: verb === 'add' ? 'gone' : 'changed' },
      'repaired a change from outside',
    );
  }

  #note(plan: Plan): void {
    for (const [key, link] of plan.blocked) this.#backlog.block(key, link);
    for (const [key, link] of plan.conflicts) {
      if (key === `link ${link}` || this.#grace.isOver(key, link)) this.#fail(key, linkConflict(link));
      else this.#backlog.block(key, link);
    }
  }

  #look(link: string): void {
    this.refreshLink(link).catch((error: unknown) => {
      if (!this.#closed) this.options.log.warn({ err: error, link }, 'a link could not be asked for');
    });
  }

  /** Keys that need nothing have what they want, whatever they have gone through. */
  #settleQuiet(keys: readonly string[], plan: Plan): void {
    const busy = new Set(plan.operations.map(({ key }) => key));
    for (const key of keys) {
      if (busy.has(key) || plan.blocked.has(key) || plan.conflicts.has(key)) continue;
      this.#backlog.absolve(key);
      this.#drifted.delete(key);
      this.#grace.forget(key);
    }
  }

  /** Links are deleted on the side: it takes long, and nothing but their successors waits for it. */
  #startDeletion(operation: Operation): boolean {
    const { object, key } = operation;
    if (operation.verb !== 'remove' || !isLink(object)) return false;
    const entry = this.#view.links.byName(object.name);
    if (entry === undefined) return true;
    if (operation.reason !== undefined) {
      this.options.log.info({ link: object.name, reason: operation.reason }, 'making a link anew');
    }
    this.#deleting.set(object.name, entry.ifindex);
    this.#inFlight.add(key);
    void this.#delete(entry, key);
    return true;
  }

  async #delete(entry: LinkEntry, key: string): Promise<void> {
    try {
      await this.#reaper.delete(entry.ifindex);
      await this.#view.barrier();
      if (this.#view.links.byName(entry.name)?.ifindex === entry.ifindex) await this.#view.refreshLink(entry.name);
    } catch (error) {
      if (this.#closed) return;
      this.#fail(
        key,
        new TsnetError('ERR_KERNEL', error instanceof Error ? error.message : String(error), { cause: error }),
      );
    } finally {
      this.#deleting.delete(entry.name);
      this.#inFlight.delete(key);
      this.#spoken.delete(key);
    }
    this.#backlog.release(entry.name);
    if (!this.#backlog.failing.has(key)) this.#backlog.dirty.add(key);
    this.#schedule();
  }

  #linkState(name: string): LinkState {
    if (this.#deleting.has(name)) return 'deleting';
    const entry = this.#view.links.byName(name);
    if (entry === undefined) return 'absent';
    return entry.mark === null ? 'foreign' : 'ours';
  }

  // — what waits and what fails —

  #fail(key: string, error: TsnetError): void {
    const attempts = this.#backlog.fail(key, error);
    // The kernel has it already: what is thought to be there is not what is there.
    if (error.details['errno'] === 'EEXIST' && attempts === 1) this.#loadDue = true;
  }

  #formatKey(key: string): string {
    const object = this.#desired.get(key) ?? this.#view.objects.get(key);
    return object === undefined ? key : formatReconcileObject(object);
  }
}

/** Reports whether a failure may be over since a link went, or came. */
function mayHaveEnded(error: TsnetError, name: string, after: LinkEntry | undefined): boolean {
  if (error.code === 'ERR_PARENT_UNKNOWN') return after !== undefined && error.details['value'] === name;
  return after === undefined && (error.code === 'ERR_LINK_CONFLICT' || error.code === 'ERR_VNI_CONFLICT');
}
