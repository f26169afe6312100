import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { access, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { TsnetError } from '../core/errors.js';
import { Backoff } from '../lib/sync/backoff.js';
import { EtcdClient } from '../lib/etcd/client.js';
import type { Logger } from '../lib/log.js';

/** The controller's own etcd: one member, reached over a unix socket only. */
export interface EtcdChild {
  /** What EtcdClient dials. */
  readonly endpoint: string;
  readonly pid: () => number | undefined;
  readonly stop: () => Promise<void>;
}

export interface EtcdChildOptions {
  readonly dataDir: string;
  readonly log: Logger;
  readonly startTimeoutMs?: number;
}

// etcd wants `unix://HOST:PORT` and makes a socket file of that name in its working directory.
const clientSocket = 'localhost:1';
const peerSocket = 'localhost:2';
const stopTimeoutMs = 5000;
const maxLogBytes = 10 * 1024 * 1024;
/** sun_path has 108 bytes with the closing zero. */
const maxSocketPath = 100;

/**
 * Starts the system's etcd as a child with its data, sockets and log in the data directory, waits until it
 * answers, and starts it again when it dies by itself. The kernel kills it when this process dies.
 * Errors: ERR_ETCD_MISSING, ERR_ETCD_START.
 */
export async function startEtcd(options: EtcdChildOptions): Promise<EtcdChild> {
  const binary = await findBinary('etcd');
  const etcdDir = join(options.dataDir, 'etcd');
  const logFile = join(options.dataDir, 'etcd.log');
  await mkdir(etcdDir, { recursive: true, mode: 0o700 });
  const pidFile = join(options.dataDir, 'etcd.pid');
  await endLeftover(pidFile, options.log);
  const endpoint = socketEndpoint(etcdDir);
  const state: { child: ChildProcess | undefined; isStopping: boolean } = { child: undefined, isStopping: false };
  const start = async (): Promise<{ readonly exited: Promise<string> }> => {
    const child = await spawnEtcd({ binary, etcdDir, logFile });
    state.child = child;
    if (state.isStopping) child.kill('SIGKILL');
    const exited = exitOf(child);
    if (child.pid !== undefined)
      await writeFile(pidFile, `${child.pid} ${await startTimeOf(child.pid)}\n`, { mode: 0o600 });
    return { exited };
  };
  const { exited } = await start();
  await waitHealthy({ endpoint, exited, logFile, timeoutMs: options.startTimeoutMs ?? 30_000 }).catch(
    async (error: unknown) => {
      state.isStopping = true;
      await stopChild(state.child, exited);
      throw error;
    },
  );
  options.log.info({ pid: state.child?.pid, dir: etcdDir }, 'etcd started');
  const stopping = new AbortController();
  const kept = keepRunning({
    exited,
    start,
    log: options.log,
    isStopping: () => state.isStopping,
    signal: stopping.signal,
  });
  return {
    endpoint,
    pid: () => state.child?.pid,
    stop: async () => {
      state.isStopping = true;
      stopping.abort();
      const child = state.child;
      if (child !== undefined) await stopChild(child, exitOf(child));
      await kept;
      await rm(pidFile, { force: true });
    },
  };
}

async function keepRunning(options: {
  readonly exited: Promise<string>;
  readonly start: () => Promise<{ readonly exited: Promise<string> }>;
  readonly log: Logger;
  readonly isStopping: () => boolean;
  readonly signal: AbortSignal;
}): Promise<void> {
  const backoff = new Backoff(100, 5000);
  let reason = await options.exited;
  for (;;) {
    if (options.isStopping()) return;
    options.log.error({ reason }, 'etcd ended by itself; starting it again');
    await backoff.wait(options.signal);
    if (options.isStopping()) return;
    const startedAt = performance.now();
    reason = await options.start().then(
      (started) => started.exited,
      (error: unknown) => String(error),
    );
    if (performance.now() - startedAt > 60_000) backoff.reset();
  }
}

async function spawnEtcd(options: {
  readonly binary: string;
  readonly etcdDir: string;
  readonly logFile: string;
}): Promise<ChildProcess> {
  await rotate(options.logFile);
  // A killed etcd leaves its sockets, and does not replace them; the data directory's lock says that nobody uses them.
  for (const name of [clientSocket, peerSocket]) await rm(join(options.etcdDir, name), { force: true });
  const log = openSync(options.logFile, constants.O_CREAT | constants.O_APPEND | constants.O_WRONLY, 0o600);
  const args = [
    '--pdeathsig',
    'SIGKILL',
    options.binary,
    '--name',
    'tsnet',
    '--data-dir',
    options.etcdDir,
    '--listen-client-urls',
    `unix://${clientSocket}`,
    '--advertise-client-urls',
    `unix://${clientSocket}`,
    '--listen-peer-urls',
    `unix://${peerSocket}`,
    '--initial-advertise-peer-urls',
    `unix://${peerSocket}`,
    '--initial-cluster',
    `tsnet=unix://${peerSocket}`,
    // A lone member has nobody to wait for, yet elects itself only after one to two of these.
    '--heartbeat-interval',
    '20',
    '--election-timeout',
    '100',
    '--auto-compaction-mode',
    'periodic',
    '--auto-compaction-retention',
    '1h',
    '--quota-backend-bytes',
    String(2 * 1024 * 1024 * 1024),
    '--logger',
    'zap',
    '--log-outputs',
    'stderr',
  ];
  const path = process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin';
  try {
    // Detached: an interrupt from the terminal is for the controller, which then stops etcd last.
    return spawn('setpriv', args, {
      cwd: options.etcdDir,
      env: { PATH: path },
      detached: true,
      stdio: ['ignore', log, log],
    });
  } finally {
    closeSync(log);
  }
}

async function waitHealthy(options: {
  readonly endpoint: string;
  readonly exited: Promise<string>;
  readonly logFile: string;
  readonly timeoutMs: number;
}): Promise<void> {
  const client = new EtcdClient({ endpoints: [options.endpoint], deadlineMs: 1000 });
  const state: { exit: string | undefined } = { exit: undefined };
  void options.exited.then((reason) => (state.exit = reason));
  const end = performance.now() + options.timeoutMs;
  const backoff = new Backoff(20, 200);
  const never = new AbortController().signal;
  try {
    for (;;) {
      const isHealthy = await client.revision().then(
        () => true,
        () => false,
      );
      if (state.exit !== undefined)
        throw startError(`etcd ended at its start (${state.exit})`, await lastLines(options.logFile));
      if (isHealthy) return;
      if (performance.now() > end)
        throw startError(`etcd did not answer within ${options.timeoutMs} ms`, await lastLines(options.logFile));
      await backoff.wait(never);
    }
  } finally {
    client.close();
  }
}

function startError(what: string, log: string): TsnetError {
  return new TsnetError('ERR_ETCD_START', log === '' ? what : `${what}: ${log}`);
}

async function lastLines(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text.trimEnd().split('\n').slice(-1).join(' ').slice(-500);
}

function exitOf(child: ChildProcess): Promise<string> {
  if (child.exitCode !== null || child.signalCode !== null)
    return Promise.resolve(String(child.signalCode ?? child.exitCode));
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal ?? `exit status ${String(code)}`));
  });
}

async function stopChild(child: ChildProcess | undefined, exited: Promise<string>): Promise<void> {
  if (child === undefined) return;
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs);
  await exited;
  clearTimeout(timer);
}

async function findBinary(name: string): Promise<string> {
  for (const dir of (process.env['PATH'] ?? '').split(delimiter)) {
    if (dir === '') continue;
    const path = join(dir, name);
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  throw new TsnetError('ERR_ETCD_MISSING', `no ${name} in PATH`);
}

function socketEndpoint(etcdDir: string): string {
  const path = join(etcdDir, clientSocket);
  if (Buffer.byteLength(path) <= maxSocketPath) return `unix:${path}`;
  const fd = openSync(etcdDir, constants.O_RDONLY | constants.O_DIRECTORY);
  return `unix:/proc/self/fd/${fd}/${clientSocket}`;
}

async function rotate(file: string): Promise<void> {
  const size = await stat(file).then(
    (found) => found.size,
    () => 0,
  );
  if (size > maxLogBytes) await rename(file, `${file}.1`);
}

// Left only where the kernel could not tie the child to its parent; two would wait for one database.
async function endLeftover(pidFile: string, log: Logger): Promise<void> {
  const [pidText, startTime] = (await readFile(pidFile, 'utf8').catch(() => '')).trim().split(' ');
  const pid = Number(pidText);
  if (!Number.isSafeInteger(pid) || pid <= 1 || startTime === undefined) return;
  if ((await startTimeOf(pid)) !== startTime) return;
  log.warn({ pid }, 'ending the etcd of a controller that is gone');
  process.kill(pid, 'SIGKILL');
  const never = new AbortController().signal;
  const backoff = new Backoff(10, 100);
  const end = performance.now() + stopTimeoutMs;
  while ((await startTimeOf(pid)) === startTime && performance.now() < end) await backoff.wait(never);
}

/** Field 22 of /proc/PID/stat, which tells a process from a later one of the same pid; '' when there is none or it is a zombie. */
async function startTimeOf(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' ? '' : (fields[19] ?? '');
}
