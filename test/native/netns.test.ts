import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';

import type { NetnsRef } from '../../native/api.js';
import { native, newNetnsPath, openDescriptors, threadNames, until, withNetns } from './fixtures.js';

t.test('a namespace is made as ip does it, and ip can list and delete it', async (t) => {
  const path = newNetnsPath();
  const name = path.slice('/run/netns/'.length);
  await native.netnsCreate(path);
  t.equal(statSync(path).mode & 0o777, 0o444);
  t.match(execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }), name);
  t.match(readFileSync('/proc/self/mountinfo', 'utf8'), / \/run\/netns \/run\/netns \S+ shared:/);
  execFileSync('ip', ['netns', 'delete', name]);
  t.equal(existsSync(path), false);
  await t.rejects(native.netnsDelete(path), { code: 'ENOENT' });
});

t.test('a namespace made by ip is opened and deleted', async (t) => {
  const path = newNetnsPath();
  execFileSync('ip', ['netns', 'add', path.slice('/run/netns/'.length)]);
  (await native.netnsOpen({ path })).close();
  await native.netnsDelete(path);
  t.equal(existsSync(path), false);
});

t.test('creating over an existing name is EEXIST and leaves it alone', async (t) => {
  const path = await withNetns(t);
  const [before] = await native.netnsCookies([{ path }]);
  await t.rejects(native.netnsCreate(path), { code: 'EEXIST' });
  t.same(await native.netnsCookies([{ path }]), [before]);
});

t.test('missing folders are made, and only /run/netns becomes a mount', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-netns-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'a/b/name');
  await native.netnsCreate(path);
  t.type((await native.netnsCookies([{ path }]))[0], 'bigint');
  await native.netnsDelete(path);
  t.equal(existsSync(path), false);
  t.notMatch(readFileSync('/proc/self/mountinfo', 'utf8'), folder);
});

t.test('cookies are unique, also where an inode number is used again', async (t) => {
  const own = native.netnsOwnCookie();
  const cookies = new Set<bigint>([own]);
  for (let round = 0; round < 20; round += 1) {
    const path = newNetnsPath();
    await native.netnsCreate(path);
    const opened = await native.netnsOpen({ path });
    t.notOk(cookies.has(opened.cookie));
    cookies.add(opened.cookie);
    t.same(await native.netnsCookies([{ fd: opened.fd }]), [opened.cookie]);
    opened.close();
    await native.netnsDelete(path);
  }
});

t.test('cookies of many are read in one call, with an errno name for those that cannot be', async (t) => {
  const path = await withNetns(t);
  const refs: NetnsRef[] = [{ path }, { pid: process.pid }, { path: '/none' }, { path: '/etc/passwd' }, { path }];
  const cookies = await native.netnsCookies(refs);
  t.type(cookies[0], 'bigint');
  t.same(cookies, [cookies[0], native.netnsOwnCookie(), 'ENOENT', 'EINVAL', cookies[0]]);
  t.same(await native.netnsCookies([]), []);
});

t.test('a process is a way to its namespace', async (t) => {
  const child = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const { pid } = child;
  if (pid === undefined) throw new Error('unshare did not start');
  child.stdin.write('up\n');
  await once(child.stdout, 'data');
  const opened = await native.netnsOpen({ pid });
  t.not(opened.cookie, native.netnsOwnCookie());
  t.equal(readlinkSync(`/proc/self/fd/${opened.fd}`), readlinkSync(`/proc/${pid}/ns/net`));
  opened.close();
  child.stdin.end();
  await once(child, 'exit');
  await t.rejects(native.netnsOpen({ pid }), { code: 'ENOENT', syscall: `open /proc/${pid}/ns/net` });
});

t.test('closing twice is harmless, and a closed handle shows no descriptor', async (t) => {
  const path = await withNetns(t);
  const opened = await native.netnsOpen({ path });
  t.ok(opened.fd > 2);
  t.match(readFileSync(`/proc/self/fdinfo/${opened.fd}`, 'utf8'), /flags:\s+02\d+/, 'close-on-exec');
  opened.close();
  opened.close();
  t.equal(opened.fd, -1);
});

t.test('deleting refuses what is no namespace', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-netns-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = await withNetns(t);
  const file = join(folder, 'file');
  writeFileSync(file, 'precious');
  symlinkSync(path, join(folder, 'link'));
  await t.rejects(native.netnsDelete(file), { code: 'EINVAL' });
  await t.rejects(native.netnsDelete(join(folder, 'link')), { code: 'EINVAL' });
  await t.rejects(native.netnsDelete(folder), { code: 'EINVAL' });
  t.equal(readFileSync(file, 'utf8'), 'precious');
  t.type((await native.netnsCookies([{ path }]))[0], 'bigint');
  writeFileSync(join(folder, 'stale'), '');
  await native.netnsDelete(join(folder, 'stale'));
  t.equal(existsSync(join(folder, 'stale')), false, 'the empty file of an unbound name goes');
});

t.test('garbage is a TypeError', async (t) => {
  for (const path of [undefined, 5, '', 'relative', '/a\0b', '/run/netns/'] as string[]) {
    await t.rejects(native.netnsCreate(path), { name: 'TypeError' });
    await t.rejects(native.netnsDelete(path), { name: 'TypeError' });
  }
  for (const ref of [undefined, null, 'x', {}, { pid: 'x' }, { fd: 1.5 }, { path: 1 }, { pid: 1, fd: 1 }]) {
    await t.rejects(native.netnsOpen(ref as NetnsRef), { name: 'TypeError' });
    await t.rejects(native.netnsCookies([ref] as NetnsRef[]), { name: 'TypeError' });
  }
  await t.rejects(native.netnsCookies('x' as unknown as NetnsRef[]), { name: 'TypeError' });
  await t.rejects(native.netnsOpen({ fd: 19_999 }), { code: 'EBADF', syscall: 'dup 19999' });
});

t.test('sysctls are each namespace’s own, however many are written at a time', async (t) => {
  const paths = await Promise.all(Array.from({ length: 8 }, () => withNetns(t)));
  const key = 'net/ipv6/conf/lo/accept_ra_defrtr';
  const open = openDescriptors().length;
  for (let round = 0; round < 40; round += 1) {
    const values = paths.map((_path, index) => String((round + index) % 2));
    await Promise.all(paths.map((path, index) => native.sysctlWrite(key, values[index] ?? '', { path })));
    t.same(await Promise.all(paths.map((path) => native.sysctlRead(key, { path }))), values);
  }
  // What they are looked up in is replaced now and then, and closed in the background.
  await until('all but the last to be closed', () => openDescriptors().length <= open + 1);
});

t.test('sysctls are read and written in the namespace asked for', async (t) => {
  const path = await withNetns(t);
  const own = await native.sysctlRead('net/ipv4/ip_default_ttl');
  await native.sysctlWrite('net/ipv4/ip_default_ttl', '77', { path });
  t.equal(await native.sysctlRead('net/ipv4/ip_default_ttl', { path }), '77');
  t.equal(await native.sysctlRead('net/ipv4/ip_default_ttl'), own);
  await t.rejects(native.sysctlRead('net/none', { path }), { code: 'ENOENT' });
  await t.rejects(native.sysctlWrite('net/ipv4/ip_default_ttl', 'x', { path }), { code: 'EINVAL' });
  for (const wrong of ['', '/net', 'net/../kernel', '.', 'net/', 5, undefined] as string[]) {
    await t.rejects(native.sysctlRead(wrong, { path }), { name: 'TypeError' });
    await t.rejects(native.sysctlWrite(wrong, '1', { path }), { name: 'TypeError' });
  }
});

t.test('handles that nobody closes are closed by the garbage collector', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const path = await withNetns(t);
  (await native.netnsOpen({ path })).close();
  const before = openDescriptors().length;
  await Promise.all(Array.from({ length: 100 }, () => native.netnsOpen({ path }).then(() => undefined)));
  await until('the descriptors to be closed', () => {
    collect();
    return openDescriptors().length <= before;
  });
});

t.test('two hundred handles opened and closed leave no descriptor and no thread', async (t) => {
  const path = await withNetns(t);
  (await native.netnsOpen({ path })).close();
  const descriptors = openDescriptors();
  for (let round = 0; round < 10; round += 1) {
    const opened = await Promise.all(Array.from({ length: 20 }, () => native.netnsOpen({ path })));
    for (const netns of opened) netns.close();
    await t.rejects(native.netnsOpen({ path: '/etc/passwd' }), { code: 'EINVAL' });
  }
  await until('the threads to end', () => threadNames().length === 0);
  t.same(openDescriptors(), descriptors);
});

t.test('a namespace opened at once, without entering it, has the cookie that entering it shows', async (t) => {
  const paths = [await withNetns(t), await withNetns(t), await withNetns(t)];
  const entered = await native.netnsCookies(paths.map((path) => ({ path })));
  for (const [index, path] of paths.entries()) {
    const handle = await native.netnsOpen({ path });
    t.equal(handle.cookie, entered[index]);
    handle.close();
  }
  await t.rejects(native.netnsOpen({ path: '/proc/self/ns/mnt' }), { code: 'EINVAL' }, 'another kind of namespace');
  await t.rejects(native.netnsOpen({ path: '/run' }), { code: 'EINVAL' }, 'no namespace at all');
});
