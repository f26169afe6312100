import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, readFileSync, readlinkSync } from 'node:fs';
import t from 'tap';

import { native, openDescriptors, until } from './fixtures.js';

function startCat(): { readonly child: ReturnType<typeof spawn>; readonly pid: number } {
  const child = spawn('cat', { stdio: ['pipe', 'ignore', 'inherit'] });
  if (child.pid === undefined) throw new Error('cat did not start');
  return { child, pid: child.pid };
}

t.test('the end of a process is told once', async (t) => {
  const { child, pid } = startCat();
  t.teardown(() => child.kill('SIGKILL'));
  let exits = 0;
  const watch = native.pidfdWatch(pid, () => (exits += 1));
  t.equal(exits, 0);
  child.kill('SIGKILL');
  await once(child, 'exit');
  await until('the callback', () => exits > 0);
  watch.close();
  t.equal(exits, 1);
});

t.test('a closed watch is silent, and closing again or in the callback is harmless', async (t) => {
  const { child, pid } = startCat();
  t.teardown(() => child.kill('SIGKILL'));
  let silent = true;
  const closed = native.pidfdWatch(pid, () => (silent = false));
  let exited = false;
  const watch = native.pidfdWatch(pid, () => {
    watch.close();
    exited = true;
  });
  closed.close();
  closed.close();
  child.kill('SIGKILL');
  await until('the callback', () => exited);
  t.equal(silent, true);
});

t.test('no such process is ESRCH, and garbage is a TypeError', async (t) => {
  const { child, pid } = startCat();
  child.kill('SIGKILL');
  await once(child, 'exit');
  t.throws(() => native.pidfdWatch(pid, () => undefined), { code: 'ESRCH', syscall: `pidfd_open ${pid}` });
  for (const wrong of [undefined, 0, -1, 1.5, 'x', NaN] as number[]) {
    t.throws(() => native.pidfdWatch(wrong, () => undefined), { name: 'TypeError' });
  }
  t.throws(() => native.pidfdWatch(process.pid, undefined as unknown as () => void), { name: 'TypeError' });
});

t.test('two hundred watches leave no descriptor', (t) => {
  native.pidfdWatch(process.pid, () => undefined).close();
  const descriptors = openDescriptors();
  const watches = Array.from({ length: 200 }, () => native.pidfdWatch(process.pid, () => undefined));
  t.equal(openDescriptors().length, descriptors.length + 200);
  for (const watch of watches) watch.close();
  t.same(openDescriptors(), descriptors);
  t.end();
});

t.test('a descriptor of another process is had as our own', async (t) => {
  const { child, pid } = startCat();
  t.teardown(() => child.kill('SIGKILL'));
  const descriptors = openDescriptors();
  const fd = native.pidfdGetfd(pid, 0);
  t.equal(openDescriptors().length, descriptors.length + 1);
  t.equal(readlinkSync(`/proc/self/fd/${fd}`), readlinkSync(`/proc/${pid}/fd/0`));
  t.match(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'), /^flags:\s+02/m, 'closed on exec');
  closeSync(fd);
  t.throws(() => native.pidfdGetfd(pid, 4000), { code: 'EBADF' });
  t.same(openDescriptors(), descriptors);
  child.kill('SIGKILL');
  await once(child, 'exit');
  t.throws(() => native.pidfdGetfd(pid, 0), { code: 'ESRCH', syscall: `pidfd_open ${pid}` });
  t.throws(() => native.pidfdGetfd(process.pid, -1), { name: 'TypeError' });
});
