import t from 'tap';
import { addrReplace } from '../../lib/netlink/addr.js';
import { AF_INET, AF_INET6, RTN_BLACKHOLE, RTN_UNREACHABLE, RTNH_F_ONLINK } from '../../lib/netlink/constants.js';
import { linkAdd, linkGet } from '../../lib/netlink/link.js';
import { type Route, routeAdd, routeDelete, routeList, routeReplace } from '../../lib/netlink/route.js';
import { first, type Scratch, scratchNetns } from './scratch.js';

/** A link that is up, with 10.9.0.1/24 and fd00:9::1/64. */
async function scratchLink(t: Parameters<typeof scratchNetns>[0]): Promise<Scratch & { ifindex: number }> {
  const scratch = await scratchNetns(t);
  const { connection } = scratch;
  await linkAdd(connection, { ifname: 'br0', kind: 'bridge', up: true, afSpec: { inet6: { addrGenMode: 1 } } });
  const { ifindex } = await linkGet(connection, 'br0');
  await addrReplace(connection, { ifindex, address: '10.9.0.1/24' });
  await addrReplace(connection, { ifindex, address: 'fd00:9::1/64', flags: 2 });
  return { ...scratch, ifindex };
}

t.test('ip sees the routes that were replaced into being', async (t) => {
  const { connection, ifindex, ipJson } = await scratchLink(t);
  await routeReplace(connection, {
    dst: '10.20.0.0/16',
    gateway: '10.9.0.2',
    protocol: 77,
    table: 1000,
    priority: 5,
    prefsrc: '10.9.0.1',
    metrics: { mtu: 1300, advmss: 1240 },
  });
  t.match(first(ipJson('route', 'show', 'table', '1000')), {
    dst: '10.20.0.0/16',
    gateway: '10.9.0.2',
    dev: 'br0',
    protocol: '77',
    metric: 5,
    prefsrc: '10.9.0.1',
    metrics: [{ mtu: 1300, advmss: 1240 }],
  });
  await routeReplace(connection, { dst: '10.21.0.0/16', ifindex });
  t.match(first(ipJson('route', 'show', '10.21.0.0/16')), {
    dev: 'br0',
    scope: 'link',
    protocol: 'static',
    type: 'unicast',
  });
  await routeReplace(connection, { dst: '0.0.0.0/0', gateway: '172.16.0.1', ifindex, flags: RTNH_F_ONLINK });
  t.match(first(ipJson('route', 'show', 'default')), { dst: 'default', gateway: '172.16.0.1', flags: ['onlink'] });
  await routeReplace(connection, { dst: '10.22.0.0/16', type: RTN_BLACKHOLE });
  t.match(first(ipJson('route', 'show', '10.22.0.0/16')), { type: 'blackhole' });
  await routeReplace(connection, { dst: '10.23.0.0/16', via: 'fd00:9::2', ifindex });
  t.match(first(ipJson('route', 'show', '10.23.0.0/16')), { via: { family: 'inet6', host: 'fd00:9::2' } });
  await routeReplace(connection, { dst: '::/0', gateway: 'fd00:9::2', protocol: 77, priority: 50, pref: 1 });
  t.match(first(ipJson('-6', 'route', 'show', 'default')), {
    gateway: 'fd00:9::2',
    metric: 50,
    pref: 'high',
    protocol: '77',
  });
  await routeReplace(connection, { dst: 'fd00:77::/48', type: RTN_UNREACHABLE, metrics: { mtu: 1290 } });
  t.match(first(ipJson('-6', 'route', 'show', 'fd00:77::/48')), { dst: 'fd00:77::/48', type: 'unreachable' });
});

t.test('a second replace changes the route instead of adding one', async (t) => {
  const { connection, ipJson } = await scratchLink(t);
  await routeAdd(connection, { dst: '10.20.0.0/16', gateway: '10.9.0.2' });
  await t.rejects(routeAdd(connection, { dst: '10.20.0.0/16', gateway: '10.9.0.2' }), {
    code: 'EEXIST',
    request: 'RTM_NEWROUTE 10.20.0.0/16 via 10.9.0.2',
  });
  await routeReplace(connection, { dst: '10.20.0.0/16', gateway: '10.9.0.3', protocol: 77 });
  const routes = ipJson('route', 'show', '10.20.0.0/16');
  t.equal(routes.length, 1);
  t.match(routes, [{ gateway: '10.9.0.3', protocol: '77' }]);
});

t.test('deleting needs no more than the destination, and takes what is given as a condition', async (t) => {
  const { connection, ip, ipJson } = await scratchLink(t);
  ip('route', 'add', '10.20.0.0/16', 'via', '10.9.0.2', 'proto', '99');
  ip('-6', 'route', 'add', 'fd00:20::/64', 'via', 'fd00:9::2', 'proto', '99');
  for (const dst of ['10.20.0.0/16', 'fd00:20::/64']) {
    await t.rejects(routeDelete(connection, { dst, protocol: 77 }), { code: 'ESRCH' });
    await routeDelete(connection, { dst });
    await t.rejects(routeDelete(connection, { dst }), { code: 'ESRCH', request: `RTM_DELROUTE ${dst}` });
  }
  t.same(ipJson('route', 'show', 'proto', '99'), []);
});

t.test('routes that ip added are read, filtered by the kernel', async (t) => {
  const { connection, ifindex, ip } = await scratchLink(t);
  ip('route', 'add', '10.30.0.0/16', 'via', '10.9.0.2', 'proto', '77', 'table', '4000', 'metric', '3');
  ip('-6', 'route', 'add', 'fd00:30::/64', 'via', 'fd00:9::2', 'proto', '77', 'mtu', '1280');
  ip(
    'route',
    'add',
    '10.31.0.0/16',
    'nexthop',
    'via',
    '10.9.0.3',
    'dev',
    'br0',
    'nexthop',
    'via',
    '10.9.0.4',
    'dev',
    'br0',
  );
  const dsts = async (filter: Parameters<typeof routeList>[1]): Promise<string[]> =>
    (await routeList(connection, filter)).map((route) => route.dst).sort();
  t.same(await dsts({ protocol: 77 }), ['10.30.0.0/16', 'fd00:30::/64']);
  t.same(await dsts({ table: 4000 }), ['10.30.0.0/16']);
  t.same(await dsts({ table: 4001 }), [], 'a table that does not exist');
  t.same(await dsts({ table: 4001, family: AF_INET }), [], 'also for the family that refuses');
  t.same(await dsts({ family: AF_INET6, protocol: 77 }), ['fd00:30::/64']);
  const main = await routeList(connection, { table: 254, family: AF_INET, ifindex });
  t.match(
    main.find((route) => route.dst === '10.9.0.0/24'),
    { scope: 253, protocol: 2, prefsrc: '10.9.0.1', ifindex },
  );
  const multipath = (await routeList(connection, { family: AF_INET })).find((route) => route.dst === '10.31.0.0/16');
  t.equal(multipath?.multipath?.length, 32);
  t.match(await routeList(connection, { table: 4000 }), [{ table: 4000, priority: 3, gateway: '10.9.0.2' }]);
  await routeDelete(connection, multipath as Route);
  t.same((await dsts({ family: AF_INET })).includes('10.31.0.0/16'), false, 'what was read can be given back');
});

t.test("a gateway out of reach is refused with the kernel's sentence", async (t) => {
  const { connection, ifindex } = await scratchLink(t);
  await t.rejects(routeReplace(connection, { dst: '10.40.0.0/16', gateway: '172.16.0.1', ifindex }), {
    code: 'ENETUNREACH',
    message:
      /^RTM_NEWROUTE 10\.40\.0\.0\/16 via 172\.16\.0\.1 dev #\d+: ENETUNREACH: Network is unreachable: Nexthop has invalid gateway$/,
    extAck: { message: 'Nexthop has invalid gateway' },
  });
});
