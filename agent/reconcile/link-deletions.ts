import type { Logger } from '../../lib/log.js';
import { kernelError } from '../kernel-error.js';
import type { Backlog } from './backlog.js';
import type { Echoes } from './echoes.js';
import type { KernelView } from './kernel-view.js';
import type { LinkReaper } from './link-reaper.js';
import type { LinkEntry } from './link-table.js';
import { isLink } from './object.js';
import type { Operation } from './plan.js';

export interface LinkDeletionsParts {
  readonly view: KernelView;
  readonly reaper: LinkReaper;
  readonly backlog: Backlog;
  readonly echoes: Echoes;
  /** A deletion is over: there may be something to do. */
  readonly onOver: () => void;
  readonly log: Logger;
}

/** Links on their way out. They are deleted on the side: it takes long, and nothing but their successors waits for it. */
export class LinkDeletions {
  readonly #parts: LinkDeletionsParts;
  readonly #names = new Set<string>();
  #isClosed = false;

  constructor(parts: LinkDeletionsParts) {
    this.#parts = parts;
  }

  isDeleting(name: string): boolean {
    return this.#names.has(name);
  }

  /** The kernel has said that a link is gone: its name is free. */
  linkGone(name: string): void {
    this.#names.delete(name);
  }

  /** Begins an operation that removes a link; reports false for any other. */
  start(operation: Operation): boolean {
    const { object, key } = operation;
    if (operation.verb !== 'remove' || !isLink(object)) return false;
    const { view, echoes, log } = this.#parts;
    const entry = view.links.byName(object.name);
    if (entry === undefined) return true;
    if (operation.reason !== undefined) log.info({ link: object.name, reason: operation.reason }, 'making a link anew');
    this.#names.add(object.name);
    echoes.send(key);
    void this.#delete(entry, key);
    return true;
  }

  close(): void {
    this.#isClosed = true;
  }

  async #delete(entry: LinkEntry, key: string): Promise<void> {
    const { view, reaper, backlog, echoes, onOver } = this.#parts;
    try {
      await reaper.delete(entry.ifindex);
      await view.barrier();
      if (view.links.byName(entry.name)?.ifindex === entry.ifindex) await view.refreshLink(entry.name);
    } catch (error) {
      if (this.#isClosed) return;
      backlog.fail(key, kernelError(error));
    } finally {
      this.#names.delete(entry.name);
      echoes.end(key);
    }
    backlog.release(entry.name);
    if (!backlog.failing.has(key)) backlog.dirty.add(key);
    onOver();
  }
}
