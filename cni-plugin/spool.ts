import { mkdirSync, readdirSync, statSync, watch } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../lib/log.js';
import { decodeFrame, maxFrameBytes, type CniCall } from './frame.js';
import type { CniAnswer } from './plugin.js';

export interface SpoolOptions {
  /** Where the native program writes what no agent was there for. */
  readonly folder: string;
  /** Does one call; status 0 takes it out of the spool. */
  readonly act: (call: CniCall) => Promise<CniAnswer>;
  readonly log: Logger;
  /** A call that failed is tried again after this long; default 5 s. */
  readonly retryMs?: number;
}

const sweepMs = 10_000;
/** Within one tick of the clock that files' times are of, an entry changes nothing of its folder's time; some machines have 100 a second. */
const clockTickMs = 50;

/**
 * Deletions that runtimes asked for while no agent was there. They were told that it is done, so it has to be: each
 * call stays in its file until it has succeeded, and all that stand there are done before any ADD.
 */
export class Spool {
  readonly #options: SpoolOptions;
  #draining: Promise<void> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #stopWatching: (() => void) | undefined;
  /** Time of last change of the folder, when it was seen empty; null: it was not. */
  #emptyAtMs: number | null = null;
  /** Those that failed, until the next retry, each with the interface that it is about. */
  readonly #failed = new Map<string, string>();

  constructor(options: SpoolOptions) {
    this.#options = options;
    mkdirSync(options.folder, { recursive: true, mode: 0o700 });
  }

  /** Does what stands there, and from now on whatever is added. */
  async start(): Promise<void> {
    const { folder, log } = this.#options;
    const watcher = watch(folder, () => void this.drain());
    watcher.on('error', (error) => log.warn({ folder, error: error.message }, 'the CNI spool is no longer watched'));
    // Somebody may have replaced the folder, and then nobody tells.
    const timer = setInterval(() => void this.drain(), sweepMs);
    timer.unref();
    this.#stopWatching = () => {
      watcher.close();
      clearInterval(timer);
    };
    await this.drain();
  }

  async close(): Promise<void> {
    this.#stopWatching?.();
    clearTimeout(this.#retry);
    await this.#draining;
  }

  /** Reports whether nothing stands there or is being done. */
  isIdle(): boolean {
    return this.#draining === undefined && this.#waiting().length === 0;
  }

  /** Resolves when all that stood there at the time of the call has been tried. */
  async drain(): Promise<void> {
    if (this.#waiting().length === 0) return this.#draining;
    await this.#draining;
    this.#draining ??= this.#drain().finally(() => {
      this.#draining = undefined;
    });
    await this.#draining;
  }

  /** Drops what failed for an interface: it has been added anew, and must not be deleted some time later. */
  async forget(call: CniCall): Promise<void> {
    const added = interfaceOf(call);
    for (const [name, about] of this.#failed) {
      if (about !== added) continue;
      this.#failed.delete(name);
      await rm(join(this.#options.folder, name), { force: true });
    }
  }

  #waiting(): string[] {
    try {
      return this.#list()
        .filter((name) => name.endsWith('.del') && !this.#failed.has(name))
        .sort();
    } catch {
      return [];
    }
  }

  /** Each ADD asks, and mostly nothing is there: a folder whose time is still that of an earlier look is as it was then. */
  #list(): string[] {
    const { folder } = this.#options;
    const { mtimeMs } = statSync(folder);
    if (mtimeMs === this.#emptyAtMs) return [];
    const names = readdirSync(folder);
    const isOfThePast = Date.now() - mtimeMs > clockTickMs;
    this.#emptyAtMs = names.length === 0 && isOfThePast ? mtimeMs : null;
    return names;
  }

  async #drain(): Promise<void> {
    for (const name of this.#waiting()) await this.#try(name);
    if (this.#failed.size === 0 || this.#retry !== undefined) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#failed.clear();
      void this.drain();
    }, this.#options.retryMs ?? 5000);
    this.#retry.unref();
  }

  async #try(name: string): Promise<void> {
    const { folder, act, log } = this.#options;
    const path = join(folder, name);
    let call: CniCall;
    try {
      call = decodeFrame(await readBounded(path));
      if (call.environment['CNI_COMMAND'] !== 'DEL') throw new Error('it is no DEL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      log.error({ file: path, error: String(error) }, 'dropped a call from the CNI spool: it cannot be read');
      await rm(path, { force: true });
      return;
    }
    const container = call.environment['CNI_CONTAINERID'];
    const answer = await act(call);
    if (answer.exit === 0) {
      await rm(path, { force: true });
      log.info({ container }, 'did a DEL that was asked for while no agent was there');
      return;
    }
    this.#failed.set(name, interfaceOf(call));
    log.warn({ container, answer: answer.stdout }, 'a DEL from the CNI spool failed; it is tried again');
  }
}

async function readBounded(path: string): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    if (size > maxFrameBytes) throw new Error(`it is larger than ${maxFrameBytes} bytes`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

function interfaceOf({ environment }: CniCall): string {
  return `${environment['CNI_CONTAINERID'] ?? ''} ${environment['CNI_IFNAME'] ?? ''}`;
}
