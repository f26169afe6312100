import { TsnetError } from '../../core/errors.js';
import type { Backlog } from './backlog.js';
import type { Comparison } from './comparison.js';
import type { DesiredState } from './desired-state.js';
import type { Drift } from './drift.js';
import type { Echoes } from './echoes.js';
import { mayHaveEnded } from './failure.js';
import type { LinkDeletions } from './link-deletions.js';
import type { LinkEntry } from './link-table.js';
import { linkNameOf } from './object.js';
import type { Superseded } from './superseded.js';

export interface NoticesParts {
  readonly desired: DesiredState;
  readonly comparison: Comparison;
  readonly backlog: Backlog;
  readonly deletions: LinkDeletions;
  readonly echoes: Echoes;
  readonly drift: Drift;
  readonly superseded: Superseded;
  /** There may be something to do. */
  readonly wake: () => void;
}

/** A link of ours that has come or gone. */
export interface LinkEvent {
  readonly event: 'new' | 'gone';
  readonly name: string;
  readonly ifindex: number;
  readonly alias: string;
}

/** What follows from what the kernel tells: which keys have to be looked at. */
export class Notices {
  readonly #parts: NoticesParts;
  readonly #listeners = new Set<(event: LinkEvent) => void>();

  constructor(parts: NoticesParts) {
    this.#parts = parts;
  }

  /** Tells of links with our mark that come and go; returns what ends that. */
  listen(listener: (event: LinkEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** See KernelViewListener. */
  onObject(key: string): void {
    const { desired, comparison, backlog, deletions, echoes, drift, superseded, wake } = this.#parts;
    if (echoes.hear(key)) return;
    const object = desired.get(key);
    if (object === undefined || backlog.dirty.has(key)) return;
    if (comparison.isRight(key)) {
      backlog.absolve(key);
      backlog.unblock(key);
      return;
    }
    if (superseded.has(key) || backlog.failing.has(key)) return;
    const isOurDoing = deletions.isDeleting(linkNameOf(object)) || backlog.blockerOf(key) !== undefined;
    if (!isOurDoing && drift.note(key)) {
      const text = `${comparison.format(key)}: something else on this host keeps changing it`;
      return backlog.fail(key, new TsnetError('ERR_KERNEL', text));
    }
    backlog.dirty.add(key);
    wake();
  }

  /** See KernelViewListener. */
  onLink(name: string, before: LinkEntry | undefined, after: LinkEntry | undefined): void {
    const { desired, backlog, deletions, echoes, wake } = this.#parts;
    if (after === undefined) {
      deletions.linkGone(name);
      for (const key of desired.keysOn(name)) if (!echoes.isInFlight(key)) backlog.dirty.add(key);
    }
    backlog.release(name);
    for (const [key, { error }] of backlog.failing)
      if (mayHaveEnded(error, name, after !== undefined)) backlog.dirty.add(key);
    if (before !== undefined && before.mark !== null) this.#emit('gone', before);
    if (after !== undefined && after.mark !== null) this.#emit('new', after);
    wake();
  }

  #emit(event: LinkEvent['event'], { name, ifindex, alias }: LinkEntry): void {
    for (const listener of this.#listeners) listener({ event, name, ifindex, alias });
  }
}
