import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { runProgram, type ProgramResult } from '../lab/program.js';

const root = fileURLToPath(new URL('../../../../', import.meta.url));

function newPlace(t: Test) {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-install-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const prefix = join(folder, 'usr');
  const units = join(folder, 'units');
  const install = (...more: string[]): Promise<ProgramResult> =>
    runProgram(process.execPath, [join(root, 'tools/install.mjs'), '--prefix', prefix, '--units', units, ...more]);
  return { folder, prefix, units, install };
}

t.test('what is installed is whole, and works from its place alone', async (t) => {
  const { folder, prefix, units, install } = newPlace(t);
  t.match(await install(), { status: 0, stdout: '' });
  const tsnet = join(prefix, 'bin', 'tsnet');
  t.equal(realpathSync(tsnet), realpathSync(join(prefix, 'lib/tsnet/bin/tsnet')));
  for (const [name, command] of [
    ['tsnet-agent.service', 'agent'],
    ['tsnet-controller.service', 'controller'],
  ] as const)
    t.match(readFileSync(join(units, name), 'utf8'), `\nExecStart=${tsnet} ${command}\n`);
  t.match(await runProgram(tsnet, ['version']), { status: 0, stderr: '' });
  const asked = { env: { PATH: process.env['PATH'] ?? '', TSNET_AGENT_SOCKET: join(folder, 'no.sock') } };
  const cni = ['cni', 'install', '--runtime', 'cnitool', '--network', 'x', '--bin-dir', folder, '--conf-dir', folder];
  const refused = await runProgram(tsnet, cni, asked);
  t.notMatch(refused.stderr, /plugin is not at/);
  const loaded = `process.dlopen({exports: {}}, ${JSON.stringify(join(prefix, 'lib/tsnet/native/tsnet.node'))})`;
  t.match(await runProgram(process.execPath, ['-e', loaded]), { status: 0, stderr: '' });
});

t.test('a new version takes the place of the old one without touching the files that are open', async (t) => {
  const { prefix, install } = newPlace(t);
  await install();
  const addon = join(prefix, 'lib/tsnet/native/tsnet.node');
  const before = statSync(addon).ino;
  writeFileSync(join(prefix, 'lib/tsnet/lib/of-an-old-version.cjs'), '');
  t.equal((await install()).status, 0);
  t.not(statSync(addon).ino, before);
  t.notOk(existsSync(join(prefix, 'lib/tsnet/lib/of-an-old-version.cjs')));
  t.notOk(existsSync(join(prefix, 'lib/tsnet.old')));
  t.equal((await install('--remove')).status, 0);
  t.notOk(existsSync(join(prefix, 'lib/tsnet')));
  t.notOk(existsSync(join(prefix, 'bin/tsnet')));
});

t.test('a program of that name that is not ours stays', async (t) => {
  const { prefix, install } = newPlace(t);
  await install();
  rmSync(join(prefix, 'bin/tsnet'));
  writeFileSync(join(prefix, 'bin/tsnet'), 'mine');
  for (const more of [[], ['--remove']]) {
    t.match(await install(...more), { status: 1, stderr: /^error: .*bin\/tsnet is there and is not ours/ });
    t.equal(readFileSync(join(prefix, 'bin/tsnet'), 'utf8'), 'mine');
  }
  t.match(await install('--bogus'), { status: 1, stderr: /^error: Unknown option '--bogus'; known are .*\.\n$/ });
});
