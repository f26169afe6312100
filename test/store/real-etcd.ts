import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EtcdClient } from '../../lib/etcd/client.js';

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
      20_000,
      'etcd answers',
    );
    probe.close();
  };
  await start();
  return {
    endpoint: client,
    port,
    freeze: () => child?.kill('SIGSTOP'),
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

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
