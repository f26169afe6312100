import type { ConnectRequest } from '../../core/api/attach.js';
import { TsnetError, toTsnetError } from '../../core/errors.js';
import { failpoint } from '../../lib/failpoint.js';
import type { Logger } from '../../lib/log.js';
import { KeyedQueue } from '../../lib/sync/keyed-queue.js';
import type { NativeApi } from '../../native/api.js';
import type { OwnIndex } from '../attach/own-index.js';
import type { OwnEndpoint, WrittenResolvConf } from '../journal/entries.js';
import type { Journal } from '../journal/journal.js';
import { isChanged, SandboxFile, type SandboxFileState } from './sandbox-file.js';

export interface ResolvConfsOptions {
  readonly native: NativeApi;
  readonly journal: Journal;
  readonly own: OwnIndex;
  /** The resolv.conf of a sandbox by its cookie, null while a network is not known; null: the agent has no name server. */
  readonly textOf: ((cookie: string) => string | null) | null;
  readonly bootId: string;
  readonly log: Logger;
}

/** How an attach is made, and taken back. */
export interface AttachVerbs {
  readonly attach: () => Promise<OwnEndpoint>;
  readonly takeBack: (entry: OwnEndpoint) => Promise<unknown>;
}

const retryMs = 10_000;
/** What was left as it is, until the caller of the detach is told; nobody asks for sandboxes that vanished. */
const mostNotes = 256;

/**
 * `/etc/resolv.conf` of running containers: written for endpoints that asked for it, following the networks of the sandbox,
 * and put back with the last of them. What was there is in the journal before the file is touched; somebody else's
 * content is never written over.
 */
export class ResolvConfs {
  readonly #options: ResolvConfsOptions;
  readonly #file: SandboxFile;
  readonly #queue = new KeyedQueue();
  /** Sandboxes, by cookie, of endpoints that are or were in one of the sandboxes concerned. */
  readonly #sandboxOf = new Map<string, string>();
  readonly #notes = new Map<string, string>();
  /** What this run has seen written, by process. */
  readonly #confirmed = new Map<string, string>();
  /** What was last said of a file that cannot be written. */
  readonly #failing = new Map<string, string>();
  readonly #stop: () => void;
  #again: NodeJS.Timeout | undefined;

  constructor(options: ResolvConfsOptions) {
    this.#options = options;
    this.#file = new SandboxFile(options.native);
    this.#stop = options.own.onChange((id) => this.#changed(id));
  }

  /** Goes on with what the last run had written, or was about to. */
  resume(): void {
    const { journal, bootId } = this.#options;
    for (const entry of [...journal.resolvConfs.all()]) {
      if (entry.bootId !== bootId) journal.resolvConfs.remove(entry);
      else this.#follow(entry.cookie);
    }
  }

  close(): Promise<void> {
    this.#stop();
    clearTimeout(this.#again);
    return this.#queue.idle();
  }

  /**
   * Attaches, and writes the file; when that fails, an endpoint that is new is taken back.
   * Errors: those of the attach; ERR_INVALID_TARGET, ERR_RESOLV_CONF, ERR_SANDBOX_MISSING, ERR_DNS_UNAVAILABLE.
   */
  async attach({ target }: Pick<ConnectRequest, 'target'>, { attach, takeBack }: AttachVerbs): Promise<OwnEndpoint> {
    const { own, textOf } = this.#options;
    if (textOf === null)
      throw new TsnetError('ERR_DNS_UNAVAILABLE', 'the agent of this host runs without a name server (--no-dns)', {
        hint: 'Connect without --set-dns, or start the agent without --no-dns.',
      });
    const before = await this.#file.look(pidOf(target));
    const known = new Set(own.ofSandbox(before.cookie).map(({ record }) => record.id));
    const entry = await attach();
    try {
      if (entry.cookie !== before.cookie)
        throw new TsnetError('ERR_SANDBOX_MISSING', `${target} is another process by now`);
      await this.#queue.run(before.cookie, () => this.#begin(before, entry.record.id));
    } catch (error) {
      if (!known.has(entry.record.id)) await takeBack(entry);
      throw error;
    }
    return entry;
  }

  /** What was not put back when these endpoints were removed; resolves when all has been tried. */
  async leftOf(endpoints: readonly string[]): Promise<string[]> {
    const cookies = new Set(endpoints.flatMap((id) => this.#sandboxOf.get(id) ?? []));
    await Promise.all([...cookies].map((cookie) => this.#queue.run(cookie, () => Promise.resolve())));
    return endpoints.flatMap((id) => {
      const note = this.#notes.get(id);
      this.#notes.delete(id);
      this.#sandboxOf.delete(id);
      return note ?? [];
    });
  }

  #changed(id: string): void {
    if (this.#options.journal.resolvConfs.size === 0 && this.#sandboxOf.size === 0) return;
    const now = this.#options.own.get(id);
    const cookie = now?.cookie ?? this.#sandboxOf.get(id);
    if (cookie !== undefined && this.#entriesOf(cookie).length > 0) this.#follow(cookie);
    else if (now === undefined) this.#sandboxOf.delete(id);
  }

  #entriesOf(cookie: string): WrittenResolvConf[] {
    return [...this.#options.journal.resolvConfs.all()].filter((entry) => entry.cookie === cookie);
  }

  async #begin(before: SandboxFileState, endpoint: string): Promise<void> {
    const { journal, bootId } = this.#options;
    const { process, cookie, file, content } = before;
    // A second process of the same container, or of one that has the same file mounted, finds our own content.
    const shared = this.#entriesOf(cookie).find(
      (entry) => entry.mount === process.mount || (file !== null && entry.file === file),
    );
    const base64 = content?.toString('base64') ?? null;
    const found = shared ?? { ...process, cookie, bootId, file, endpoints: [], before: base64, written: [] };
    this.#sandboxOf.set(endpoint, cookie);
    this.#confirmed.delete(keyOf(found));
    try {
      await this.#bring({ ...found, endpoints: [...new Set([...found.endpoints, endpoint])] });
    } catch (error) {
      // What was written all the same, as after a deadline, is put back.
      const now = journal.resolvConfs.get(found);
      if (now !== undefined) journal.resolvConfs.put({ ...now, endpoints: found.endpoints });
      this.#follow(cookie);
      throw error;
    }
  }

  /** Brings the files of a sandbox in line, after what is under way for it. */
  #follow(cookie: string): void {
    for (const { endpoints } of this.#entriesOf(cookie)) for (const id of endpoints) this.#sandboxOf.set(id, cookie);
    for (const { record } of this.#options.own.ofSandbox(cookie)) this.#sandboxOf.set(record.id, cookie);
    this.#queue
      .run(cookie, async () => {
        for (const entry of this.#entriesOf(cookie)) await this.#settle(entry);
      })
      .catch((error: unknown) => {
        this.#options.log.error({ error: toTsnetError(error).message }, 'could not look after a resolv.conf');
        this.#tryAgain();
      });
  }

  async #settle(found: WrittenResolvConf): Promise<void> {
    const { journal, own, log } = this.#options;
    const endpoints = found.endpoints.filter((id) => (own.get(id)?.record.state ?? 'detaching') !== 'detaching');
    const isOver = endpoints.length === 0;
    const entry = isOver ? found : { ...found, endpoints };
    const said = { pid: entry.pid, endpoints: found.endpoints };
    try {
      await (isOver ? this.#putBack(entry) : this.#bring(entry));
    } catch (error) {
      const { code, message } = toTsnetError(error);
      if (code === 'ERR_SANDBOX_MISSING') {
        const process = await this.#file.successor(entry, entry.cookie);
        this.#forget(entry);
        if (process === undefined) return;
        journal.resolvConfs.put({ ...entry, ...process });
        return this.#settle({ ...entry, ...process });
      }
      if (this.#failing.get(keyOf(entry)) !== message) log.warn({ ...said, code }, message);
      this.#failing.set(keyOf(entry), message);
      if (!isOver) return;
      this.#note(entry, message);
      if (isChanged(error)) this.#forget(entry);
      else this.#tryAgain();
    }
  }

  /** Errors: ERR_RESOLV_CONF when the content is somebody else's; those of SandboxFile. */
  async #bring(entry: WrittenResolvConf): Promise<void> {
    const { journal, textOf } = this.#options;
    const wanted = textOf?.(entry.cookie) ?? null;
    if (wanted === null || this.#confirmed.get(keyOf(entry)) === wanted) {
      const known = journal.resolvConfs.get(entry);
      if (known?.endpoints.join() !== entry.endpoints.join()) journal.resolvConfs.put(entry);
      return;
    }
    const current = await this.#file.read(entry);
    journal.resolvConfs.put({ ...entry, written: [...new Set([...entry.written, wanted])].slice(-mostWritten) });
    const expected = isOurs(entry, current) ? current : bytesOf(entry.before);
    failpoint('resolv-conf.journal.after');
    const { file } = await this.#file.replace(entry, { expected, content: Buffer.from(wanted) });
    failpoint('resolv-conf.write.after');
    journal.resolvConfs.put({ ...entry, file, written: [wanted] });
    this.#confirmed.set(keyOf(entry), wanted);
  }

  async #putBack(entry: WrittenResolvConf): Promise<void> {
    const { log } = this.#options;
    const before = bytesOf(entry.before);
    const current = await this.#file.read(entry);
    const expected = isOurs(entry, current) ? current : before;
    await this.#file.replace(entry, { expected, content: before });
    this.#forget(entry);
    log.debug({ pid: entry.pid, endpoints: entry.endpoints }, 'put a resolv.conf back');
  }

  #forget(entry: WrittenResolvConf): void {
    this.#options.journal.resolvConfs.remove(entry);
    this.#confirmed.delete(keyOf(entry));
    this.#failing.delete(keyOf(entry));
  }

  #note(entry: WrittenResolvConf, message: string): void {
    const [last] = entry.endpoints.slice(-1);
    if (last !== undefined) this.#notes.set(last, message);
    const [oldest] = this.#notes.keys();
    if (this.#notes.size > mostNotes && oldest !== undefined) this.#notes.delete(oldest);
  }

  #tryAgain(): void {
    this.#again ??= setTimeout(() => {
      this.#again = undefined;
      const cookies = new Set([...this.#options.journal.resolvConfs.all()].map(({ cookie }) => cookie));
      for (const cookie of cookies) this.#follow(cookie);
    }, retryMs);
    this.#again.unref();
  }
}

/** One that is there, and one that is being written. */
const mostWritten = 2;

function keyOf({ pid, startTime }: WrittenResolvConf): string {
  return `${pid}-${startTime}`;
}

function bytesOf(base64: string | null): Buffer | null {
  return base64 === null ? null : Buffer.from(base64, 'base64');
}

function isOurs({ written }: WrittenResolvConf, content: Buffer | null): boolean {
  return content !== null && written.includes(content.toString('utf8'));
}

/** Errors: ERR_INVALID_TARGET. */
function pidOf(target: string): number {
  const match = /^pid:(\d{1,10})$/.exec(target) ?? /^netns:\/proc\/(\d{1,10})(?:\/task\/\d+)?\/ns\/net$/.exec(target);
  if (match?.[1] !== undefined) return Number(match[1]);
  throw new TsnetError(
    'ERR_INVALID_TARGET',
    `target "${target}" names no process, whose /etc/resolv.conf could be set`,
    {
      details: { field: 'target', value: target },
      hint: 'Name a process of the container, for example pid:4711; or write the file by `tsnet dns resolv-conf`.',
    },
  );
}
