import t from 'tap';
import { formatPrefix, parsePrefix } from '../../../core/addr.js';
import type { Network, Subnet } from '../../../core/model.js';
import { chooseSubnet, formatPool, parsePool, planMoreSubnets, planSubnets } from '../../../core/subnets.js';
import type { SubnetContext } from '../../../core/subnets.js';
import { chooseVni, firstVni, isVni, lastVni } from '../../../core/vni.js';
import { fails } from './error-check.js';

const networkOf = (name: string, subnets: readonly string[], minute = 0): Network => ({
  v: 1,
  generation: 1,
  id: '0123abcd',
  name,
  driver: 'overlay',
  subnets: subnets.map((subnet): Subnet => ({ subnet, gateway: null })),
  vni: firstVni,
  mtu: 1450,
  internal: false,
  labels: {},
  options: {},
  createdAt: `2026-01-01T00:${String(minute).padStart(2, '0')}:00.000Z`,
});

const contextOf = (context: Partial<SubnetContext> = {}): SubnetContext => ({
  networks: [],
  hostRoutes: [],
  pools: [parsePool('10.64.0.0/16:20'), parsePool('fd64::/48:64')],
  ...context,
});

const overlay = { driver: 'overlay' } as const;

t.test('a pool is a range and the length of the subnets cut from it', (t) => {
  for (const text of ['10.64.0.0/10:20', 'fd12:3456::/40:64', '10.0.0.0/24:24'])
    t.equal(formatPool(parsePool(text)), text);
  for (const text of [
    '',
    '10.64.0.0/10',
    '10.64.0.0:20',
    '10.64.0.0/10:8',
    '10.64.0.0/10:31',
    '10.64.0.1/10:20',
    '127.0.0.0/8:24',
    'fd12::/48:200',
  ]) {
    fails(t, 'ERR_INVALID_CIDR', () => parsePool(text), 'subnet-pool');
  }
  t.end();
});

t.test('a pool gives its first subnet that overlaps nothing', (t) => {
  const pool = parsePool('10.0.0.0/22:24');
  const choose = (taken: readonly string[], after?: string): string | null => {
    const prefix = chooseSubnet(
      pool,
      taken.map((text) => parsePrefix(text)),
      after === undefined ? undefined : parsePrefix(after),
    );
    return prefix === null ? null : formatPrefix(prefix);
  };
  t.equal(choose([]), '10.0.0.0/24');
  t.equal(choose(['10.0.0.0/24']), '10.0.1.0/24');
  t.equal(choose(['10.0.1.0/24']), '10.0.0.0/24');
  t.equal(choose(['10.0.0.128/30', '10.0.1.0/32']), '10.0.2.0/24', 'smaller ones block a whole subnet');
  t.equal(choose(['10.0.0.0/23']), '10.0.2.0/24', 'larger ones are passed at once');
  t.equal(choose(['10.0.2.0/24', '10.0.0.0/24', '10.0.1.0/24', '192.168.0.0/16', 'fd00::/8']), '10.0.3.0/24');
  t.equal(choose(['10.0.0.0/8']), null);
  t.equal(choose(['10.0.0.0/23', '10.0.2.0/25', '10.0.3.255/32']), null);
  t.equal(choose(['10.0.1.0/24'], '10.0.1.0/24'), '10.0.2.0/24', 'goes on behind the last');
  t.equal(choose(['10.0.3.0/24'], '10.0.3.0/24'), '10.0.0.0/24', 'goes round at the end');
  t.equal(choose(['10.0.1.0/28'], '10.0.1.0/28'), '10.0.2.0/24');
  t.end();
});

t.test('with nothing asked there is one IPv4 subnet from the pool, its first address the gateway', (t) => {
  t.same(planSubnets(overlay, contextOf()), [{ subnet: '10.64.0.0/20', gateway: '10.64.0.1' }]);
  t.same(planSubnets({ ...overlay, ipv6: true }, contextOf()), [
    { subnet: '10.64.0.0/20', gateway: '10.64.0.1' },
    { subnet: 'fd64::/64', gateway: 'fd64::1' },
  ]);
  t.end();
});

t.test('subnets of one family alone mean that family only', (t) => {
  const asked = (subnet: string, ipv6?: boolean): readonly string[] =>
    planSubnets({ ...overlay, subnets: [{ subnet }], ...(ipv6 === undefined ? {} : { ipv6 }) }, contextOf()).map(
      ({ subnet }) => subnet,
    );
  t.same(asked('10.1.0.0/24'), ['10.1.0.0/24']);
  t.same(asked('fd00:1::/64'), ['fd00:1::/64']);
  t.same(asked('10.1.0.0/24', true), ['10.1.0.0/24', 'fd64::/64']);
  t.same(asked('fd00:1::/64', true), ['fd00:1::/64']);
  t.same(asked('FD00:1:0::/64'), ['fd00:1::/64'], 'written canonically');
  t.end();
});

t.test('the pool keeps clear of networks and host routes, and goes on behind the newest network', (t) => {
  const networks = [networkOf('b', ['10.64.16.0/20'], 2), networkOf('a', ['10.64.0.0/20'], 1)];
  t.equal(planSubnets(overlay, contextOf({ networks }))[0]?.subnet, '10.64.32.0/20');
  t.equal(planSubnets(overlay, contextOf({ networks: networks.slice(0, 1) }))[0]?.subnet, '10.64.32.0/20');
  const hostRoutes = ['0.0.0.0/0', '10.64.0.0/19', '10.64.33.7/32'].map((text) => parsePrefix(text));
  t.equal(planSubnets(overlay, contextOf({ hostRoutes }))[0]?.subnet, '10.64.48.0/20');
  t.end();
});

t.test('pools are tried in order until all are used up', (t) => {
  const pools = [parsePool('10.1.0.0/24:24'), parsePool('10.2.0.0/24:24')];
  t.equal(
    planSubnets(overlay, contextOf({ pools, networks: [networkOf('a', ['10.1.0.0/24'])] }))[0]?.subnet,
    '10.2.0.0/24',
  );
  const networks = [networkOf('a', ['10.1.0.0/24', '10.2.0.0/25'])];
  fails(
    t,
    'ERR_SUBNET_POOL_EXHAUSTED',
    () => planSubnets(overlay, contextOf({ pools, networks })),
    '10.1.0.0/24:24',
    '10.2.0.0/24:24',
  );
  fails(t, 'ERR_SUBNET_POOL_EXHAUSTED', () => planSubnets({ ...overlay, ipv6: true }, contextOf({ pools })), 'IPv6');
  t.end();
});

t.test('an overlap names the other side', (t) => {
  const context = contextOf({
    networks: [networkOf('backend', ['10.1.0.0/16'])],
    hostRoutes: ['0.0.0.0/0', '192.168.7.0/24'].map((text) => parsePrefix(text)),
  });
  const plan =
    (...subnets: readonly string[]) =>
    () =>
      planSubnets({ ...overlay, subnets: subnets.map((subnet) => ({ subnet })) }, context);
  fails(t, 'ERR_SUBNET_OVERLAP', plan('10.1.7.0/24'), '10.1.7.0/24', '10.1.0.0/16', 'backend');
  fails(t, 'ERR_SUBNET_OVERLAP', plan('10.0.0.0/8'), 'backend');
  fails(t, 'ERR_SUBNET_OVERLAP', plan('192.168.0.0/16'), '192.168.7.0/24', 'route');
  fails(t, 'ERR_SUBNET_OVERLAP', plan('10.3.0.0/24', '10.3.0.128/25'), '10.3.0.128/25', 'same request');
  t.doesNotThrow(plan('10.2.0.0/16', '10.3.0.0/16', 'fd00::/64'));
  const macvlan = planSubnets({ driver: 'macvlan', subnets: [{ subnet: '192.168.7.0/24' }] }, context);
  t.same(macvlan, [{ subnet: '192.168.7.0/24', gateway: '192.168.7.1' }], 'a macvlan network lies in the LAN');
  t.end();
});

t.test('gateway and range are checked against the subnet', (t) => {
  const plan = (subnet: string, rest: { gateway?: string; range?: string }) => () =>
    planSubnets({ ...overlay, subnets: [{ subnet, ...rest }] }, contextOf());
  t.same(plan('10.1.0.0/24', { gateway: '10.1.0.254', range: '10.1.0.64/26' })(), [
    { subnet: '10.1.0.0/24', gateway: '10.1.0.254', range: '10.1.0.64/26' },
  ]);
  fails(t, 'ERR_GATEWAY_OUTSIDE_SUBNET', plan('10.1.0.0/24', { gateway: '10.2.0.1' }), '10.2.0.1', '10.1.0.0/24');
  fails(t, 'ERR_GATEWAY_OUTSIDE_SUBNET', plan('10.1.0.0/24', { gateway: 'fd00::1' }), 'fd00::1');
  fails(t, 'ERR_ADDRESS_RESERVED', plan('10.1.0.0/24', { gateway: '10.1.0.0' }), '10.1.0.0');
  fails(t, 'ERR_ADDRESS_RESERVED', plan('10.1.0.0/24', { gateway: '10.1.0.255' }), '10.1.0.255');
  fails(t, 'ERR_ADDRESS_RESERVED', plan('fd00::/64', { gateway: 'fd00::' }), 'fd00::');
  fails(t, 'ERR_INVALID_ADDRESS', plan('10.1.0.0/24', { gateway: 'router' }), 'gateway', 'router');
  fails(t, 'ERR_ADDRESS_OUTSIDE_SUBNET', plan('10.1.0.0/24', { range: '10.1.1.0/25' }), 'range', '10.1.1.0/25');
  fails(t, 'ERR_ADDRESS_OUTSIDE_SUBNET', plan('10.1.0.0/24', { range: '10.0.0.0/8' }), 'range');
  fails(t, 'ERR_INVALID_CIDR', plan('10.1.0.0/24', { range: '10.1.0.1/25' }), 'range');
  fails(t, 'ERR_INVALID_CIDR', plan('127.0.0.0/24', {}), 'loopback');
  fails(t, 'ERR_INVALID_CIDR', plan('10.1.0.1/24', {}), '10.1.0.0/24');
  fails(t, 'ERR_SUBNET_TOO_SMALL', plan('10.1.0.0/30', {}), '10.1.0.0/30');
  fails(t, 'ERR_SUBNET_TOO_SMALL', plan('10.1.0.0/24', { range: '10.1.0.0/31' }), '10.1.0.0/31');
  t.doesNotThrow(plan('10.1.0.0/29', {}));
  t.doesNotThrow(plan('fd00::/126', {}));
  t.end();
});

t.test('an internal macvlan network has no gateway unless given', (t) => {
  const subnets = [{ subnet: '10.1.0.0/24' }];
  t.equal(planSubnets({ driver: 'macvlan', internal: true, subnets }, contextOf())[0]?.gateway, null);
  t.equal(planSubnets({ driver: 'overlay', internal: true, subnets }, contextOf())[0]?.gateway, '10.1.0.1');
  const given = [{ subnet: '10.1.0.0/24', gateway: '10.1.0.9' }];
  t.equal(planSubnets({ driver: 'macvlan', internal: true, subnets: given }, contextOf())[0]?.gateway, '10.1.0.9');
  t.end();
});

t.test('more subnets come behind those a network has and overlap none of them', (t) => {
  const network = networkOf('a', ['10.1.0.0/24']);
  const context = contextOf({ networks: [network] });
  t.same(planMoreSubnets(network, [{ subnet: '10.2.0.0/24' }], context), [
    { subnet: '10.1.0.0/24', gateway: null },
    { subnet: '10.2.0.0/24', gateway: '10.2.0.1' },
  ]);
  fails(t, 'ERR_SUBNET_OVERLAP', () => planMoreSubnets(network, [{ subnet: '10.1.0.0/25' }], context), '"a"');
  t.end();
});

t.test('a VNI lies in the upper half and is never one taken', (t) => {
  t.equal(chooseVni(new Set(), 0), firstVni);
  t.equal(chooseVni(new Set(), 2 ** 23 + 5), firstVni + 5);
  t.equal(chooseVni(new Set([firstVni + 5, firstVni + 6]), 5), firstVni + 7);
  t.equal(chooseVni(new Set([lastVni]), 2 ** 23 - 1), firstVni, 'goes round at the end');
  t.ok(isVni(chooseVni(new Set(), Number.MAX_SAFE_INTEGER)) && isVni(chooseVni(new Set(), -3)));
  t.notOk(isVni(4096) || isVni(2 ** 24) || isVni(firstVni + 0.5));
  const all = { size: 2 ** 23, has: () => true } as unknown as ReadonlySet<number>;
  fails(t, 'ERR_VNI_EXHAUSTED', () => chooseVni(all, 7));
  t.end();
});
