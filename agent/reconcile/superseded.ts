import type { DesiredState } from './desired-state.js';
import type { KernelView } from './kernel-view.js';
import type { ReconcileObject } from './object.js';

/**
 * Forwarding entries whose place is taken. A bridge has one entry per MAC: while an endpoint moves between hosts both
 * places may be wanted for an instant. The one set last stands, and the other is looked at again when that goes.
 */
export class Superseded {
  readonly #byMac = new Map<string, Set<string>>();

  constructor(
    private readonly desired: DesiredState,
    private readonly view: KernelView,
  ) {}

  /** Reports whether a desired key is not there because another that is wanted too has its place. */
  has(key: string): boolean {
    const object = this.desired.get(key);
    if (object?.kind !== 'fdb-port' || this.view.objects.get(key) !== undefined) return false;
    const holder = this.view.holderOf(object);
    if (holder === undefined || holder === key || this.desired.get(holder) === undefined) return false;
    this.#byMac.set(object.mac, (this.#byMac.get(object.mac) ?? new Set<string>()).add(key));
    return true;
  }

  /** An object was removed: returns the keys whose place may be free. */
  release(object: ReconcileObject): Iterable<string> {
    if (object.kind !== 'fdb-port') return [];
    const keys = this.#byMac.get(object.mac) ?? [];
    this.#byMac.delete(object.mac);
    return keys;
  }
}
