import t from 'tap';
import { addrReplace } from '../../lib/netlink/addr.js';
import { RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_LINK, RTNLGRP_NEIGH } from '../../lib/netlink/constants.js';
import { fdbReplace } from '../../lib/netlink/fdb.js';
import { linkAdd, linkDelete, linkGet, linkSet } from '../../lib/netlink/link.js';
import { type NetlinkEvent, subscribe, watchEvents } from '../../lib/netlink/monitor.js';
import { neighReplace, neighReplaceMessage } from '../../lib/netlink/neigh.js';
import { routeReplace } from '../../lib/netlink/route.js';
import type { NativeApi, NativeError, NetlinkOpenOptions } from '../../native/api.js';
import { scratchNetns, until } from './scratch.js';

const groups = [RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE];

t.test('what changes in the kernel is told, decoded and in order', async (t) => {
  const { native, connection, path } = await scratchNetns(t);
  const events: NetlinkEvent[] = [];
  const subscription = await subscribe(native, { netns: { path }, groups }, (event) => events.push(event));
  t.teardown(() => subscription.close());
  await linkAdd(connection, { ifname: 'br0', kind: 'bridge', up: true });
  const { ifindex: master } = await linkGet(connection, 'br0');
  await linkAdd(connection, {
    ifname: 'vx0',
    kind: 'vxlan',
    master,
    up: true,
    vxlan: { id: 7, local: '198.18.0.1', port: 4789 },
  });
  const { ifindex } = await linkGet(connection, 'vx0');
  await addrReplace(connection, { ifindex: master, address: '10.9.0.1/24' });
  await routeReplace(connection, { dst: '10.20.0.0/16', gateway: '10.9.0.2' });
  await neighReplace(connection, { ifindex: master, dst: '10.9.0.2', lladdr: '02:00:00:00:00:02' });
  await fdbReplace(connection, { ifindex, lladdr: '02:00:00:00:00:02', dst: '198.18.0.2' });
  await linkSet(connection, ifindex, { master: 0 });
  await linkDelete(connection, 'vx0');
  const seen = (kind: string, change: string, has: (event: NetlinkEvent) => boolean): number =>
    events.findIndex((event) => event.kind === kind && 'change' in event && event.change === change && has(event));
  const gone = (event: NetlinkEvent): boolean => event.kind === 'link' && event.link.ifname === 'vx0';
  await until('the link is gone', () => seen('link', 'delete', gone) >= 0);
  const order = [
    seen(
      'link',
      'new',
      (event) => event.kind === 'link' && event.link.ifname === 'br0' && event.link.kind === 'bridge',
    ),
    seen('addr', 'new', (event) => event.kind === 'addr' && event.addr.address === '10.9.0.1/24'),
    seen('route', 'new', (event) => event.kind === 'route' && event.route.dst === '10.20.0.0/16'),
    seen('neigh', 'new', (event) => event.kind === 'neigh' && event.neigh.dst === '10.9.0.2'),
    seen('fdb', 'new', (event) => event.kind === 'fdb' && event.fdb.dst === '198.18.0.2'),
    seen('bridgePort', 'delete', (event) => event.kind === 'bridgePort' && event.link.ifindex === ifindex),
    seen('link', 'delete', gone),
  ];
  t.ok(
    order.every((at) => at >= 0),
    `all seen: ${order.join(' ')}`,
  );
  t.same(
    order,
    [...order].sort((a, b) => a - b),
  );
  t.notOk(events.some((event) => event.kind === 'resync'));
});

t.test('a burst that overflows the socket is told as resync, and telling goes on', async (t) => {
  const { native, connection, path } = await scratchNetns(t);
  await linkAdd(connection, { ifname: 'br0', kind: 'bridge', up: true });
  const { ifindex } = await linkGet(connection, 'br0');
  const events: NetlinkEvent[] = [];
  const options = { netns: { path }, groups: [RTNLGRP_NEIGH], receiveBufferBytes: 4096 };
  const subscription = await subscribe(native, options, (event) => events.push(event));
  t.teardown(() => subscription.close());
  const burst = Array.from({ length: 400 }, (_, n) =>
    neighReplaceMessage({ ifindex, dst: `10.9.${n >> 8}.${n & 255}`, lladdr: '02:00:00:00:00:02' }),
  );
  await connection.batch(burst, { sync: true });
  await until('resync', () => events.some((event) => event.kind === 'resync'));
  t.match(
    events.find((event) => event.kind === 'resync'),
    { cause: { code: 'ENOBUFS' } },
  );
  await neighReplace(connection, { ifindex, dst: '10.200.0.1', lladdr: '02:00:00:00:00:03' });
  await until('the later entry', () =>
    events.some((event) => event.kind === 'neigh' && event.neigh.dst === '10.200.0.1'),
  );
});

function fakeNative(): { native: NativeApi; opened: NetlinkOpenOptions[]; closes: number } {
  const fake = { native: {} as NativeApi, opened: [] as NetlinkOpenOptions[], closes: 0 };
  const api: Pick<NativeApi, 'netlinkOpen'> = {
    async netlinkOpen(options) {
      fake.opened.push(options);
      return {
        portid: 1,
        closed: false,
        send: async () => undefined,
        sendSync: () => undefined,
        pause: () => undefined,
        resume: () => undefined,
        close: () => void fake.closes++,
      };
    },
  };
  fake.native = api as NativeApi;
  return fake;
}

function nativeError(code: string): NativeError {
  return Object.assign(new Error(code), { code, errno: 105, syscall: 'recvmsg' });
}

t.test('undecodable bytes are told as resync, a final error as closed', async (t) => {
  const fake = fakeNative();
  const events: NetlinkEvent[] = [];
  const subscription = await subscribe(fake.native, { groups: [1] }, (event) => events.push(event));
  fake.opened[0]?.onMessage(Buffer.from([20, 0, 0, 0, 16, 0]));
  fake.opened[0]?.onError(nativeError('ENOBUFS'));
  fake.opened[0]?.onError(nativeError('EBADF'));
  t.match(events, [
    { kind: 'resync', cause: { name: 'DecodeError' } },
    { kind: 'resync', cause: { code: 'ENOBUFS' } },
    { kind: 'closed', cause: { code: 'EBADF' } },
  ]);
  t.same(fake.opened[0]?.groups, [1]);
  subscription.close();
  t.equal(fake.closes, 1);
});

t.test(
  'the iterator ends when aborted or closed, closes its socket, and turns a backlog into one resync',
  async (t) => {
    const fake = fakeNative();
    const abort = new AbortController();
    const kinds: string[] = [];
    const watching = (async () => {
      for await (const event of watchEvents(fake.native, { groups: [1], signal: abort.signal })) {
        kinds.push(event.kind);
        if (kinds.length === 1) for (let n = 0; n < 10000; n++) fake.opened[0]?.onError(nativeError('ENOBUFS'));
        if (kinds.length === 2) abort.abort();
      }
    })();
    await until('it is open', () => fake.opened.length === 1);
    fake.opened[0]?.onError(nativeError('ENOBUFS'));
    await watching;
    t.same(kinds, ['resync', 'resync']);
    t.equal(fake.closes, 1);

    const closing = watchEvents(fake.native, { groups: [1] });
    const next = closing.next();
    await until('it is open', () => fake.opened.length === 2);
    fake.opened[1]?.onError(nativeError('EBADF'));
    t.match(await next, { value: { kind: 'closed' } });
    t.match(await closing.next(), { done: true });
    t.equal(fake.closes, 2);
  },
);
