import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { waitFor } from '../lab/wait.js';
import { startTsnet, tsnet } from './program.js';

function newFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-daemon-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

t.test('the bundled controller serves the CLI from its own etcd, and stops when told to', async (t) => {
  const folder = newFolder(t);
  const socket = join(folder, 'api.sock');
  const { child, outcome } = startTsnet(['controller', '--listen', 'unix:api.sock', '--log-level', 'warn'], {
    env: { TSNET_DATA_DIR: 'data', TSNET_SUBNET_POOL: '10.9.0.0/16:24' },
    cwd: folder,
    timeout: 60_000,
  });
  t.teardown(() => child.kill('SIGKILL'));
  await waitFor('the controller', () => existsSync(socket) || child.exitCode !== null, 30_000);
  const env = { TSNET_CONTROLLER: `unix:${socket}` };
  await waitFor('its store', async () => (await tsnet(['ls'], env)).code === 0, 30_000);
  const created = await tsnet(['create', 'frontend', '-o', 'json'], env);
  t.equal(created.stderr, '');
  t.match(JSON.parse(created.stdout), { name: 'frontend', driver: 'overlay', subnets: [{ subnet: '10.9.0.0/24' }] });
  t.equal((await tsnet(['ls', '-q'], env)).stdout, 'frontend\n');
  const again = await tsnet(['create', 'frontend', '-o', 'json'], env);
  t.equal(again.code, 1);
  t.match(JSON.parse(again.stderr), { code: 'ERR_NETWORK_NAME_IN_USE' });
  t.match(JSON.parse((await tsnet(['status', '-o', 'json'], env)).stdout), {
    agent: null,
    controller: { store: 'ok', networks: 1 },
  });

  const second = await tsnet([
    'controller',
    '--listen',
    `unix:${folder}/other.sock`,
    '--data-dir',
    join(folder, 'data'),
  ]);
  t.equal(second.code, 1);
  t.match(
    second.stderr,
    /^error: .* is in use by another tsnet\nhint: /m,
    'an error of the daemon looks like any other',
  );

  t.equal((await tsnet(['rm', 'frontend'], env)).code, 0);
  const etcdPid = Number(/^\d+/.exec(readFileSync(join(folder, 'data/etcd.pid'), 'utf8'))?.[0]);
  t.ok(existsSync(`/proc/${etcdPid}`));
  // Two at once are one request: `timeout` and others signal the process and its group.
  child.kill('SIGTERM');
  child.kill('SIGTERM');
  t.match(await outcome, { code: 0, signal: null, stdout: '' });
  t.notOk(existsSync(`/proc/${etcdPid}`), 'its etcd is gone as well');
});

t.test('a daemon that cannot start says why and exits', async (t) => {
  const folder = newFolder(t);
  const file = join(folder, 'file');
  writeFileSync(file, '');
  const controller = await tsnet(['controller', '--data-dir', join(file, 'data')]);
  t.equal(controller.code, 1);
  t.match(controller.stderr, /^error: .+/m);
  const pool = await tsnet(['controller', '--data-dir', join(folder, 'data'), '--subnet-pool', '10.0.0.0/33']);
  t.equal(pool.code, 1);
  t.match(pool.stderr, /^error: .*10\.0\.0\.0\/33/m);
});

t.test(
  'the agent needs root',
  { skip: process.geteuid?.() === 0 ? false : 'only root can become somebody else' },
  async (t) => {
    const folder = newFolder(t);
    mkdirSync(join(folder, 'run'));
    const { outcome } = startTsnet(['agent', '--run-dir', join(folder, 'run'), '--data-dir', join(folder, 'data')], {
      uid: 65_534,
      gid: 65_534,
      cwd: '/',
      timeout: 30_000,
    });
    t.same(await outcome, {
      code: 1,
      signal: null,
      stdout: '',
      stderr: 'error: the agent needs root\nhint: Run it as root.\n',
    });
    t.notOk(existsSync(join(folder, 'data')));
  },
);
