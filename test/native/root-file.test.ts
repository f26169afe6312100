import { execFileSync, spawn } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  existsSync,
  chmodSync,
  chownSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { once } from 'node:events';
import t, { type Test } from 'tap';

import { native, openDescriptors, threadNames, until } from './fixtures.js';

// Whose containers have users of their own, who have to come into the folders that are made for them.
process.umask(0o022);

const path = '/etc/resolv.conf';
const old = 'nameserver 198.18.0.1\n# a line that makes it longer than what comes\n';
const fresh = Buffer.from('nameserver 198.18.0.2\n');

interface Container {
  readonly pid: number;
  /** Its root folder as we see it, without what is mounted there. */
  readonly root: string;
  /** Runs a shell text inside. */
  readonly run: (text: string) => string;
  readonly end: () => Promise<void>;
}

/**
 * A process with a mount namespace and a root folder of its own, which `prepare` fills; with a
 * user id of the host's, in a user namespace whose root that is.
 */
async function startContainer(t: Test, prepare: (root: string) => void, uid = 0): Promise<Container> {
  const root = mkdtempSync(join(tmpdir(), 'tsnet-root-'));
  for (const folder of ['etc', 'bin', 'tmp', 'proc', 'run']) mkdirSync(join(root, folder));
  chmodSync(root, 0o755);
  execFileSync('cp', ['/usr/bin/busybox', join(root, 'bin/busybox')]);
  prepare(root);
  const inside = `[ ! -e /etc/over ] || /bin/busybox mount --bind /etc/over ${path}; echo up; exec /bin/busybox cat`;
  const asUser = uid === 0 ? [] : [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
  const unshare = ['unshare', '--mount', ...(uid === 0 ? [] : ['--user', '--map-root-user'])];
  const args = [...asUser, ...unshare, 'chroot', root, '/bin/busybox', 'sh', '-c', inside];
  const child = spawn('setpriv', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const { pid } = child;
  if (pid === undefined) throw new Error('setpriv did not start');
  const end = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  t.teardown(async () => {
    await end();
    rmSync(root, { recursive: true });
  });
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(() => Promise.reject(new Error('the container did not start'))),
  ]);
  const run = (text: string): string => {
    const busybox = ['/bin/busybox', 'sh', '-c', text];
    return execFileSync('nsenter', [`--target=${pid}`, '--mount', '--root', ...busybox], { encoding: 'utf8' });
  };
  return { pid, root, run, end };
}

const writeInside =
  (file: string, text: string) =>
  (root: string): void => {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), text);
  };

/** Reads, replaces and puts back; the content in between as the container has it. */
async function roundTrip(t: Test, { pid, run }: Container): Promise<string> {
  const found = await native.rootFileRead({ pid, path });
  t.equal(found.content?.toString(), old);
  const { startTime } = found;
  const written = await native.rootFileReplace({ pid, startTime, path }, { expected: found.content, content: fresh });
  t.equal(written.file, found.file, 'in place');
  const between = run(`/bin/busybox cat ${path}`);
  await native.rootFileReplace({ pid, startTime, path }, { expected: fresh, content: found.content });
  t.equal(run(`/bin/busybox cat ${path}`), old);
  return between;
}

t.test('a file is replaced in place and put back', async (t) => {
  const container = await startContainer(t, writeInside(path, old));
  t.equal(await roundTrip(t, container), fresh.toString());
});

t.test('a file that is a mount point is replaced, and what lies below it is not', async (t) => {
  const container = await startContainer(t, (root) => {
    writeInside(path, 'below\n')(root);
    writeInside('/etc/over', old)(root);
  });
  t.equal(await roundTrip(t, container), fresh.toString());
  t.equal(readFileSync(join(container.root, path), 'utf8'), 'below\n');
});

for (const [what, target] of [
  ['relative', '../run/resolv.conf'],
  ['absolute', '/run/resolv.conf'],
  ['that climbs above the root', '../../../../run/resolv.conf'],
] as const)
  t.test(`a link, ${what}, is followed inside the root`, async (t) => {
    const container = await startContainer(t, (root) => {
      writeInside('/run/resolv.conf', old)(root);
      symlinkSync(target, join(root, path));
    });
    t.equal(await roundTrip(t, container), fresh.toString());
  });

t.test('a link to a file of the host finds nothing, and writing makes it inside', async (t) => {
  const secret = mkdtempSync(join(tmpdir(), 'tsnet-outside-'));
  t.teardown(() => rmSync(secret, { recursive: true }));
  writeFileSync(join(secret, 'file'), 'outside\n');
  const { pid, root, run } = await startContainer(t, (root) => {
    mkdirSync(join(root, secret), { recursive: true });
    symlinkSync(`../../../../../..${secret}/file`, join(root, path));
  });
  t.equal((await native.rootFileRead({ pid, path })).content, null);
  await native.rootFileReplace({ pid, path }, { expected: null, content: fresh });
  t.equal(readFileSync(join(secret, 'file'), 'utf8'), 'outside\n', 'untouched');
  t.equal(readFileSync(join(root, secret, 'file'), 'utf8'), fresh.toString());
  t.equal(run(`/bin/busybox cat ${path}`), fresh.toString());
  await native.rootFileReplace({ pid, path }, { expected: fresh, content: null });
  t.notOk(existsSync(join(root, secret, 'file')));
  t.ok(existsSync(join(secret, 'file')));
});

t.test('a missing file is made and removed again; one without its folder is not', async (t) => {
  const { pid, root } = await startContainer(t, () => undefined);
  t.match(await native.rootFileRead({ pid, path }), { content: null, file: null });
  t.match(await native.rootFileReplace({ pid, path }, { expected: null, content: fresh }), { file: /^\d+:\d+$/ });
  t.equal(readFileSync(join(root, path), 'utf8'), fresh.toString());
  await native.rootFileReplace({ pid, path }, { expected: fresh, content: null });
  t.notOk(existsSync(join(root, path)));
  const elsewhere = { pid, path: '/none/resolv.conf' };
  await t.rejects(native.rootFileReplace(elsewhere, { expected: null, content: fresh }), { code: 'ENOENT' });
});

t.test('what is no file is not even opened', async (t) => {
  const makers: Readonly<Record<string, (file: string) => void>> = {
    folder: (file) => mkdirSync(file),
    fifo: (file) => execFileSync('mkfifo', [file]),
    device: (file) => execFileSync('mknod', [file, 'c', '1', '3']),
  };
  for (const [what, make] of Object.entries(makers)) {
    const { pid, end } = await startContainer(t, (root) => make(join(root, path)));
    await t.rejects(native.rootFileRead({ pid, path }), { code: 'EINVAL' }, what);
    const change = { expected: Buffer.alloc(0), content: fresh };
    await t.rejects(native.rootFileReplace({ pid, path }, change), { code: 'EINVAL' }, what);
    await end();
  }
});

t.test('switches of the kernel and links of proc are refused', async (t) => {
  const { pid, run, root } = await startContainer(t, () => undefined);
  run('/bin/busybox mount -t proc proc /proc');
  symlinkSync('/proc/sys/kernel/hostname', join(root, path));
  const before = readFileSync('/proc/sys/kernel/hostname');
  await t.rejects(native.rootFileReplace({ pid, path }, { expected: before, content: fresh }), { code: 'EOPNOTSUPP' });
  t.same(readFileSync('/proc/sys/kernel/hostname'), before);
  rmSync(join(root, path));
  symlinkSync('/proc/self/root/etc/hostname', join(root, path));
  await t.rejects(native.rootFileRead({ pid, path }), { code: 'ELOOP' });
  rmSync(join(root, path));
  symlinkSync('resolv.conf', join(root, path));
  await t.rejects(native.rootFileRead({ pid, path }), { code: 'ELOOP' }, 'a link to itself');
});

t.test('sizes are bounded', async (t) => {
  const { pid, root } = await startContainer(t, writeInside(path, 'x'.repeat(65_537)));
  await t.rejects(native.rootFileRead({ pid, path }), { code: 'EFBIG' });
  writeFileSync(join(root, path), 'x'.repeat(65_536));
  t.equal((await native.rootFileRead({ pid, path })).content?.length, 65_536);
  const change = { expected: null, content: Buffer.alloc(65_537) };
  await t.rejects(native.rootFileReplace({ pid, path }, change), { code: 'EFBIG' });
});

t.test('a file that has changed since is left as it is', async (t) => {
  const { pid, root } = await startContainer(t, writeInside(path, 'theirs\n'));
  for (const expected of [Buffer.from(old), null]) {
    await t.rejects(native.rootFileReplace({ pid, path }, { expected, content: fresh }), { code: 'ESTALE' });
  }
  t.equal(readFileSync(join(root, path), 'utf8'), 'theirs\n');
});

t.test('files of the host are refused where a container has them too', async (t) => {
  const { pid, root } = await startContainer(t, writeInside(path, old));
  const own = { pid, path, apartFrom: ['/no/such/file', join(root, path)] };
  await t.rejects(native.rootFileRead(own), { code: 'EXDEV' });
  rmSync(join(root, path));
  await t.rejects(native.rootFileReplace(own, { expected: null, content: fresh }), { code: 'EXDEV' }, 'or beside them');
  t.notOk(existsSync(join(root, path)));
});

t.test('a file is reached with the rights of the container, not with ours', async (t) => {
  const others = (root: string): void => {
    writeInside(path, old)(root);
    // Root without a capability, as it is used inside, may not pass over the mode of another's file.
    chownSync(join(root, path), 1234, 1234);
    chmodSync(join(root, path), 0o600);
  };
  const plain = await startContainer(t, others);
  await t.rejects(native.rootFileRead({ pid: plain.pid, path }), { code: 'EACCES' });
  const ofHost = await startContainer(
    t,
    (root) => {
      writeInside(path, old)(root);
      chmodSync(join(root, path), 0o644);
    },
    100_000,
  );
  const found = await native.rootFileRead({ pid: ofHost.pid, path });
  t.equal(found.content?.toString(), old, 'what is readable for all is read');
  const change = { expected: found.content, content: fresh };
  await t.rejects(native.rootFileReplace({ pid: ofHost.pid, path }, change), { code: 'EACCES' }, "root's on the host");
  chownSync(join(ofHost.root, path), 100_000, 100_000);
  await native.rootFileReplace({ pid: ofHost.pid, path }, change);
  t.equal(readFileSync(join(ofHost.root, path), 'utf8'), fresh.toString(), "the container's own");
});

t.test('a process that has gone, or is another one, is ESRCH', async (t) => {
  const { pid, end } = await startContainer(t, writeInside(path, old));
  const { startTime } = await native.rootFileRead({ pid, path });
  t.match(startTime, /^\d+$/);
  await t.rejects(native.rootFileRead({ pid, path, startTime: '1' }), { code: 'ESRCH' });
  await end();
  await t.rejects(native.rootFileRead({ pid, path }), { code: 'ESRCH' });
});

t.test('garbage is a TypeError', async (t) => {
  const { pid } = process;
  for (const wrong of [undefined, {}, { pid }, { pid, path: 'etc' }, { pid: 0, path }, { pid, path, apartFrom: 1 }]) {
    await t.rejects(native.rootFileRead(wrong as never), { name: 'TypeError' });
    await t.rejects(native.rootFileReplace(wrong as never, { expected: null, content: null }), { name: 'TypeError' });
  }
  const change = { expected: 'x', content: null };
  await t.rejects(native.rootFileReplace({ pid, path }, change as never), { name: 'TypeError' });
});

t.test('the process keeps its rights, and no descriptor or thread stays', async (t) => {
  const { pid } = await startContainer(t, writeInside(path, old));
  await native.rootFileRead({ pid, path });
  const rights = (): string[] =>
    readFileSync('/proc/thread-self/status', 'utf8').match(/^(Uid|Gid|Cap\w+):.*$/gm) ?? [];
  const [before, descriptors] = [rights(), openDescriptors()];
  for (let round = 0; round < 50; round += 1) await native.rootFileRead({ pid, path });
  t.same(rights(), before);
  t.same(openDescriptors(), descriptors);
  // Tasks that come later on the same threads need all rights.
  t.equal(typeof (await native.netnsCookies([{ pid }]))[0], 'bigint');
  await until('idle threads to end', () => threadNames().length === 0);
});
