import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t from 'tap';

import { linkNames, native } from './fixtures.js';

const program = fileURLToPath(new URL('../../../libexec/tsnet-run', import.meta.url));

interface Run {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly ready: Readable;
  readonly go: Writable;
  readonly stdout: Promise<string>;
  readonly stderr: Promise<string>;
  readonly exit: Promise<unknown[]>;
}

function start(...command: string[]): Run {
  const child = spawn(program, ['3', '4', '--', ...command], { stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'] });
  const [, out, err, ready, go] = child.stdio;
  if (child.pid === undefined || !out || !err || !ready || !go) throw new Error(`${program} did not start`);
  const exit = once(child, 'exit');
  const stdout = text(out as Readable);
  return {
    child,
    pid: child.pid,
    ready: ready as Readable,
    go: go as Writable,
    stdout,
    stderr: text(err as Readable),
    exit,
  };
}

async function finish(run: Run): Promise<{ code: unknown; signal: unknown; stdout: string; stderr: string }> {
  const [code, signal] = await run.exit;
  return { code, signal, stdout: await run.stdout, stderr: await run.stderr };
}

async function go(run: Run): Promise<void> {
  const [ready] = (await once(run.ready, 'data')) as [Buffer];
  if (ready.toString() !== 'r') throw new Error(`not ready: ${ready.toString('hex')}`);
  run.go.end('g');
}

t.test('the command waits for the go, in a network and a mount namespace of its own', async (t) => {
  const script =
    'readlink /proc/self/ns/net /proc/self/ns/mnt; echo $$; for fd in 3 4; do test -e /proc/$$/fd/$fd && echo open; done; exit 7';
  const run = start('sh', '-c', script);
  await once(run.ready, 'data');
  const namespace = readlinkSync(`/proc/${run.pid}/ns/net`);
  t.not(namespace, readlinkSync('/proc/self/ns/net'));
  t.same(linkNames(`/proc/${run.pid}/ns/net`), ['lo']);
  t.not((await native.netnsCookies([{ pid: run.pid }]))[0], native.netnsOwnCookie());
  t.equal(readlinkSync(`/proc/${run.pid}/exe`), program, 'not started yet');
  t.match(readFileSync(`/proc/${run.pid}/mountinfo`, 'utf8'), /^\S+ \S+ \S+ \/ \/ \S+ (master:\d+ )?- /m);
  t.notMatch(readFileSync(`/proc/${run.pid}/mountinfo`, 'utf8'), 'shared:');
  run.go.end('g');
  const { code, stdout, stderr } = await finish(run);
  const [net, mnt, pid, ...open] = stdout.split('\n');
  t.equal(net, namespace);
  t.not(mnt, readlinkSync('/proc/self/ns/mnt'));
  t.equal(Number(pid), run.pid, 'the pid stays');
  t.same(open, [''], 'the two descriptors are closed');
  t.equal(stderr, '');
  t.equal(code, 7);
});

t.test('a go that never comes is exit 125 without a word', async (t) => {
  const run = start('sh', '-c', 'echo started');
  await once(run.ready, 'data');
  run.go.end();
  t.same(await finish(run), { code: 125, signal: null, stdout: '', stderr: '' });
});

t.test('signals reach the command, while it waits too', async (t) => {
  const waiting = start('sleep', '60');
  await once(waiting.ready, 'data');
  waiting.child.kill('SIGINT');
  t.match(await finish(waiting), { code: null, signal: 'SIGINT' });
  const running = start('sh', '-c', 'trap "exit 9" TERM; echo ready; while :; do sleep 0.02; done');
  await go(running);
  t.teardown(() => running.child.kill('SIGKILL'));
  if (running.child.stdout) await once(running.child.stdout, 'data');
  running.child.kill('SIGTERM');
  t.match(await finish(running), { code: 9, signal: null });
});

t.test('no signal is ignored or blocked when the command starts', async (t) => {
  const run = start('grep', '-E', '^Sig(Ign|Blk)', '/proc/self/status');
  await go(run);
  t.match(await finish(run), { code: 0, stdout: 'SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n' });
});

t.test('a command that is missing is exit 127, one that cannot be executed 126', async (t) => {
  const missing = start('no-such-command');
  await go(missing);
  t.match(await finish(missing), {
    code: 127,
    stderr: 'tsnet-run: exec no-such-command: No such file or directory\n',
  });
  const plain = start('/etc/passwd');
  await go(plain);
  t.match(await finish(plain), { code: 126, stderr: 'tsnet-run: exec /etc/passwd: Permission denied\n' });
});

t.test('wrong arguments are exit 125 with the usage or the descriptor', async (t) => {
  t.ok(existsSync(program));
  const cases: [string[], RegExp][] = [
    [[], /^usage: /],
    [['3', '4', 'true'], /^usage: /],
    [['3', '4', '--'], /^usage: /],
    [['x', '4', '--', 'true'], /not an open descriptor.*: x/],
    [['1', '4', '--', 'true'], /not an open descriptor.*: 1/],
    [['99', '4', '--', 'true'], /not an open descriptor.*: 99/],
  ];
  for (const [args, expected] of cases) {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const [stderr, exit] = await Promise.all([text(child.stderr), once(child, 'exit')]);
    t.match(stderr, expected);
    t.equal(exit[0], 125);
  }
});
