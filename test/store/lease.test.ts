import t from 'tap';
import { EtcdClient } from '../../lib/etcd/client.js';
import { holdLease, LeaseKeeper } from '../../lib/etcd/lease.js';
import { isWithin, newEtcd, until, type RealEtcd } from './real-etcd.js';

t.setTimeout(120_000);

void t.test('leases over a real etcd', async (t) => {
  const etcd: RealEtcd = await newEtcd();
  t.teardown(() => etcd.remove());
  const client = new EtcdClient({ endpoints: [etcd.endpoint], deadlineMs: 1000 });
  t.teardown(() => client.close());
  const keeper = new LeaseKeeper(client);
  t.teardown(() => keeper.close());

  await t.test('a kept lease outlives its lifetime; a stopped one does not', async (t) => {
    const { leaseId, ttlMs } = await keeper.grant(1000);
    await client.txn([], [{ request_put: { key: Buffer.from('/kept'), value: Buffer.from('x'), lease: leaseId } }]);
    const kept = keeper.keep(leaseId, ttlMs);
    const since = performance.now();
    await until(() => performance.now() - since > 2.5 * ttlMs, 3 * ttlMs + 1000, 'two lifetimes');
    t.ok(await client.get('/kept'), 'the key is there');
    kept.stop();
    await until(async () => (await client.get('/kept')) === undefined, 4 * ttlMs, 'the key goes with the lease');
  });

  await t.test('a revoked lease is reported gone at the next keep-alive', async (t) => {
    const { leaseId, ttlMs } = await keeper.grant(3000);
    const kept = keeper.keep(leaseId, ttlMs);
    await client.leaseRevoke(leaseId);
    t.ok(await isWithin(ttlMs, kept.lost), 'before its lifetime is over');
    t.equal(await kept.lost, 'gone');
  });

  await t.test(
    'a lease that nobody acknowledges is lost one lifetime after the last acknowledged sending',
    async (t) => {
      const { leaseId, ttlMs } = await keeper.grant(2000);
      const since = performance.now();
      const kept = keeper.keep(leaseId, ttlMs);
      await client.revision();
      etcd.freeze();
      t.teardown(() => etcd.thaw());
      t.ok(await isWithin(2 * ttlMs, kept.lost), 'after the freeze');
      t.equal(await kept.lost, 'unacknowledged');
      t.ok(performance.now() - since >= ttlMs, 'and not before');
      etcd.thaw();
    },
  );

  await t.test('a held lease that is revoked is granted anew and its keys are put again', async (t) => {
    await until(
      () =>
        client.revision().then(
          () => true,
          () => false,
        ),
      30_000,
      'etcd answers',
    );
    const attached: string[] = [];
    const events: string[] = [];
    const stopping = new AbortController();
    const held = holdLease(keeper, {
      ttlMs: 2000,
      signal: stopping.signal,
      attach: async (leaseId) => {
        await client.txn(
          [],
          [{ request_put: { key: Buffer.from('/held'), value: Buffer.from(leaseId), lease: leaseId } }],
        );
        attached.push(leaseId);
      },
      onLost: (loss) => events.push(loss),
      onRegranted: () => events.push('regranted'),
    });
    await until(() => attached.length === 1, 30_000, 'attached');
    await client.leaseRevoke(attached[0] ?? '');
    await until(() => attached.length === 2, 30_000, 'attached again');
    t.same(events, ['gone', 'regranted']);
    t.not(attached[0], attached[1]);
    t.equal((await client.get('/held'))?.lease, attached[1]);
    stopping.abort();
    await held.ended;
  });

  await t.test('a sign of life that finds a manually held lease gone brings the next lease', async (t) => {
    const attached: string[] = [];
    const stopping = new AbortController();
    const held = holdLease(keeper, {
      ttlMs: 10_000,
      manual: true,
      signal: stopping.signal,
      attach: (leaseId) => {
        attached.push(leaseId);
        return Promise.resolve();
      },
    });
    await until(() => held.leaseId !== undefined, 30_000, 'held');
    await client.leaseRevoke(attached[0] ?? '');
    held.renew();
    await until(
      () => attached.length === 2 && held.leaseId === attached[1],
      5000,
      'the next one, without another sign',
    );
    t.not(attached[1], attached[0]);
    stopping.abort();
    await held.ended;
  });

  await t.test('a lease of before that has expired is replaced before anything is put', async (t) => {
    const { leaseId } = await keeper.grant(2000);
    await client.leaseRevoke(leaseId);
    const attached: string[] = [];
    const stopping = new AbortController();
    const held = holdLease(keeper, {
      ttlMs: 2000,
      leaseId,
      signal: stopping.signal,
      attach: async (lease) => {
        await client.txn([], [{ request_put: { key: Buffer.from('/again'), value: Buffer.from('x'), lease } }]);
        attached.push(lease);
      },
    });
    await until(() => attached.length === 1, 30_000, 'attached');
    t.not(attached[0], leaseId);
    stopping.abort();
    await held.ended;
  });
});
