import t from 'tap';
import { EtcdClient, EtcdFault } from '../../lib/etcd/client.js';
import { transact } from '../../lib/etcd/txn.js';
import { newCuttingProxy } from './cutting-proxy.js';
import { isWithin, newEtcd, until, type RealEtcd } from './real-etcd.js';

t.setTimeout(120_000);

void t.test('transactions over a real etcd', async (t) => {
  const etcd: RealEtcd = await newEtcd();
  t.teardown(() => etcd.remove());
  const client = new EtcdClient({ endpoints: [etcd.endpoint] });
  t.teardown(() => client.close());
  const read = async (key: string): Promise<string | undefined> => (await client.get(key))?.value.toString();

  await t.test('concurrent decisions on one key lose nothing', async (t) => {
    const add = (): Promise<unknown> =>
      transact(
        client,
        async (txn) => {
          const kv = await txn.get('/counter');
          txn.put('/counter', String(Number(kv?.value.toString() ?? '0') + 1));
        },
        { what: 'counter', attempts: 200 },
      );
    await Promise.all(Array.from({ length: 20 }, add));
    t.equal(await read('/counter'), '20');
  });

  await t.test('all reads of an attempt are of one revision', async (t) => {
    await client.txn([], [{ request_put: { key: Buffer.from('/pair/a'), value: Buffer.from('1') } }]);
    const { result } = await transact(
      client,
      async (txn) => {
        const a = (await txn.get('/pair/a'))?.value.toString();
        await client.txn([], [{ request_put: { key: Buffer.from('/pair/b'), value: Buffer.from('late') } }]);
        return { a, b: await txn.get('/pair/b'), list: (await txn.list('/pair/')).length };
      },
      { what: 'pair' },
    );
    t.same(result, { a: '1', b: undefined, list: 1 });
  });

  await t.test('a decision sees what it wrote itself', async (t) => {
    await transact(
      client,
      async (txn) => {
        txn.put('/own/a', 'mine');
        t.equal((await txn.get('/own/a'))?.value.toString(), 'mine');
        txn.delete('/own/a');
        t.equal(await txn.get('/own/a'), undefined);
      },
      { what: 'own' },
    );
    t.equal(await read('/own/a'), undefined);
  });

  await t.test('gives up with ERR_STORE_CONFLICT when always late', async (t) => {
    let round = 0;
    const losing = transact(
      client,
      async (txn) => {
        await txn.get('/race');
        await client.txn(
          [],
          [{ request_put: { key: Buffer.from('/race'), value: Buffer.from(String((round += 1))) } }],
        );
        txn.put('/race', 'lost');
      },
      { what: 'race', attempts: 3 },
    );
    await t.rejects(losing, { code: 'ERR_STORE_CONFLICT', message: /race/ });
    t.equal(round, 3);
    t.equal(await read('/race'), '3');
  });

  await t.test('a prefix that must be empty is compared at the commit', async (t) => {
    let isFirst = true;
    const { result } = await transact(
      client,
      async (txn) => {
        const count = (await txn.list('/empty/')).length;
        if (count > 0) return count;
        txn.expectEmpty('/empty/');
        txn.put('/emptied', 'yes');
        if (isFirst) await client.txn([], [{ request_put: { key: Buffer.from('/empty/1'), value: Buffer.from('x') } }]);
        isFirst = false;
        return count;
      },
      { what: 'empty' },
    );
    t.equal(result, 1, 'decided again on what came in between');
    t.equal(await read('/emptied'), undefined);
    const done = await transact(client, async (txn) => (txn.expectEmpty('/none/'), txn.put('/emptied', 'yes')), {
      what: 'empty',
    });
    t.ok(done.revision > 0);
    t.equal(await read('/emptied'), 'yes');
  });

  await t.test('refuses what etcd would not take: more than 128 operations', async (t) => {
    const large = transact(
      client,
      (txn) => {
        for (let index = 0; index < 129; index += 1) txn.put(`/many/${index}`, 'x');
      },
      { what: 'many' },
    );
    await t.rejects(large, { code: 'ERR_INTERNAL' });
    t.equal((await client.list('/many/')).kvs.length, 0);
  });

  await t.test('a commit whose answer was lost is found out to have happened', async (t) => {
    const proxy = await newCuttingProxy(etcd.port);
    t.teardown(() => proxy.remove());
    const far = new EtcdClient({ endpoints: [`http://127.0.0.1:${proxy.port}`] });
    t.teardown(() => far.close());
    const before = await far.revision();
    let decisions = 0;
    const done = transact(
      far,
      async (txn) => {
        decisions += 1;
        await txn.get('/unheard');
        txn.put('/unheard', 'done');
        proxy.isMute = true;
      },
      { what: 'unheard' },
    );
    await until(async () => (await read('/unheard')) === 'done', 30_000, 'committed');
    proxy.isMute = false;
    proxy.cutNow();
    t.equal((await done).revision, before + 1);
    t.equal(decisions, 1);
  });

  await t.test('a store that does not answer is ERR_STORE_UNREACHABLE within the deadline', async (t) => {
    const impatient = new EtcdClient({ endpoints: [etcd.endpoint], deadlineMs: 300 });
    t.teardown(() => impatient.close());
    await impatient.revision();
    etcd.freeze();
    t.teardown(() => etcd.thaw());
    const asked = impatient.get('/x').catch((thrown: unknown) => thrown);
    t.ok(await isWithin(2000, asked), 'within the deadline');
    const error: unknown = await asked;
    etcd.thaw();
    t.ok(error instanceof EtcdFault);
    t.match(error, { code: 'ERR_STORE_UNREACHABLE', reason: 'deadline' });
  });

  await t.test('a list longer than a page is complete and of one revision', async (t) => {
    for (let at = 0; at < 5000; at += 100) {
      await client.txn(
        [],
        Array.from({ length: 100 }, (_none, index) => ({
          request_put: { key: Buffer.from(`/pages/${at + index}`), value: Buffer.from('x') },
        })),
      );
    }
    const { kvs } = await client.list('/pages/');
    t.equal(new Set(kvs.map(({ key }) => key)).size, 5000);
  });
});
