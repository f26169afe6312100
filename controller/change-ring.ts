import type { Change } from './tables.js';

/** The last changes in the order of their revisions, for watchers who come back. */
export class ChangeRing {
  #changes: Change[] = [];
  /** Changes after this revision are all here. */
  #floor = 0;

  constructor(private readonly size: number) {}

  /** Nobody can be brought over what happened before a revision. */
  restart(revision: number): void {
    this.#changes = [];
    this.#floor = revision;
  }

  push(changes: readonly Change[]): void {
    this.#changes.push(...changes);
    if (this.#changes.length <= this.size * 1.25) return;
    const dropped = this.#changes.splice(0, this.#changes.length - this.size);
    this.#floor = dropped.at(-1)?.revision ?? this.#floor;
  }

  /** Every change after a revision, or undefined where not all are known any more. */
  since(revision: number): readonly Change[] | undefined {
    if (revision < this.#floor) return undefined;
    const from = this.#changes.findIndex((change) => change.revision > revision);
    if (from < 0) return this.#at(this.#changes.length, revision);
    return [...this.#at(from, revision), ...this.#changes.slice(from)];
  }

  // Of several changes at one revision the last heard may not have been the last: those are said again.
  #at(end: number, revision: number): readonly Change[] {
    let start = end;
    while (this.#changes[start - 1]?.revision === revision) start -= 1;
    return end - start > 1 ? this.#changes.slice(start, end) : [];
  }
}
