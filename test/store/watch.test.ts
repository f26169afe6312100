import t from 'tap';
import { EtcdClient } from '../../lib/etcd/client.js';
import { watchPrefix, type WatchBatch, type WatchOutcome } from '../../lib/etcd/watch.js';
import { newCuttingProxy } from './cutting-proxy.js';
import { newEtcd, until, type RealEtcd } from './real-etcd.js';

interface Watching {
  readonly batches: WatchBatch[];
  readonly revisions: () => number[];
  readonly states: string[];
  readonly outcome: Promise<WatchOutcome>;
  readonly stop: () => void;
}

function watch(client: EtcdClient, prefix: string, fromRevision: number): Watching {
  const stopping = new AbortController();
  const batches: WatchBatch[] = [];
  const states: string[] = [];
  const outcome = watchPrefix(client, {
    prefix,
    fromRevision,
    signal: stopping.signal,
    probeMs: 500,
    onBatch: (batch) => batches.push(batch),
    onConnected: () => states.push('connected'),
    onDisconnected: () => states.push('disconnected'),
  });
  const revisions = (): number[] =>
    batches.flatMap(({ events }) =>
      events.map((event) => (event.type === 'put' ? event.kv.modRevision : event.modRevision)),
    );
  return { batches, revisions, states, outcome, stop: () => stopping.abort() };
}

async function putMany(
  client: EtcdClient,
  prefix: string,
  counts: { readonly from: number; readonly count: number; readonly valueBytes?: number },
): Promise<void> {
  const value = Buffer.alloc(counts.valueBytes ?? 200, 'x');
  for (let at = counts.from; at < counts.from + counts.count; at += 50) {
    await Promise.all(
      Array.from({ length: Math.min(50, counts.from + counts.count - at) }, (_none, index) =>
        client.txn([], [{ request_put: { key: Buffer.from(`${prefix}${at + index}`), value } }]),
      ),
    );
  }
}

t.setTimeout(120_000);

void t.test('a watch over a real etcd', async (t) => {
  const etcd: RealEtcd = await newEtcd();
  t.teardown(() => etcd.remove());
  const direct = new EtcdClient({ endpoints: [etcd.endpoint] });
  t.teardown(() => direct.close());

  await t.test(
    'loses and repeats nothing when connections drop in the middle of catching up with 4000 events',
    async (t) => {
      const start = await direct.revision();
      await putMany(direct, '/catchup/', { from: 0, count: 4000 });
      const proxy = await newCuttingProxy(etcd.port);
      t.teardown(() => proxy.remove());
      proxy.cutAfterBytes = 350_000;
      const client = new EtcdClient({ endpoints: [`http://127.0.0.1:${proxy.port}`] });
      t.teardown(() => client.close());
      const watching = watch(client, '/catchup/', start + 1);
      await until(() => watching.revisions().length >= 4000, 30_000, 'all events');
      const revisions = watching.revisions();
      t.ok(proxy.cuts() >= 2, `connections were cut (${proxy.cuts()} times)`);
      t.ok(watching.states.filter((state) => state === 'disconnected').length >= 2, 'breaks were reported');
      t.equal(revisions.length, 4000);
      t.equal(new Set(revisions).size, 4000, 'each once');
      t.same(
        revisions,
        [...revisions].sort((a, b) => a - b),
        'in order',
      );
      watching.stop();
      t.same(await watching.outcome, { kind: 'stopped' });
    },
  );

  await t.test('never splits a revision, also when etcd splits large answers', async (t) => {
    const start = await direct.revision();
    const value = Buffer.alloc(40_000, 'y');
    for (let round = 0; round < 6; round += 1) {
      const ops = Array.from({ length: 30 }, (_none, index) => ({
        request_put: { key: Buffer.from(`/large/${index}`), value },
      }));
      await direct.txn([], ops);
    }
    const watching = watch(direct, '/large/', start + 1);
    await until(() => watching.revisions().length >= 180, 30_000, 'all events');
    watching.stop();
    await watching.outcome;
    const seen = new Set<number>();
    for (const { events, revision } of watching.batches) {
      const own = new Set(events.map((event) => (event.type === 'put' ? event.kv.modRevision : event.modRevision)));
      for (const one of own) {
        t.notOk(seen.has(one), `revision ${one} is in one batch only`);
        seen.add(one);
      }
      t.equal(revision, Math.max(...own));
    }
    t.equal(seen.size, 6);
  });

  await t.test('is told of deletions', async (t) => {
    await putMany(direct, '/gone/', { from: 0, count: 1 });
    const start = await direct.revision();
    const watching = watch(direct, '/gone/', start + 1);
    await until(() => watching.states.includes('connected'), 30_000, 'connected');
    await direct.txn([], [{ request_delete_range: { key: Buffer.from('/gone/0') } }]);
    await until(() => watching.batches.length > 0, 30_000, 'the event');
    t.same(watching.batches[0]?.events, [{ type: 'delete', key: '/gone/0', modRevision: start + 1 }]);
    watching.stop();
    await watching.outcome;
  });

  await t.test('reports that history behind it was compacted, with the revision', async (t) => {
    const start = await direct.revision();
    await putMany(direct, '/compact/', { from: 0, count: 10 });
    const proxy = await newCuttingProxy(etcd.port);
    t.teardown(() => proxy.remove());
    const client = new EtcdClient({ endpoints: [`http://127.0.0.1:${proxy.port}`] });
    t.teardown(() => client.close());
    const watching = watch(client, '/compact/', start + 1);
    await until(() => watching.revisions().length === 10, 30_000, 'first events');
    proxy.isClosed = true;
    proxy.cutNow();
    await putMany(direct, '/compact/', { from: 10, count: 10 });
    const now = await direct.revision();
    await direct.compact(now);
    proxy.isClosed = false;
    const outcome = await watching.outcome;
    t.equal(outcome.kind, 'compacted');
    t.equal(outcome.kind === 'compacted' && outcome.compactRevision, now);
    t.equal(watching.revisions().length, 10, 'nothing after the gap was delivered');
  });

  await t.test('reports a store that is behind where it stood', async (t) => {
    const watching = watch(direct, '/future/', (await direct.revision()) + 1_000_000);
    t.equal((await watching.outcome).kind, 'future');
  });

  await t.test('asks whether it is still the same store, and holds events back until it knows', async (t) => {
    const start = await direct.revision();
    await putMany(direct, '/accept/', { from: 0, count: 3 });
    const delivered: WatchBatch[] = [];
    const outcome = await watchPrefix(direct, {
      prefix: '/accept/',
      fromRevision: start + 1,
      signal: new AbortController().signal,
      onBatch: (batch) => delivered.push(batch),
      accept: async () => {
        await direct.list('/accept/');
        return false;
      },
    });
    t.same(outcome, { kind: 'foreign' });
    t.same(delivered, []);
  });

  await t.test('notices a frozen etcd and goes on without loss when it thaws', async (t) => {
    const start = await direct.revision();
    const watching = watch(direct, '/frozen/', start + 1);
    await putMany(direct, '/frozen/', { from: 0, count: 20 });
    await until(() => watching.revisions().length === 20, 30_000, 'first events');
    etcd.freeze();
    t.teardown(() => etcd.thaw());
    await until(() => watching.states.includes('disconnected'), 30_000, 'silence noticed');
    etcd.thaw();
    await until(
      () =>
        putMany(direct, '/frozen/', { from: 20, count: 20 }).then(
          () => true,
          () => false,
        ),
      30_000,
      'etcd takes writes again',
    );
    await until(() => watching.revisions().length >= 40, 30_000, 'later events');
    const revisions = watching.revisions();
    t.equal(new Set(revisions).size, revisions.length, 'each once');
    watching.stop();
    await watching.outcome;
  });

  await t.test('goes on without loss after etcd was killed and started again', async (t) => {
    const start = await direct.revision();
    const watching = watch(direct, '/restart/', start + 1);
    await putMany(direct, '/restart/', { from: 0, count: 20 });
    await until(() => watching.revisions().length === 20, 30_000, 'first events');
    await etcd.kill();
    await until(() => watching.states.includes('disconnected'), 30_000, 'the break');
    await etcd.start();
    await putMany(direct, '/restart/', { from: 20, count: 20 });
    await until(() => watching.revisions().length === 40, 30_000, 'later events');
    t.equal(new Set(watching.revisions()).size, 40);
    watching.stop();
    await watching.outcome;
  });
});
