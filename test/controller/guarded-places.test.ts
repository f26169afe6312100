import t, { type Test } from 'tap';
import { PlaceKeeper } from '../../controller/guarded-places.js';
import { Mirror } from '../../controller/mirror.js';
import type { GuardedPlaces } from '../../controller/store/controllers.js';
import { controllersPrefix, settingsKey } from '../../core/keys.js';
import type { ClusterSettings } from '../../core/model.js';
import { EtcdClient } from '../../lib/etcd/client.js';
import { LeaseKeeper } from '../../lib/etcd/lease.js';
import { transact } from '../../lib/etcd/txn.js';
import { newLogger } from '../../lib/log.js';
import { until } from '../store/real-etcd.js';
import { newTestEtcd } from './running-controller.js';

const log = newLogger('controller', 'silent');
const settings = { vxlanPort: 4789, livenessMs: 4000, hostsManageNetworks: true };
const place = (port: number): GuardedPlaces[number] => ({ address: '198.18.0.2', port });
const etcdPlace = place(2379);
/** Etcd's least lease is shorter. */
const keepMs = 3000;

interface Running {
  readonly places: PlaceKeeper;
  readonly own: { now: GuardedPlaces };
  /** Ends it as a crash would: nothing is taken back. */
  readonly end: () => Promise<void>;
}

/** As much of a controller as has to do with places. */
async function newPlaces(t: Test, endpoint: string, id: string, first: GuardedPlaces): Promise<Running> {
  const client = new EtcdClient({ endpoints: [endpoint] });
  const keeper = new LeaseKeeper(client);
  const own = { now: first };
  const stopping = new AbortController();
  const mirror: Mirror = new Mirror({ client, log, signal: stopping.signal, prepare: () => places.prepare() });
  const places = new PlaceKeeper({
    id,
    ownPlaces: () => Promise.resolve(own.now),
    settings,
    client,
    keeper,
    mirror,
    keepMs,
    log,
  });
  const running = mirror.run();
  let isOver = false;
  const end = async (): Promise<void> => {
    if (isOver) return;
    isOver = true;
    stopping.abort();
    await places.close();
    await running;
    keeper.close();
    client.close();
  };
  t.teardown(end);
  await until(() => mirror.isConnected, 30_000, 'the mirror is connected');
  return { places, own, end };
}

interface Store {
  readonly client: EtcdClient;
  /** Ports that are guarded. */
  readonly ports: () => Promise<number[]>;
  /** Ids of records, and the ports that each names. */
  readonly named: () => Promise<Record<string, number[]>>;
}

function newStore(t: Test, endpoint: string): Store {
  const client = new EtcdClient({ endpoints: [endpoint] });
  t.teardown(() => client.close());
  return {
    client,
    ports: async () => {
      const kv = await client.get(settingsKey);
      const held = kv === undefined ? {} : (JSON.parse(kv.value.toString()) as Partial<ClusterSettings>);
      return (held.guarded ?? []).map(({ port }) => port).sort();
    },
    named: async () => {
      const { kvs } = await client.list(controllersPrefix);
      return Object.fromEntries(
        kvs.map(({ key, value }) => {
          const { places } = JSON.parse(value.toString()) as { places: GuardedPlaces };
          return [key.slice(controllersPrefix.length).replace(/^left-.*/, 'left'), places.map(({ port }) => port)];
        }),
      );
    },
  };
}

const soon = (what: string, condition: () => Promise<boolean>): Promise<void> => until(condition, 30_000, what);

t.test('places of a controller that is gone for long go, those that another names stay', async (t) => {
  const etcd = await newTestEtcd(t);
  const store = newStore(t, etcd.endpoint);
  const one = await newPlaces(t, etcd.endpoint, 'one', [place(7421), etcdPlace]);
  await newPlaces(t, etcd.endpoint, 'two', [place(7422), etcdPlace]);
  await soon('both to be named', async () => Object.keys(await store.named()).length === 2);
  t.same(await store.ports(), [2379, 7421, 7422]);
  const endedAt = performance.now();
  await one.end();
  t.same(await store.ports(), [2379, 7421, 7422], 'at first nothing changes');
  await soon('the first to be no longer named', async () => !('one' in (await store.named())));
  t.ok(performance.now() - endedAt > keepMs / 2, 'not before its time');
  await soon('its place to go', async () => !(await store.ports()).includes(7421));
  t.same(await store.ports(), [2379, 7422], 'and nothing else');
  // Longer than the lease: the one that lives is renewed.
  const from = performance.now();
  await soon('the time of a lease to pass', () => Promise.resolve(performance.now() - from > keepMs * 1.5));
  t.same(await store.ports(), [2379, 7422]);
  t.same(await store.named(), { two: [7422, 2379] });
});

t.test('an outage of the store, longer than places are kept, changes nothing', async (t) => {
  const etcd = await newTestEtcd(t);
  const store = newStore(t, etcd.endpoint);
  await newPlaces(t, etcd.endpoint, 'one', [place(7421), etcdPlace]);
  await newPlaces(t, etcd.endpoint, 'two', [place(7422), etcdPlace]);
  await soon('both to be named', async () => Object.keys(await store.named()).length === 2);
  await etcd.kill();
  const from = performance.now();
  await soon('the time of a lease to pass', () => Promise.resolve(performance.now() - from > keepMs * 1.5));
  const seen: number[][] = [];
  await etcd.start();
  const backAt = performance.now();
  await soon('twice that time again', async () => {
    seen.push(await store.ports());
    return performance.now() - backAt > keepMs * 2;
  });
  t.same(
    seen.filter((ports) => ports.join() !== '2379,7421,7422'),
    [],
    'at no time was one missing',
  );
  await soon(
    'both to be named again',
    async () =>
      Object.keys(await store.named())
        .sort()
        .join() === 'one,two',
  );

  await t.test('nor does a store that lost everything', async (t) => {
    await etcd.kill();
    await etcd.wipe();
    await etcd.start();
    await soon('all to be guarded', async () => (await store.ports()).join() === '2379,7421,7422');
    await soon(
      'both to be named',
      async () =>
        Object.keys(await store.named())
          .sort()
          .join() === 'one,two',
    );
    t.pass();
  });
});

t.test('places that nobody names any longer are kept as long as those of a controller that is gone', async (t) => {
  const etcd = await newTestEtcd(t);
  const store = newStore(t, etcd.endpoint);
  // As an older version left them.
  const old = { v: 1, generation: 7, ...settings, guarded: [place(7400), etcdPlace] };
  await transact(store.client, (txn) => txn.put(settingsKey, JSON.stringify(old)), { what: 'settings' });
  const one = await newPlaces(t, etcd.endpoint, 'one', [place(7421), etcdPlace]);
  await soon('the one left to be named', async () => 'left' in (await store.named()));
  t.same(await store.ports(), [2379, 7400, 7421]);
  t.same(await store.named(), { left: [7400], one: [7421, 2379] });
  await soon('it to go', async () => !(await store.ports()).includes(7400));
  t.same(await store.ports(), [2379, 7421]);

  await one.end();
  // Its store was not to be found out this time.
  const again = await newPlaces(t, etcd.endpoint, 'one', [place(7421)]);
  await soon('what it does not name to be left', async () => 'left' in (await store.named()));
  t.same(await store.named(), { left: [2379], one: [7421] });
  t.same(await store.ports(), [2379, 7421], 'still guarded');
  await again.end();
  await newPlaces(t, etcd.endpoint, 'one', [place(7421), etcdPlace]);
  await soon('it to be named again', async () => (await store.named())['one']?.includes(2379) === true);
  await soon('what was left to be gone', async () => !('left' in (await store.named())));
  const leases = await store.client.get(`${controllersPrefix}one`);
  t.not(leases?.lease, '0', 'bound to a lease');
  const from = performance.now();
  await soon('whoever removes to have done so', () => Promise.resolve(performance.now() - from > 1000));
  t.same(await store.ports(), [2379, 7421], 'what is named again stays');
});
