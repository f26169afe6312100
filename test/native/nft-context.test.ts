import { execFileSync } from 'node:child_process';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';

import type { NetnsRef } from '../../native/api.js';
import { native, openDescriptors, threadNames, until, withNetns } from './fixtures.js';

function nft(path: string, ...args: string[]): string {
  return execFileSync('nsenter', [`--net=${path}`, 'nft', ...args], { encoding: 'utf8' });
}

const done = { rc: 0, output: '', error: '' };

t.test('a table is added, listed and deleted in its namespace only', async (t) => {
  const [path, other] = [await withNetns(t), await withNetns(t)];
  const context = await native.nftOpen({ path });
  t.teardown(() => context.close());
  const commands = 'add table inet tsnet; add set inet tsnet s { type ipv4_addr; elements = { 198.18.0.1 }; }';
  t.same(await context.run(commands), done);
  t.match(nft(path, 'list', 'ruleset'), 'table inet tsnet');
  t.equal(nft(other, 'list', 'ruleset'), '');
  t.match((await context.run('list ruleset')).output, 'elements = { 198.18.0.1 }');
  t.notMatch((await context.run('list ruleset', { terse: true })).output, '198.18.0.1');
  t.match((await context.run('list ruleset', { handles: true })).output, /# handle \d+/);
  t.notMatch((await context.run('list ruleset')).output, '# handle', 'options last for one run');
  const listed = JSON.parse((await context.run('list tables', { json: true })).output) as { nftables: object[] };
  t.match(listed.nftables[1], { table: { family: 'inet', name: 'tsnet' } });
  t.same(await context.run('delete table inet tsnet'), done);
  t.equal(nft(path, 'list', 'ruleset'), '');
});

t.test('text that starts with a brace is JSON', async (t) => {
  const path = await withNetns(t);
  const context = await native.nftOpen({ path });
  t.teardown(() => context.close());
  const command = { nftables: [{ add: { table: { family: 'inet', name: 'from-json' } } }] };
  t.same(await context.run(` \n${JSON.stringify(command)}`), done);
  t.match(nft(path, 'list', 'tables'), 'table inet from-json');
});

t.test('a failed run reports the library text and changes nothing', async (t) => {
  const path = await withNetns(t);
  const context = await native.nftOpen({ path });
  t.teardown(() => context.close());
  const syntax = await context.run('add tabel inet x');
  t.not(syntax.rc, 0);
  t.match(syntax.error, 'syntax error');
  const half = await context.run('add table inet x; add rule inet nowhere c accept');
  t.not(half.rc, 0);
  t.match(half.error, 'No such file or directory');
  t.not((await context.run('{ "nftables": [ { "add": 5 } ] }')).rc, 0);
  t.not((await context.run('{ not json')).rc, 0);
  t.equal(nft(path, 'list', 'ruleset'), '');
  t.same(await context.run('add table inet x'), done, 'and the next run starts clean');
});

t.test('runs are executed in order, and close waits for them', async (t) => {
  const path = await withNetns(t);
  const context = await native.nftOpen({ path });
  const order: number[] = [];
  const runs = Array.from({ length: 40 }, (_, index) =>
    context.run(index % 2 === 0 ? 'add table inet flip' : 'delete table inet flip').then((result) => {
      t.same(result, done);
      order.push(index);
    }),
  );
  const closes = [context.close().then(() => order.push(-1)), context.close()];
  await t.rejects(context.run('list ruleset'), { code: 'EBADF' });
  await Promise.all([...runs, ...closes]);
  t.same(order, [...Array(40).keys(), -1]);
  await context.close();
  await t.rejects(context.run('list ruleset'), { code: 'EBADF' });
});

t.test('contexts of several namespaces work at the same time', async (t) => {
  const paths = await Promise.all(Array.from({ length: 4 }, () => withNetns(t)));
  const contexts = await Promise.all(paths.map((path) => native.nftOpen({ path })));
  const runs = contexts.flatMap((context, at) =>
    Array.from({ length: 20 }, (_, index) => context.run(`add table ip n${at}t${index}`)),
  );
  for (const result of await Promise.all(runs)) t.same(result, done);
  await Promise.all(contexts.map((context) => context.close()));
  for (const [at, path] of paths.entries()) {
    const tables = nft(path, 'list', 'tables').trim().split('\n').sort();
    t.same(tables, Array.from({ length: 20 }, (_, index) => `table ip n${at}t${index}`).sort());
  }
});

t.test('garbage is a TypeError, and a missing namespace is ENOENT', async (t) => {
  const path = await withNetns(t);
  const context = await native.nftOpen({ path });
  t.teardown(() => context.close());
  for (const commands of [undefined, '', 5, {}, 'a\0b'] as string[]) {
    await t.rejects(context.run(commands), { name: 'TypeError' });
  }
  for (const options of [null, 5, { json: 1 }, { terse: 'x' }] as object[]) {
    await t.rejects(context.run('list ruleset', options), { name: 'TypeError' });
  }
  await t.rejects(native.nftOpen('x' as unknown as NetnsRef), { name: 'TypeError' });
  await t.rejects(native.nftOpen({ path: '/run/netns/none-such' }), { code: 'ENOENT' });
});

t.test('contexts leave no descriptor and no thread, closed or forgotten', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const path = await withNetns(t);
  await (await native.nftOpen({ path })).close();
  const descriptors = openDescriptors();
  // A function of its own, since a suspended one keeps its variables.
  const use = async (close: boolean): Promise<void> => {
    const context = await native.nftOpen({ path });
    await context.run('list ruleset');
    if (close) await context.close();
  };
  for (let round = 0; round < 20; round += 1) await use(round % 2 === 0);
  await until('the threads to end', () => {
    collect();
    return threadNames().filter((name) => name === 'tsnet-nft').length === 0;
  });
  t.same(openDescriptors(), descriptors);
});
