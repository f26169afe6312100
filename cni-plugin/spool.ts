import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  watch,
} from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../lib/log.js';
import { decodeFrame, maxFrameBytes, type CniCall } from './frame.js';
import { fieldOf, isObject } from './json.js';
import type { CniAnswer } from './plugin.js';

export interface SpoolOptions {
  /** Where the native program writes what no agent was there for. */
  readonly folder: string;
  /** Does one call; status 0 takes it out of the spool. */
  readonly act: (call: CniCall) => Promise<CniAnswer>;
  readonly log: Logger;
  /** Calls that failed are tried again after this long, and then after twice as long; default 5 s. */
  readonly retryMs?: number;
}

const sweepMs = 10_000;
/** Within one tick of the clock that files' times are of, an entry changes nothing of its folder's time; some machines have 100 a second. */
const clockTickMs = 50;
const maxRetryMs = 300_000;
/** The native program writes a call within milliseconds: what is no older may still become one. */
const partMs = 60_000;

/**
 * Deletions that runtimes asked for while no agent was there. They were told that it is done, so it has to be: each
 * call stays in its file until it has succeeded, and all that stand there are done before any ADD.
 */
export class Spool {
  readonly #options: SpoolOptions;
  #draining: Promise<void> | undefined;
  /** Whether something may have been added since the folder was last looked at. */
  #isStale = false;
  #retry: NodeJS.Timeout | undefined;
  #retryMs: number;
  #stopWatching: (() => void) | undefined;
  /** Time of last change of the folder, when it was seen empty; null: it was not. */
  #emptyAtMs: number | null = null;
  /** Those that failed, until the next retry, each with the interface that it is about. */
  readonly #failed = new Map<string, string>();
  /** Those that are tried once more. */
  readonly #again = new Set<string>();
  /** The ADDs under way. */
  readonly #adding = new Set<CniCall>();

  constructor(options: SpoolOptions) {
    this.#options = options;
    this.#retryMs = options.retryMs ?? 5000;
    mkdirSync(options.folder, { recursive: true, mode: 0o700 });
  }

  /** Does what stands there, and from now on whatever is added. */
  async start(): Promise<void> {
    const { folder, log } = this.#options;
    const watcher = watch(folder, () => void this.drain());
    watcher.on('error', (error) => log.warn({ folder, error: error.message }, 'the CNI spool is no longer watched'));
    // Somebody may have replaced the folder, and then nobody tells.
    const timer = setInterval(() => {
      this.#sweep();
      void this.drain();
    }, sweepMs);
    timer.unref();
    this.#stopWatching = () => {
      watcher.close();
      clearInterval(timer);
    };
    this.#sweep();
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

  /** Resolves when all that stood there at the time of the call has been tried; never rejects. */
  drain(): Promise<void> {
    this.#isStale = true;
    this.#draining ??= this.#drain();
    return this.#draining;
  }

  /**
   * Works on an ADD. What failed for its interface is not tried meanwhile, and dropped once the ADD has succeeded: it
   * must not delete some time later what has been added anew.
   */
  async around(call: CniCall, add: () => Promise<CniAnswer>): Promise<CniAnswer> {
    this.#adding.add(call);
    try {
      const answer = await add();
      if (answer.exit === 0 && this.#failed.size > 0) this.#forget(interfaceOf(call));
      return answer;
    } finally {
      this.#adding.delete(call);
    }
  }

  #forget(added: string): void {
    for (const [name, about] of this.#failed) {
      if (about !== added) continue;
      this.#failed.delete(name);
      this.#remove(name);
    }
  }

  #names(ending: string): string[] {
    try {
      return this.#list().filter((name) => name.endsWith(ending));
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

  #waiting(): string[] {
    return this.#names('.del')
      .filter((name) => !this.#failed.has(name))
      .sort();
  }

  async #drain(): Promise<void> {
    // Whoever called has to have its promise first.
    await Promise.resolve();
    while (this.#isStale) {
      this.#isStale = false;
      for (const name of this.#waiting()) await this.#try(name);
    }
    this.#draining = undefined;
    this.#scheduleRetry();
  }

  #scheduleRetry(): void {
    if (this.#failed.size === 0) this.#retryMs = this.#options.retryMs ?? 5000;
    if (this.#failed.size === 0 || this.#retry !== undefined) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      for (const name of this.#failed.keys()) this.#again.add(name);
      this.#failed.clear();
      void this.drain();
    }, this.#retryMs);
    this.#retry.unref();
    this.#retryMs = Math.min(2 * this.#retryMs, maxRetryMs);
  }

  async #try(name: string): Promise<void> {
    const { folder, act, log } = this.#options;
    const file = join(folder, name);
    const isAgain = this.#again.delete(name);
    let call: CniCall;
    try {
      const bytes = readBounded(file);
      if (bytes === null) return;
      call = decodeFrame(bytes);
      if (call.environment['CNI_COMMAND'] !== 'DEL') throw new Error('it is no DEL');
    } catch (error) {
      if (isPassing(error)) {
        this.#failed.set(name, '');
        log.warn({ file, error: String(error) }, 'a DEL from the CNI spool cannot be read now; it is tried again');
        return;
      }
      log.error({ file, error: String(error) }, 'dropped a call from the CNI spool: it cannot be read');
      this.#remove(name);
      return;
    }
    const about = interfaceOf(call);
    const container = call.environment['CNI_CONTAINERID'];
    if (isAgain && [...this.#adding].some((each) => interfaceOf(each) === about)) {
      this.#failed.set(name, about);
      return;
    }
    const answer = await act(call);
    if (answer.exit === 0) {
      this.#remove(name);
      log.info({ container }, 'did a DEL that was asked for while no agent was there');
      return;
    }
    this.#failed.set(name, about);
    log.warn({ container, answer: answer.stdout }, 'a DEL from the CNI spool failed; it is tried again');
  }

  /** What cannot be removed would be done over and over: it waits for the next retry. */
  #remove(name: string): void {
    const path = join(this.#options.folder, name);
    try {
      rmSync(path, { force: true, recursive: true });
    } catch (error) {
      this.#failed.set(name, '');
      this.#options.log.warn({ path, error: String(error) }, 'cannot remove a call from the CNI spool');
    }
  }

  /** Removes what a program that was killed has left half written. */
  #sweep(): void {
    for (const name of this.#names('.part')) {
      const status = statSync(join(this.#options.folder, name), { throwIfNoEntry: false });
      if (status !== undefined && Date.now() - status.mtimeMs > partMs) this.#remove(name);
    }
  }
}

/**
 * A file's content; null where there is none any more. Anything else than a file of bounded length is an error. At one
 * go, since the folder is in memory: a turn of the event loop for each of many takes longer than they do.
 */
function readBounded(path: string): Buffer | null {
  let fd: number | undefined;
  try {
    // What is no file must not be waited for.
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const status = fstatSync(fd);
    if (!status.isFile()) throw new Error('it is no file');
    if (status.size > maxFrameBytes) throw new Error(`it is larger than ${maxFrameBytes} bytes`);
    return readFileSync(fd);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    throw error;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

const codeOf = (error: unknown): unknown => (error as Partial<NodeJS.ErrnoException>).code;

/** Whether an error is about the machine's state rather than the file. */
function isPassing(error: unknown): boolean {
  return ['EMFILE', 'ENFILE', 'ENOMEM', 'EIO', 'EAGAIN', 'EACCES', 'EPERM'].includes(String(codeOf(error)));
}

/** Network, container and interface: what the specification knows an attachment by. */
function interfaceOf({ environment, stdin }: CniCall): string {
  let config: unknown;
  try {
    config = JSON.parse(stdin);
  } catch {
    config = undefined;
  }
  const name = isObject(config) ? fieldOf(config, 'name') : undefined;
  const words = [name, environment['CNI_CONTAINERID'], environment['CNI_IFNAME']];
  return words.map((word) => (typeof word === 'string' ? word : '')).join(' ');
}
