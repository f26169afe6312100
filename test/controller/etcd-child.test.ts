import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { NetworkView } from '../../core/api/network.js';
import { until } from '../store/real-etcd.js';
import { newController } from './running-controller.js';

t.setTimeout(120_000);

const isAlive = (pid: number): Promise<boolean> =>
  readFile(`/proc/${pid}/stat`, 'utf8').then(
    (text) => text.slice(text.lastIndexOf(')') + 2, text.lastIndexOf(')') + 3) !== 'Z',
    () => false,
  );

async function newDir(t: { readonly teardown: (run: () => Promise<void>) => void }): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'tsnet-data-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

void t.test('a controller without --etcd', async (t) => {
  await t.test('starts its own etcd, stops it with itself, and finds its data again', async (t) => {
    const dataDir = await newDir(t);
    const first = await newController(t, '', { dataDir });
    const pid = first.handle.etcdPid() ?? 0;
    t.ok(await isAlive(pid));
    const made = await first.call<NetworkView>('POST', '/v1/networks', { name: 'kept' });
    const { epoch } = await first.call<{ epoch: string }>('GET', '/v1/status');
    const admin = await first.token('admin');
    for (const file of ['admin.token', 'host.token']) t.equal((await stat(join(dataDir, file))).mode & 0o777, 0o600);
    t.equal((await stat(join(dataDir, 'etcd'))).mode & 0o777, 0o700);
    await first.close();
    t.notOk(await isAlive(pid), 'no etcd is left');
    const second = await newController(t, '', { dataDir });
    t.same(await second.call('GET', '/v1/networks/kept'), made);
    t.match(await second.call('GET', '/v1/status'), { epoch });
    t.equal(await second.token('admin'), admin);
    await second.close();
  });

  await t.test('starts etcd again when that dies', async (t) => {
    const dataDir = await newDir(t);
    const controller = await newController(t, '', { dataDir });
    await controller.call('POST', '/v1/networks', { name: 'kept' });
    const pid = controller.handle.etcdPid() ?? 0;
    process.kill(pid, 'SIGKILL');
    await until(() => !controller.handle.context.mirror.isConnected, 30_000, 'the death is noticed');
    await until(
      () => controller.handle.etcdPid() !== pid && controller.handle.context.mirror.isConnected,
      30_000,
      'another etcd',
    );
    await controller.call('POST', '/v1/networks', { name: 'later' });
    t.equal((await controller.call<NetworkView[]>('GET', '/v1/networks')).length, 2);
    const second = controller.handle.etcdPid() ?? 0;
    await controller.close();
    t.notOk(await isAlive(second));
  });

  await t.test('has its data directory for itself', async (t) => {
    const dataDir = await newDir(t);
    const controller = await newController(t, '', { dataDir });
    await t.rejects(newController(t, '', { dataDir }), { code: 'ERR_DATA_DIR_LOCKED', message: new RegExp(dataDir) });
    t.match(await controller.call('GET', '/v1/status'), { store: 'ok' }, 'the first is not disturbed');
    await controller.close();
  });

  await t.test('works in a directory whose path is too long for a socket', async (t) => {
    const dataDir = join(await newDir(t), 'x'.repeat(120));
    const controller = await newController(t, '', { dataDir });
    t.match(await controller.call('GET', '/v1/status'), { store: 'ok' });
    await controller.close();
  });

  await t.test('that was killed leaves no etcd, and the next one starts on the same data', async (t) => {
    const dataDir = await newDir(t);
    const child = spawn(process.execPath, [fileURLToPath(new URL('./victim.js', import.meta.url)), dataDir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.teardown(() => void child.kill('SIGKILL'));
    const etcdPid = Number(await firstLine(child));
    t.ok(await isAlive(etcdPid));
    child.kill('SIGKILL');
    await until(async () => !(await isAlive(etcdPid)), 30_000, 'etcd died too');
    const next = await newController(t, '', { dataDir });
    t.match(await next.call('GET', '/v1/networks'), [{ name: 'made-by-victim' }]);
    await next.close();
  });

  await t.test('says that etcd is missing', async (t) => {
    const dataDir = await newDir(t);
    const path = process.env['PATH'];
    t.teardown(() => (process.env['PATH'] = path));
    const bin = await newDir(t);
    const { symlink } = await import('node:fs/promises');
    for (const name of ['flock', 'setpriv', 'cat']) await symlink(`/usr/bin/${name}`, join(bin, name));
    process.env['PATH'] = bin;
    await t.rejects(newController(t, '', { dataDir }), { code: 'ERR_ETCD_MISSING', hint: /etcd-server/ });
    process.env['PATH'] = path;
    const after = await newController(t, '', { dataDir });
    await after.close();
  });
});

void t.test('a controller whose etcd is away at its start listens, says so, and goes on when it comes', async (t) => {
  const { newEtcd } = await import('../store/real-etcd.js');
  const etcd = await newEtcd();
  t.teardown(() => etcd.remove());
  await etcd.kill();
  const controller = await newController(t, '', { etcd: [etcd.endpoint] });
  t.match(await controller.call('GET', '/v1/status'), { store: 'unreachable', epoch: '' });
  await t.rejects(controller.call('GET', '/v1/networks'), { code: 'ERR_STORE_UNREACHABLE', hint: /etcd/ });
  await t.rejects(controller.call('POST', '/v1/networks', { name: 'x' }), { code: 'ERR_STORE_UNREACHABLE' });
  await etcd.start();
  await until(
    async () => (await controller.call<{ store: string }>('GET', '/v1/status')).store === 'ok',
    30_000,
    'reached',
  );
  await controller.call('POST', '/v1/networks', { name: 'x' });
});

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes('\n')) resolve(text.split('\n')[0] ?? '');
    });
    child.once('exit', () => reject(new Error('the victim ended')));
  });
}
