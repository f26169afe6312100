import { failpoint } from '../../lib/failpoint.js';
import type { Applier, Outcome } from './applier.js';
import type { Backlog } from './backlog.js';
import type { Comparison } from './comparison.js';
import type { Drift } from './drift.js';
import type { Echoes } from './echoes.js';
import { linkConflict } from './failure.js';
import type { KernelView } from './kernel-view.js';
import type { LinkDeletions } from './link-deletions.js';
import type { MarkGrace } from './mark-grace.js';
import { formatReconcileObject, linkNameOf } from './object.js';
import { planOperations, type Operation, type Plan } from './plan.js';
import type { Settling } from './settling.js';
import type { Superseded } from './superseded.js';
import type { Verification } from './verification.js';

export interface FlushParts {
  readonly view: KernelView;
  readonly comparison: Comparison;
  readonly backlog: Backlog;
  readonly applier: Applier;
  readonly deletions: LinkDeletions;
  readonly echoes: Echoes;
  readonly drift: Drift;
  readonly superseded: Superseded;
  readonly grace: MarkGrace;
  readonly settling: Settling;
  readonly verification: Verification;
}

/** Brings the kernel in line where it is not known to be: plans for the dirty keys alone, and sends one batch. */
export class Flush {
  readonly #parts: FlushParts;

  constructor(parts: FlushParts) {
    this.#parts = parts;
  }

  async run(): Promise<void> {
    const { view, comparison, backlog, deletions, settling } = this.#parts;
    failpoint('reconcile.flush.before');
    await view.reloadSuspectRoutes();
    const keys = backlog.take();
    if (keys.length === 0) return settling.evaluate();
    const plan = planOperations(comparison.planInput(deletions), keys);
    this.#note(plan);
    this.#absolveQuiet(keys, plan);
    const operations = plan.operations.filter((operation) => !deletions.start(operation));
    if (operations.length > 0) await this.#send(operations);
    failpoint('reconcile.flush.after');
    settling.evaluate();
  }

  /** What cannot be done now, and why. */
  #note(plan: Plan): void {
    const { backlog, grace } = this.#parts;
    for (const [key, link] of plan.blocked) backlog.block(key, link);
    for (const [key, link] of plan.conflicts) {
      if (key === `link ${link}` || grace.isOver(key, link)) backlog.fail(key, linkConflict(link));
      else backlog.block(key, link);
    }
  }

  /** Keys that need nothing have what they want, whatever they have gone through. */
  #absolveQuiet(keys: readonly string[], plan: Plan): void {
    const { backlog, drift, grace } = this.#parts;
    const busy = new Set(plan.operations.map(({ key }) => key));
    for (const key of keys) {
      if (busy.has(key) || plan.blocked.has(key) || plan.conflicts.has(key)) continue;
      backlog.absolve(key);
      drift.forget(key);
      grace.forget(key);
    }
  }

  async #send(operations: readonly Operation[]): Promise<void> {
    const { applier, echoes, settling, verification, view } = this.#parts;
    for (const { key } of operations) echoes.send(key);
    const outcomes = await applier.apply(operations);
    for (const operation of operations) {
      echoes.acknowledge(operation.key);
      this.#conclude(operation, outcomes.get(operation.key));
    }
    settling.evaluate();
    await view.barrier();
    for (const { key, object, verb } of operations) {
      const isHeard = echoes.end(key);
      if (isHeard) verification.recheck(key);
      else if (outcomes.get(key) === undefined) view.assume(key, verb === 'remove' ? undefined : object);
    }
  }

  #conclude({ key, object, verb }: Operation, outcome: Outcome): void {
    const { backlog, drift, grace, superseded, view } = this.#parts;
    grace.forget(key);
    if (verb === 'remove') for (const other of superseded.release(object)) backlog.dirty.add(other);
    if (outcome === 'blocked') {
      const isMasterMissing = object.kind === 'port' && view.links.isOurs(object.link);
      return backlog.block(key, isMasterMissing ? object.master : linkNameOf(object));
    }
    if (outcome !== undefined) return backlog.fail(key, outcome);
    backlog.absolve(key);
    if (drift.forget(key) && verb !== 'remove')
      drift.repaired(formatReconcileObject(object), verb === 'add' ? 'gone' : 'changed');
  }
}
