import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { addrAt, formatAddr, lastAddr, parsePrefix } from '../../core/addr.js';
import { usableCount } from '../../core/grid.js';
import type { Subnet } from '../../core/model.js';
import { holds } from './holds.js';
import { IpamCluster, quarantineMs } from './ipam-cluster.js';

const subnets: readonly Subnet[] = [
  { subnet: '10.1.0.0/24', gateway: '10.1.0.1' },
  { subnet: '10.1.0.0/26', gateway: '10.1.0.9' },
  { subnet: '10.1.0.0/28', gateway: '10.1.0.14' },
  { subnet: '10.1.0.0/29', gateway: null },
  { subnet: '10.1.0.0/30', gateway: null },
  { subnet: '10.1.0.0/24', gateway: '10.1.0.1', range: '10.1.0.64/27' },
  { subnet: 'fd00::/64', gateway: 'fd00::1' },
  { subnet: 'fd00::/123', gateway: 'fd00::1' },
  { subnet: 'fd00::/126', gateway: 'fd00::1' },
];

type Step =
  | { readonly kind: 'attach' | 'attachFixed' | 'detach' | 'deliver'; readonly host: number; readonly pick: number }
  | { readonly kind: 'answer' | 'commit' | 'wait' | 'idle' | 'remove'; readonly host: number; readonly pick: number };

const stepOf = (kind: Step['kind'], weight: number): fc.WeightedArbitrary<Step> => ({
  weight,
  arbitrary: fc.tuple(fc.nat(7), fc.nat(255)).map(([host, pick]) => ({ kind, host, pick })),
});

const step = fc.oneof(
  stepOf('attach', 30),
  stepOf('attachFixed', 12),
  stepOf('detach', 14),
  stepOf('deliver', 10),
  stepOf('answer', 14),
  stepOf('commit', 14),
  stepOf('wait', 4),
  stepOf('idle', 5),
  stepOf('remove', 1),
);

function take(cluster: IpamCluster, { kind, host, pick }: Step): void {
  const name = `host-${host}`;
  const used = cluster.usedBy(name);
  const address = used[pick % Math.max(1, used.length)];
  if (kind === 'attach') cluster.attach(name);
  else if (kind === 'attachFixed') {
    const size = 1n << BigInt((cluster.grid.prefix.family === 4 ? 32 : 128) - cluster.grid.prefix.length);
    cluster.attach(name, formatAddr(addrAt(cluster.grid.prefix, BigInt(pick) % size)));
  } else if (kind === 'detach' && address !== undefined) cluster.detach(name, address);
  else if (kind === 'deliver') cluster.deliver(name, 1 + (pick % 3));
  else if (kind === 'answer') cluster.answerCarve();
  else if (kind === 'commit') cluster.commitAnswer(pick);
  else if (kind === 'wait') cluster.nowMs += pick;
  else if (kind === 'idle') cluster.returnIdle(name);
  else if (kind === 'remove') cluster.removeHost(name);
}

function settle(cluster: IpamCluster): void {
  for (let turn = 0; cluster.pendingCarves > 0; turn++) {
    assert.ok(turn < 10_000, 'carves come to an end');
    cluster.answerCarve();
    cluster.commitAnswer();
  }
  cluster.deliver();
}

/** Ends all endpoints and returns all blocks; the store must then hold nothing of them. */
function reclaim(cluster: IpamCluster): void {
  const names = Array.from({ length: 8 }, (_, index) => `host-${index}`);
  settle(cluster);
  for (const name of names) for (const address of cluster.usedBy(name)) cluster.detach(name, address);
  cluster.nowMs += quarantineMs;
  for (const name of names.slice(0, 4)) cluster.returnAll(name);
  cluster.deliver();
  for (const name of names.slice(0, 4)) cluster.returnAll(name);
  for (const name of names.slice(4)) cluster.removeHost(name);
  cluster.check();
  assert.deepEqual(cluster.records, []);
  assert.equal(cluster.usedCount, 0);
}

t.test('whatever hosts ask, return and lose, no address has two holders and all come back', (t) => {
  holds(
    t,
    fc.property(
      fc.constantFrom(...subnets),
      fc.array(step, { minLength: 20, maxLength: 200, size: 'max' }),
      (subnet, steps) => {
        const cluster = new IpamCluster(subnet);
        for (const each of steps) {
          take(cluster, each);
          cluster.check();
        }
        reclaim(cluster);
      },
    ),
    200,
  );
  t.end();
});

t.test('an address asked for twice is not given here between the two', (t) => {
  for (const isAskedTwiceAtOnce of [true, false]) {
    const cluster = new IpamCluster({ subnet: '10.1.0.0/24', gateway: '10.1.0.1' });
    t.equal(cluster.attach('owner'), 'asked');
    const wanted = formatAddr(lastAddr(parsePrefix(cluster.records[0]?.cidr ?? '')));
    const askFor = (host: string): void => {
      t.equal(cluster.attach(host, wanted), 'asked');
      cluster.answerCarve();
    };
    askFor('first');
    if (isAskedTwiceAtOnce) askFor('second');
    t.equal(cluster.commitAnswer(), null);
    cluster.removeHost('first');
    if (!isAskedTwiceAtOnce) askFor('second');
    if (!isAskedTwiceAtOnce) t.equal(cluster.commitAnswer(), null);
    // Up to here: the block, carved, the first carve is over, free again.
    cluster.deliver('owner', 4);
    while (cluster.attach('owner') === 'attached') cluster.check();
    t.notOk(cluster.usedBy('owner').includes(wanted), "it may be the second one's any moment");
    if (isAskedTwiceAtOnce) t.equal(cluster.commitAnswer(), null);
    cluster.deliver();
    t.equal(cluster.attach('second', wanted), 'attached');
    cluster.check();
  }
  t.end();
});

t.test('with more demand than supply every usable address is given before one is refused', (t) => {
  holds(
    t,
    fc.property(
      fc.constantFrom(...subnets.filter(({ subnet }) => subnet !== 'fd00::/64')),
      fc.array(fc.nat(7), { minLength: 400, maxLength: 400 }),
      (subnet, order) => {
        const cluster = new IpamCluster(subnet);
        let refused = 0;
        for (const host of order) {
          const result = cluster.attachNow(`host-${host}`);
          cluster.check();
          if (result === 'attached') continue;
          assert.equal(result, 'ERR_ADDRESS_EXHAUSTED');
          refused++;
        }
        const blocksAreSingle = subnet.subnet.endsWith('/30') || subnet.subnet.endsWith('/126');
        assert.ok(refused > 0);
        if (!blocksAreSingle) assert.equal(cluster.freeCount(), 0);
        assert.equal(BigInt(cluster.usedCount), usableCount(cluster.grid));
        reclaim(cluster);
      },
    ),
    6,
  );
  t.end();
});

t.test('a store that lost everything is refilled by the hosts, and nobody loses an address', (t) => {
  holds(
    t,
    fc.property(
      fc.constantFrom(...subnets),
      fc.array(step, { minLength: 20, maxLength: 120, size: 'max' }),
      fc.array(step, { maxLength: 60, size: 'max' }),
      fc.boolean(),
      (subnet, before, after, isReversed) => {
        const cluster = new IpamCluster(subnet);
        for (const each of before) take(cluster, each);
        settle(cluster);
        const used = cluster.usedCount;
        assert.equal(
          cluster.loseStore((hosts) => (isReversed ? hosts.reverse() : hosts)),
          0,
        );
        cluster.deliver();
        assert.equal(cluster.usedCount, used);
        for (const each of after) {
          take(cluster, each);
          cluster.check();
        }
        reclaim(cluster);
      },
    ),
    100,
  );
  t.end();
});

t.test('a /24 serves twenty hosts and a /16 five hundred', (t) => {
  for (const [subnet, hosts, each] of [
    ['10.1.0.0/24', 20, 12],
    ['10.1.0.0/16', 500, 100],
  ] as const) {
    const cluster = new IpamCluster({ subnet, gateway: '10.1.0.1' });
    let attached = 0;
    for (let turn = 0; turn < each; turn++) {
      for (let host = 0; host < hosts; host++) {
        if (cluster.attachNow(`node-${host}`) === 'attached') attached++;
      }
    }
    cluster.check();
    t.equal(attached, hosts * each, subnet);
    t.equal(cluster.usedCount, hosts * each);
  }
  t.end();
});
