import { openSync, closeSync } from 'node:fs';
import t from 'tap';
import { MACVLAN_MODE_BRIDGE, MACVLAN_MODE_PRIVATE } from '../../lib/netlink/constants.js';
import { exchange, exchangeDump, exchangeGet } from '../../lib/netlink/exchange.js';
import {
  bridgePortSet,
  linkAdd,
  linkAddMessage,
  linkAddMessages,
  linkAltNamesMessage,
  linkDelete,
  linkFromDump,
  linkGet,
  linkGetMessage,
  linkList,
  linkListMessage,
  linkSet,
  linkSetMessage,
} from '../../lib/netlink/link.js';
import { linkStats } from '../../lib/netlink/link-value.js';
import { first, scratchNetns } from './scratch.js';

t.test('ip sees the bridge that was added, with every setting', async (t) => {
  const { connection, ipJson } = await scratchNetns(t);
  await linkAdd(connection, {
    ifname: 'br0',
    kind: 'bridge',
    alias: 'mark: one',
    address: '02:00:00:00:00:01',
    mtu: 1450,
    txqlen: 77,
    group: 9,
    up: true,
    bridge: {
      forwardDelayMs: 2500,
      ageingTimeMs: 60000,
      stpState: 0,
      priority: 4096,
      groupFwdMask: 8,
      mcastSnooping: false,
      nfCallIptables: true,
      nfCallArptables: true,
    },
    afSpec: { inet6: { addrGenMode: 1 } },
  });
  t.match(first(ipJson('link', 'show', 'br0')), {
    ifname: 'br0',
    ifalias: 'mark: one',
    address: '02:00:00:00:00:01',
    mtu: 1450,
    txqlen: 77,
    group: '9',
    inet6_addr_gen_mode: 'none',
    linkinfo: {
      info_kind: 'bridge',
      info_data: {
        forward_delay: 250,
        ageing_time: 6000,
        stp_state: 0,
        priority: 4096,
        group_fwd_mask: '0x8',
        mcast_snooping: 0,
        nf_call_iptables: 1,
        nf_call_ip6tables: 0,
        nf_call_arptables: 1,
      },
    },
  });
  const link = await linkGet(connection, 'br0');
  t.match(link, { up: true, arp: true, alias: 'mark: one', mtu: 1450, group: 9, bridge: { forwardDelayMs: 2500 } });
  await linkDelete(connection, link.ifindex);
  t.same(ipJson('link', 'show', 'type', 'bridge'), []);
  await t.rejects(linkGet(connection, 'br0'), { code: 'ENODEV', request: 'RTM_GETLINK br0' });
});

t.test('a VXLAN device as a port of a bridge is what ip and bridge would have made', async (t) => {
  const { connection, ip, ipJson, bridgeJson } = await scratchNetns(t);
  await linkAdd(connection, { ifname: 'br0', kind: 'bridge' });
  const { ifindex: master } = await linkGet(connection, 'br0');
  await linkAdd(connection, {
    ifname: 'vx0',
    kind: 'vxlan',
    alias: 'mark',
    master,
    up: true,
    vxlan: {
      id: 8388700,
      local: '198.18.0.1',
      port: 4789,
      learning: false,
      ttl: 9,
      tos: 4,
      df: 1,
      limit: 500,
      ageingSec: 100,
      udpCsum: false,
      udpZeroCsum6Rx: true,
      l2miss: true,
      gbp: true,
      portRange: { low: 40000, high: 50000 },
    },
    bridgePort: {
      learning: false,
      neighSuppress: true,
      unicastFlood: false,
      mcastFlood: true,
      bcastFlood: true,
      isolated: true,
    },
  });
  t.match(first(ipJson('link', 'show', 'vx0')), {
    master: 'br0',
    ifalias: 'mark',
    linkinfo: {
      info_kind: 'vxlan',
      info_data: {
        id: 8388700,
        local: '198.18.0.1',
        port: 4789,
        learning: false,
        ttl: 9,
        tos: '0x4',
        df: 'set',
        limit: 500,
        ageing: 100,
        udp_csum: false,
        udp_zero_csum6_rx: true,
        l2miss: true,
        gbp: true,
        port_range: { low: 40000, high: 50000 },
      },
      info_slave_kind: 'bridge',
      info_slave_data: { learning: false, neigh_suppress: true, flood: false, mcast_flood: true, isolated: true },
    },
  });
  await bridgePortSet(connection, (await linkGet(connection, 'vx0')).ifindex, {
    hairpin: true,
    guard: true,
    isolated: false,
  });
  await bridgePortSet(connection, 'vx0', { learning: true, cost: 7 });
  t.match(first(bridgeJson('link', 'show', 'dev', 'vx0')), {
    hairpin: true,
    guard: true,
    isolated: false,
    learning: true,
    cost: 7,
    neigh_suppress: true,
    flood: false,
  });
  ip(
    'link',
    'add',
    'vx6',
    'type',
    'vxlan',
    'id',
    '5',
    'local',
    'fd00::1',
    'remote',
    'fd00::2',
    'dstport',
    '4790',
    'udp6zerocsumtx',
    'rsc',
  );
  t.match(await linkGet(connection, 'vx6'), {
    kind: 'vxlan',
    vxlan: { id: 5, local: 'fd00::1', group: 'fd00::2', port: 4790, udpZeroCsum6Tx: true, rsc: true, learning: true },
  });
  t.same((await linkList(connection, { kind: 'vxlan' })).map((link) => link.ifname).sort(), ['vx0', 'vx6']);
  t.same(
    (await linkList(connection, { master })).map((link) => link.ifname),
    ['vx0'],
  );
  await linkSet(connection, 'vx0', { master: 0 });
  t.equal(first(ipJson('link', 'show', 'vx0'))['master'], undefined);
  await t.rejects(bridgePortSet(connection, 'vx0', { learning: true }), { code: 'EOPNOTSUPP' });
});

t.test('a veth is made with its configured peer in another namespace, in one message', async (t) => {
  const host = await scratchNetns(t);
  const sandbox = await scratchNetns(t);
  const fd = openSync(sandbox.path, 'r');
  try {
    await linkAdd(host.connection, {
      ifname: 've-host',
      kind: 'veth',
      up: true,
      alias: 'of a sandbox',
      address: '02:00:00:00:01:01',
      veth: { peer: { ifname: 'eth0', address: '02:00:00:00:01:02', mtu: 1400, netnsFd: fd } },
    });
  } finally {
    closeSync(fd);
  }
  t.match(first(sandbox.ipJson('link', 'show', 'eth0')), { address: '02:00:00:00:01:02', mtu: 1400 });
  t.match(first(host.ipJson('link', 'show', 've-host')), { ifalias: 'of a sandbox', linkinfo: { info_kind: 'veth' } });
  const inside = await exchangeGet(
    host.native,
    { path: sandbox.path },
    {
      message: linkGetMessage('eth0'),
      decode: (_header, reader) => linkFromDump(reader),
    },
  );
  const outside = await linkGet(host.connection, 've-host');
  t.equal(outside.link, inside.ifindex);
  t.type(outside.linkNetnsid, 'number', 'the peer is in a namespace with an id');
  t.match(linkStats(outside), { rxDropped: Number });
  await linkDelete(host.connection, 've-host');
  t.same(sandbox.ipJson('link', 'show', 'type', 'veth'), []);
});

t.test('peers can be given their ifindex, and a batch configures them without asking for it', async (t) => {
  const { connection, native, path, ipJson } = await scratchNetns(t);
  const result = await exchange(native, { path }, [
    linkAddMessage({ ifindex: 40, ifname: 'a0', kind: 'veth', veth: { peer: { ifindex: 41, ifname: 'b0' } } }),
    linkSetMessage(41, { up: true, alias: 'peer' }),
  ]);
  t.same(result, [undefined, undefined]);
  t.match(first(ipJson('link', 'show', 'b0')), { ifindex: 41, ifalias: 'peer' });
  t.equal((await linkGet(connection, 'a0')).ifindex, 40);
});

t.test('links are renamed, moved, and found by alternative names', async (t) => {
  const here = await scratchNetns(t);
  const there = await scratchNetns(t);
  here.ip('link', 'add', 'a0', 'type', 'veth', 'peer', 'name', 'a1');
  const { ifindex } = await linkGet(here.connection, 'a0');
  await linkSet(here.connection, ifindex, { ifname: 'renamed' });
  const long = 'an-alternative-name-longer-than-fifteen';
  await here.connection.request(linkAltNamesMessage('add', ifindex, [long, 'short-alt']));
  t.same((await linkGet(here.connection, long)).altNames, [long, 'short-alt']);
  await linkSet(here.connection, long, { mtu: 1399 });
  t.match(first(here.ipJson('link', 'show', 'renamed')), { mtu: 1399, altnames: [long, 'short-alt'] });
  await here.connection.request(linkAltNamesMessage('delete', ifindex, [long]));
  t.same((await linkGet(here.connection, 'renamed')).altNames, ['short-alt']);
  t.throws(() => linkSetMessage('renamed', { ifname: 'other' }), { name: 'EncodeError' });
  const fd = openSync(there.path, 'r');
  try {
    await linkSet(here.connection, ifindex, { netnsFd: fd, ifname: 'moved' });
  } finally {
    closeSync(fd);
  }
  t.equal(there.ipJson('link', 'show', 'moved').length, 1);
  await linkDelete(here.connection, 'a1');
});

t.test("a macvlan has its mode and parent, and ip's is read", async (t) => {
  const { connection, ip, ipJson } = await scratchNetns(t);
  ip('link', 'add', 'p0', 'type', 'veth', 'peer', 'name', 'p1');
  const parent = await linkGet(connection, 'p0');
  await linkAdd(connection, {
    ifname: 'mv0',
    kind: 'macvlan',
    link: parent.ifindex,
    macvlan: { mode: MACVLAN_MODE_BRIDGE },
  });
  t.match(first(ipJson('link', 'show', 'mv0')), {
    link: 'p0',
    linkinfo: { info_kind: 'macvlan', info_data: { mode: 'bridge' } },
  });
  ip('link', 'add', 'mv1', 'link', 'p0', 'type', 'macvlan', 'mode', 'private');
  t.match(await linkGet(connection, 'mv1'), { link: parent.ifindex, macvlan: { mode: MACVLAN_MODE_PRIVATE } });
});

t.test('flags that are not named stay as they are', async (t) => {
  const { connection, ip } = await scratchNetns(t);
  ip('link', 'add', 'a0', 'type', 'veth', 'peer', 'name', 'a1');
  ip('link', 'set', 'a0', 'promisc', 'on', 'arp', 'off', 'up');
  t.match(await linkGet(connection, 'a0'), { up: true, arp: false, promisc: true });
  await linkSet(connection, 'a0', { up: false, arp: true });
  t.match(await linkGet(connection, 'a0'), { up: false, arp: true, promisc: true, multicast: true });
});

t.test('a whole group is deleted at once, and nothing else', async (t) => {
  const { connection, ipJson } = await scratchNetns(t);
  const pairs = [0, 1, 2, 3].map((n) =>
    linkAddMessage({ ifname: `a${n}`, group: n === 3 ? 5 : 4242, kind: 'veth', veth: { peer: { ifname: `b${n}` } } }),
  );
  t.same(await connection.batch(pairs), [undefined, undefined, undefined, undefined]);
  await linkDelete(connection, { group: 4242 });
  t.same(
    ipJson('link', 'show', 'type', 'veth')
      .map((link) => link['ifname'])
      .sort(),
    ['a3', 'b3'],
  );
  await t.rejects(linkDelete(connection, { group: 4242 }), { code: 'ENODEV', request: 'RTM_DELLINK group 4242' });
});

t.test("one refused message of a real batch is reported at its index with the kernel's sentence", async (t) => {
  const { connection, native, path, ipJson } = await scratchNetns(t);
  const messages = [
    ...linkAddMessages({ ifname: 'br0', kind: 'bridge', alias: 'one' }),
    linkSetMessage('br0', { mtu: 100000 }),
    ...linkAddMessages({ ifname: 'br1', kind: 'bridge', alias: 'two' }),
  ];
  const result = await connection.batch(messages);
  t.same(
    result.map((error) => error?.code),
    [undefined, undefined, 'EINVAL', undefined, undefined],
  );
  t.equal(result[2]?.message, 'RTM_SETLINK br0 mtu 100000: EINVAL: Invalid argument: mtu greater than device maximum');
  t.same(
    ipJson('link', 'show', 'type', 'bridge').map((link) => link['ifalias']),
    ['one', 'two'],
  );
  const again = await exchange(native, { path }, messages);
  t.same(
    again.map((error) => error?.code),
    ['EEXIST', undefined, 'EINVAL', 'EEXIST', undefined],
  );
});

t.test('an exchange writes sysctls first, with and without messages, and lists inside', async (t) => {
  const { native, path } = await scratchNetns(t);
  const netns = { path };
  const result = await exchange(native, netns, [linkSetMessage('lo', { up: true })], {
    sysctls: [['net/ipv4/conf/default/arp_notify', '1']],
  });
  t.same(result, [undefined]);
  t.same(await exchange(native, netns, [], { sysctls: [['net/ipv4/conf/default/arp_ignore', '2']] }), []);
  t.match(await native.sysctlRead('net/ipv4/conf/default/arp_notify', netns), /^1/);
  t.match(await native.sysctlRead('net/ipv4/conf/default/arp_ignore', netns), /^2/);
  const links = await exchangeDump(native, netns, {
    message: linkListMessage(),
    decode: (_header, reader) => linkFromDump(reader),
  });
  t.match(links, [{ ifname: 'lo', up: true }]);
  t.equal(links.length, 1);
  await t.rejects(exchange(native, netns, [], { sysctls: [['net/no/such', '1']] }), { code: 'ENOENT' });
});

t.test('settings that need the name afterwards are refused where there is none', async (t) => {
  t.throws(() => linkAddMessages({ kind: 'bridge', alias: 'x' }), { name: 'EncodeError' });
  t.throws(() => linkAddMessages({ ifname: 'br0', kind: 'bridge', alias: 'x', netnsPid: 1 }), { name: 'EncodeError' });
  t.equal(linkAddMessages({ ifname: 'br0', kind: 'bridge' }).length, 1);
});
