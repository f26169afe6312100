import { toTsnetError } from '../../core/errors.js';
import type { Logger } from '../../lib/log.js';
import type { NativeApi, NetnsRef } from '../../native/api.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { Journal } from '../journal/journal.js';
import type { Attachments } from './attachments.js';
import type { OwnIndex } from './own-index.js';
import { parseTarget } from './target.js';

/** What was read of a sandbox, or the name of the error. */
type Cookie = bigint | string | undefined;

/** A round is made in so many slices, of so many endpoints at least, within this share of `sweepMs`. */
const slices = 8;
const minSlice = 32;
const roundShare = 0.9;

/** Nobody is working on it, or its removal has failed before. */
const isSettled = ({ record, step }: OwnEndpoint): boolean =>
  record.sandbox !== null && (step === null || step === 'detach');

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
 * the sweep, which reads cookies in thread trips, some 10 µs each: a slice of them at a time, so that no attach waits
 * for a thousand.
 */
export class SandboxWatch {
  readonly #options: SandboxWatchOptions;
  readonly #timer: NodeJS.Timeout;
  /** Endpoints that this round has still to look at. */
  #round: OwnEndpoint[] = [];
  #sliceLength = 0;
  #nextRoundMs = 0;
  #sweeping: Promise<void> | undefined;

  constructor(options: SandboxWatchOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#sweepSlice(), options.sweepMs / slices);
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

  /** Checks every sandbox at once. */
  async sweep(): Promise<void> {
    await this.#sweeping;
    await this.#check(this.#settled(), false);
  }

  #sweepSlice(): void {
    if (this.#sweeping !== undefined) return;
    const nowMs = performance.now();
    if (this.#round.length === 0) {
      if (nowMs < this.#nextRoundMs) return;
      this.#nextRoundMs = nowMs + this.#options.sweepMs * roundShare;
      this.#round = this.#settled();
      this.#sliceLength = Math.max(minSlice, Math.ceil(this.#round.length / slices));
    }
    const entries = this.#round
      .splice(0, this.#sliceLength)
      .flatMap(({ record }) => this.#options.own.get(record.id) ?? [])
      .filter(isSettled);
    this.#sweeping = this.#check(entries, false)
      .catch((error: unknown) => {
        this.#options.log.error(
          { error: toTsnetError(error).message },
          'sandboxes could not be looked at; it is tried again',
        );
      })
      .finally(() => {
        this.#sweeping = undefined;
      });
  }

  #settled(): OwnEndpoint[] {
    return [...this.#options.journal.endpoints()].filter(isSettled);
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
    const found = entries.map((entry) => ({ entry, cookie: cookieOf.get(entry.record.sandbox ?? '') }));
    const concerned = linkIsGone ? found : found.filter((each) => each.entry.step === 'detach' || !this.#lives(each));
    await Promise.all(
      concerned.map(async ({ entry, cookie }) => {
        try {
          await this.#settle(entry, cookie, linkIsGone);
        } catch (error) {
          log.error(
            { endpoint: entry.record.id, error: toTsnetError(error).message },
            'could not clean up after a sandbox; it is tried again',
          );
        }
      }),
    );
  }

  #lives({ entry, cookie }: { readonly entry: OwnEndpoint; readonly cookie: Cookie }): boolean {
    return entry.bootId === this.#options.bootId && typeof cookie === 'bigint' && String(cookie) === entry.cookie;
  }

  async #settle(entry: OwnEndpoint, cookie: Cookie, linkIsGone: boolean): Promise<void> {
    const { attachments, bootId, log } = this.#options;
    const lives = this.#lives({ entry, cookie });
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
