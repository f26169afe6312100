import { readdir, readlink } from 'node:fs/promises';
import { TsnetError } from '../../core/errors.js';
import type { NativeApi, NativeError, RootFile, RootFileRef } from '../../native/api.js';

/** A process whose file system is meant. */
export interface SandboxProcess {
  readonly pid: number;
  /** In clock ticks since boot: with the pid it names the process for good. */
  readonly startTime: string;
  /** Its mount namespace, `mnt:[INODE]`. */
  readonly mount: string;
}

export interface SandboxFileState {
  readonly process: SandboxProcess;
  /** Cookie of the process's network namespace, decimal. */
  readonly cookie: string;
  /** Device and inode; null where there is no file. */
  readonly file: string | null;
  readonly content: Buffer | null;
}

const path = '/etc/resolv.conf';
const mostBytes = 16 * 1024;
const deadlineMs = 5000;
/** So many calls that a container's own file system has not answered. */
const mostPending = 16;
const listedMs = 1000;

/** What the host resolves with, by every path that there may be: a container that shares it is not to change it. */
const hostFiles = [
  path,
  '/proc/1/root/etc/resolv.conf',
  '/run/systemd/resolve/resolv.conf',
  '/run/systemd/resolve/stub-resolv.conf',
];

const reasons: Readonly<Record<string, string>> = {
  EINVAL: 'it is not a regular file',
  ELOOP: 'it is a link to nowhere, to itself or into /proc',
  EFBIG: `it has more than ${mostBytes / 1024} KiB`,
  EOPNOTSUPP: 'its file system is none that files are kept on (proc, sysfs, FUSE)',
  EXDEV: "it is the host's own file",
  EROFS: 'its file system is read-only',
  EACCES: "the container's own root may not change it",
  EPERM: "the container's own root may not change it",
  ENOENT: 'its folder is missing',
  EAGAIN: 'somebody holds a lease on it',
  ESTALE: 'somebody else has changed it',
};

/** The resolv.conf of running containers. Their root is not trusted: see `rootFileRead` of the addon. */
export class SandboxFile {
  readonly #native: NativeApi;
  #pending = 0;
  #listed: { readonly ms: number; readonly processes: Promise<Map<string, number[]>> } | undefined;

  constructor(native: NativeApi) {
    this.#native = native;
  }

  /** Errors: ERR_SANDBOX_MISSING, ERR_RESOLV_CONF, ERR_DEADLINE, ERR_BUSY. */
  async look(pid: number): Promise<SandboxFileState> {
    const found = await this.#bounded(pid, () => this.#native.rootFileRead(refOf({ pid })));
    const [cookie] = await this.#native.netnsCookies([{ pid }]);
    const mount = await readlink(`/proc/${pid}/ns/mnt`).catch(() => '');
    if (typeof cookie !== 'bigint' || mount === '') throw missing(pid);
    const { startTime, file, content } = found;
    assertSize(pid, content);
    return { process: { pid, startTime, mount }, cookie: String(cookie), file, content };
  }

  /** Errors: as `look`. */
  async read(process: SandboxProcess): Promise<Buffer | null> {
    return (await this.#bounded(process.pid, () => this.#native.rootFileRead(refOf(process)))).content;
  }

  /** Writes in place, where the content is what is expected; null stands for no file. Errors: as `look`. */
  replace(
    process: SandboxProcess,
    change: { readonly expected: Uint8Array | null; readonly content: Uint8Array | null },
  ): Promise<RootFile> {
    return this.#bounded(process.pid, () => this.#native.rootFileReplace(refOf(process), change));
  }

  /** Another process with the same mount and network namespaces, for one that has ended; undefined: there is none. */
  async successor(gone: SandboxProcess, cookie: string): Promise<SandboxProcess | undefined> {
    const pids = (await this.#processesByMount()).get(gone.mount) ?? [];
    for (const pid of pids) {
      const state = await this.look(pid).catch(() => undefined);
      if (state?.cookie === cookie && state.process.mount === gone.mount) return state.process;
    }
    return undefined;
  }

  /** Listed once for all containers that end together. */
  #processesByMount(): Promise<Map<string, number[]>> {
    const nowMs = performance.now();
    if (this.#listed === undefined || nowMs - this.#listed.ms > listedMs)
      this.#listed = { ms: nowMs, processes: listByMount() };
    return this.#listed.processes;
  }

  /** A file system that a container serves itself may never answer: the caller gets its error all the same. */
  async #bounded<T>(pid: number, call: () => Promise<T>): Promise<T> {
    if (this.#pending >= mostPending)
      throw new TsnetError('ERR_BUSY', `${mostPending} containers do not answer for their files`);
    this.#pending += 1;
    const calling = call().finally(() => (this.#pending -= 1));
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new TsnetError('ERR_DEADLINE', `${path} of pid:${pid} cannot be reached within ${deadlineMs} ms`));
      }, deadlineMs);
    });
    try {
      return await Promise.race([calling, deadline]);
    } catch (error) {
      throw fileError(pid, error);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Reports whether an error says that the file is another one than expected. */
export function isChanged(error: unknown): boolean {
  return error instanceof TsnetError && error.details['reason'] === 'ESTALE';
}

function refOf(process: { readonly pid: number; readonly startTime?: string }): RootFileRef {
  const { pid, startTime } = process;
  return { pid, path, apartFrom: hostFiles, ...(startTime === undefined ? {} : { startTime }) };
}

function assertSize(pid: number, content: Buffer | null): void {
  if (content !== null && content.length > mostBytes) throw refused(pid, 'EFBIG');
}

function missing(pid: number, cause?: unknown): TsnetError {
  const details = { target: `pid:${pid}` };
  return new TsnetError('ERR_SANDBOX_MISSING', `pid:${pid}: there is no such process`, { details, cause });
}

function refused(pid: number, code: string, cause?: unknown): TsnetError {
  const reason = reasons[code] ?? (cause instanceof Error ? cause.message : code);
  return new TsnetError('ERR_RESOLV_CONF', `${path} of pid:${pid} is left as it is: ${reason}`, {
    details: { target: `pid:${pid}`, reason: code },
    cause,
  });
}

function fileError(pid: number, error: unknown): unknown {
  const { code } = error as Partial<NativeError>;
  if (error instanceof TsnetError || typeof code !== 'string') return error;
  return code === 'ESRCH' ? missing(pid, error) : refused(pid, code, error);
}

async function listByMount(): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const mount = await readlink(`/proc/${name}/ns/mnt`).catch(() => undefined);
    if (mount === undefined) continue;
    const known = found.get(mount);
    if (known === undefined) found.set(mount, [Number(name)]);
    else known.push(Number(name));
  }
  return found;
}
