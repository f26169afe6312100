import type { DesiredState } from './desired-state.js';
import type { KernelView } from './kernel-view.js';
import type { LinkDeletions } from './link-deletions.js';
import { formatReconcileObject, isAsDesired, type ReconcileObject } from './object.js';
import type { LinkState, PlanInput } from './plan.js';

/** What is desired held against what is observed, key by key. */
export class Comparison {
  constructor(
    private readonly desired: DesiredState,
    private readonly view: KernelView,
  ) {}

  /** An object as it should be, or as it is where nobody wants it. */
  objectOf(key: string): ReconcileObject | undefined {
    return this.desired.get(key) ?? this.view.objects.get(key);
  }

  /** An object as the command that would make it. */
  format(key: string): string {
    const object = this.objectOf(key);
    return object === undefined ? key : formatReconcileObject(object);
  }

  /** Reports whether the kernel has of a key what is desired of it, nothing included. */
  isRight(key: string): boolean {
    const desired = this.desired.get(key);
    const observed = this.view.objects.get(key);
    if (desired === undefined || observed === undefined) return desired === observed;
    return isAsDesired(desired, observed);
  }

  /** Keys that are there and that nobody wants. */
  strays(): string[] {
    return [...this.view.objects.keys()].filter((key) => this.desired.get(key) === undefined);
  }

  /** What a plan is made from. */
  planInput(deletions: LinkDeletions): PlanInput {
    const linkState = (name: string): LinkState => {
      if (deletions.isDeleting(name)) return 'deleting';
      const entry = this.view.links.byName(name);
      if (entry === undefined) return 'absent';
      return entry.mark === null ? 'foreign' : 'ours';
    };
    return { desired: this.desired.map, observed: this.view.objects, linkState };
  }
}
