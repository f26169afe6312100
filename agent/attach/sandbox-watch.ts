import { toTsnetError } from '../../core/errors.js';
import type { Logger } from '../../lib/log.js';
import type { NativeApi, NetnsRef } from '../../native/api.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { Journal } from '../journal/journal.js';
import type { Attachments } from './attachments.js';
import type { OwnIndex } from './own-index.js';
import { parseTarget } from './target.js';

export interface SandboxWatchOptions {
  readonly native: NativeApi;
  readonly journal: Journal;
  readonly own: OwnIndex;
  readonly attachments: Attachments;
  readonly bootId: string;
  readonly sweepMs: number;
  readonly log: Logger;
}

/**
 * Notices sandboxes that vanish without a detach, and links that vanish from sandboxes that live.
 *
 * The kernel deletes a veth pair with the namespace of one end, and says so: that is the quick way. A sandbox that
 * outlives its anchor (its process, or the path it was bound to), or whose links have no end in the host, is found by
 * the sweep, which reads all cookies in one thread trip, some 10 µs each.
 */
export class SandboxWatch {
  readonly #options: SandboxWatchOptions;
  readonly #timer: NodeJS.Timeout;
  #sweeping: Promise<void> | undefined;

  constructor(options: SandboxWatchOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.sweep(), options.sweepMs);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** The host's end of a link is gone: its sandbox has vanished, or somebody deleted the link. */
  async linkGone(name: string): Promise<void> {
    const entry = this.#options.own.ofLink(name);
    if (entry === undefined || entry.step !== null || entry.record.state !== 'attached') return;
    await this.#check([entry], true);
  }

  /** Checks every sandbox. One at a time; callers share the one under way. */
  sweep(): Promise<void> {
    this.#sweeping ??= this.#check(this.#settled(), false).finally(() => {
      this.#sweeping = undefined;
    });
    return this.#sweeping;
  }

  /** Endpoints that nobody is working on, and those whose removal failed before. */
  #settled(): OwnEndpoint[] {
    return [...this.#options.journal.endpoints()].filter(
      (own) => own.record.sandbox !== null && (own.step === null || own.step === 'detach'),
    );
  }

  async #check(entries: readonly OwnEndpoint[], linkIsGone: boolean): Promise<void> {
    if (entries.length === 0) return;
    const { native, log } = this.#options;
    const refs = new Map<string, NetnsRef>();
    for (const { record } of entries)
      if (record.sandbox !== null) refs.set(record.sandbox, parseTarget(record.sandbox).ref);
    const targets = [...refs.keys()];
    const cookies = await native.netnsCookies([...refs.values()]);
    const cookieOf = new Map(targets.map((target, index) => [target, cookies[index]]));
    await Promise.all(
      entries.map(async (entry) => {
        try {
          await this.#settle(entry, cookieOf.get(entry.record.sandbox ?? ''), linkIsGone);
        } catch (error) {
          log.error(
            { endpoint: entry.record.id, error: toTsnetError(error).message },
            'could not clean up after a sandbox; it is tried again',
          );
        }
      }),
    );
  }

  async #settle(entry: OwnEndpoint, cookie: bigint | string | undefined, linkIsGone: boolean): Promise<void> {
    const { attachments, bootId, log } = this.#options;
    const lives = entry.bootId === bootId && typeof cookie === 'bigint' && String(cookie) === entry.cookie;
    if (entry.step === 'detach') return attachments.removeInTurn(entry.record.id, (now) => now.step === 'detach');
    if (lives) return linkIsGone ? attachments.relink(entry.record.id) : undefined;
    // Other failures to read (EMFILE, EACCES) say nothing about the sandbox.
    const vanished =
      entry.bootId !== bootId ||
      typeof cookie === 'bigint' ||
      cookie === 'ENOENT' ||
      cookie === 'ESRCH' ||
      cookie === 'EINVAL';
    if (!vanished) return;
    log.info({ endpoint: entry.record.id, sandbox: entry.record.sandbox }, 'sandbox vanished without a detach');
    await attachments.removeInTurn(
      entry.record.id,
      (now) => now.cookie === entry.cookie && now.bootId === entry.bootId,
    );
  }
}
