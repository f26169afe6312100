import { spawn, type ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { scheduler } from 'node:timers/promises';
import { EtcdClient } from '../../lib/etcd/client.js';
import { freezeProcess } from '../lab/pid.js';

/** A real etcd on loopback, in a directory of its own. */
export interface RealEtcd {
  readonly endpoint: string;
  readonly port: number;
  readonly freeze: () => void;
  readonly thaw: () => void;
  readonly kill: () => Promise<void>;
  readonly start: () => Promise<void>;
  /** Throws its data away, keeping its address. Call it while it is killed. */
  readonly wipe: () => Promise<void>;
  readonly remove: () => Promise<void>;
}

export async function newEtcd(): Promise<RealEtcd> {
  const dir = await mkdtemp(join(tmpdir(), 'tsnet-etcd-'));
  const [port, peerPort] = await Promise.all([freePort(), freePort()]);
  const client = `http://127.0.0.1:${port}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  let child: ChildProcess | undefined;
  const kill = async (): Promise<void> => {
    const ending = child;
    child = undefined;
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
    const ended = new Promise((resolve) => ending.once('exit', resolve));
    ending.kill('SIGKILL');
    await ended;
  };
  const start = async (): Promise<void> => {
    child = spawn(
      '/usr/bin/setpriv',
      [
        '--pdeathsig',
        'SIGKILL',
        '/usr/bin/etcd',
        '--data-dir',
        join(dir, 'data'),
        '--name',
        'test',
        '--listen-client-urls',
        client,
        '--advertise-client-urls',
        client,
        '--listen-peer-urls',
        peer,
        '--initial-advertise-peer-urls',
        peer,
        '--initial-cluster',
        `test=${peer}`,
        '--logger',
        'zap',
        '--log-level',
        'error',
        '--heartbeat-interval',
        '50',
        '--election-timeout',
        '500',
      ],
      { stdio: 'ignore', env: {} },
    );
    const probe = new EtcdClient({ endpoints: [client], deadlineMs: 500 });
    await until(
      () =>
        probe.revision().then(
          () => true,
          () => false,
        ),
      30_000,
      'etcd answers',
    );
    probe.close();
  };
  await start();
  return {
    endpoint: client,
    port,
    freeze: () => {
      if (child?.pid !== undefined) freezeProcess(child.pid);
    },
    thaw: () => child?.kill('SIGCONT'),
    kill,
    start,
    wipe: () => rm(join(dir, 'data'), { recursive: true, force: true }),
    remove: async () => {
      await kill();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Waits for a condition; throws what it was when it does not come in time. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number,
  what: string,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Reports whether something comes before a timer of this process does, which is late as well when the machine stands still. */
export async function isWithin(limitMs: number, work: Promise<unknown>): Promise<boolean> {
  const stopping = new AbortController();
  const late = scheduler.wait(limitMs, { signal: stopping.signal }).then(
    () => false,
    () => false,
  );
  const first = await Promise.race([work.then(() => true), late]);
  stopping.abort();
  return first;
}

/** Those that the kernel gives to nobody by itself begin higher: no connection of another test gets one in between. */
const [firstPort, lastPort] = [12_000, 32_000];

async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(firstPort, lastPort);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}
