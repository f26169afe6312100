import { readdirSync, readlinkSync } from 'node:fs';
import t from 'tap';

import type { NetlinkExchangeOptions } from '../../native/api.js';
import {
  answerErrno,
  bridgeAdd,
  bridgesAdd,
  decodeMessages,
  ip,
  linkDump,
  linkGet,
  linkNames,
  native,
  NETLINK_ROUTE,
  newNetnsPath,
  NLMSG_DONE,
  openDescriptors,
  RTM_NEWLINK,
  threadNames,
  until,
  withNetns,
} from './fixtures.js';

t.test('a batch is answered message by message, errors included', async (t) => {
  const path = await withNetns(t);
  const datagram = Buffer.concat([bridgeAdd(1, 'a'), bridgeAdd(2, 'a'), linkGet(3, 9999), bridgeAdd(4, 'b')]);
  const received = await native.netlinkExchange({ protocol: NETLINK_ROUTE, netns: { path }, datagram, answers: 4 });
  const answers = decodeMessages(received).filter((message) => answerErrno(message) !== undefined);
  t.same(
    answers.map((answer) => [answer.seq, answerErrno(answer)]),
    [
      [1, 0],
      [2, 17],
      [3, 19],
      [4, 0],
    ],
  );
  t.same(linkNames(path).sort(), ['a', 'b', 'lo']);
});

t.test('a dump larger than one datagram comes whole', async (t) => {
  const path = await withNetns(t);
  const exchange = (datagram: Buffer, answers: number): Promise<Buffer[]> =>
    native.netlinkExchange({ protocol: NETLINK_ROUTE, netns: { path }, datagram, answers });
  const added = decodeMessages(await exchange(bridgesAdd('many', 60), 60));
  t.ok(added.every((message) => answerErrno(message) === 0));
  const datagrams = await exchange(linkDump(9), 1);
  t.ok(datagrams.length > 2);
  const dumped = decodeMessages(datagrams);
  t.equal(dumped.filter((message) => message.type === RTM_NEWLINK).length, 61);
  t.equal(dumped.at(-1)?.type, NLMSG_DONE);
});

t.test('sysctls are written in the namespace before the send', async (t) => {
  const path = await withNetns(t);
  const own = await native.sysctlRead('net/ipv6/conf/default/accept_ra');
  const received = await native.netlinkExchange({
    protocol: NETLINK_ROUTE,
    netns: { path },
    sysctls: [
      ['net/ipv6/conf/default/accept_ra', '0'],
      ['net/ipv4/ip_forward', '1'],
    ],
    datagram: bridgeAdd(1, 'quiet'),
    answers: 1,
  });
  t.equal(answerErrno(decodeMessages(received)[0]), 0);
  t.equal(await native.sysctlRead('net/ipv4/ip_forward', { path }), '1');
  t.equal(await native.sysctlRead('net/ipv6/conf/quiet/accept_ra', { path }), '0');
  t.equal(await native.sysctlRead('net/ipv6/conf/default/accept_ra'), own);
});

t.test('a missing sysctl rejects and nothing is sent', async (t) => {
  const path = await withNetns(t);
  const sysctls = [['net/ipv4/conf/none/forwarding', '1']] as const;
  const options = { protocol: NETLINK_ROUTE, netns: { path }, sysctls, datagram: bridgeAdd(1, 'no'), answers: 1 };
  await t.rejects(native.netlinkExchange(options), {
    code: 'ENOENT',
    syscall: 'open /proc/sys/net/ipv4/conf/none/forwarding',
  });
  t.same(linkNames(path), ['lo']);
});

t.test('an answer that does not come is ETIMEDOUT', async (t) => {
  const path = await withNetns(t);
  const options = { protocol: NETLINK_ROUTE, netns: { path }, datagram: linkGet(1, 1), answers: 2, timeoutMs: 20 };
  await t.rejects(native.netlinkExchange(options), { code: 'ETIMEDOUT' });
  t.same(await native.netlinkExchange({ ...options, answers: 0 }), []);
});

t.test('the namespace is found by path, by pid and by descriptor, and errors say which call failed', async (t) => {
  const path = await withNetns(t);
  const opened = await native.netnsOpen({ path });
  const options = { protocol: NETLINK_ROUTE, datagram: linkDump(1), answers: 1 };
  for (const netns of [{ path }, { fd: opened.fd }]) {
    const links = decodeMessages(await native.netlinkExchange({ ...options, netns }));
    t.equal(links.filter((message) => message.type === RTM_NEWLINK).length, 1);
  }
  const pending = native.netlinkExchange({ ...options, netns: { fd: opened.fd } });
  opened.close();
  t.equal(decodeMessages(await pending).length, 2, 'the descriptor may be closed at once');
  const own = decodeMessages(await native.netlinkExchange({ ...options, netns: { pid: process.pid } }));
  t.equal(own.length, decodeMessages(await native.netlinkExchange(options)).length);
  await t.rejects(native.netlinkExchange({ ...options, netns: { pid: 2 ** 22 + 1 } }), {
    code: 'ENOENT',
    syscall: /^open \/proc\/\d+\/ns\/net$/,
  });
});

t.test('exchanges in turn reach one namespace after another', async (t) => {
  const [first, second] = [await withNetns(t), await withNetns(t)];
  const exchange = (path: string, datagram: Buffer, answers: number): NetlinkExchangeOptions => ({
    protocol: NETLINK_ROUTE,
    netns: { path },
    datagram,
    answers,
  });
  const received = await native.netlinkExchangeInTurn([
    exchange(first, bridgeAdd(1, 'a'), 1),
    exchange(second, Buffer.concat([bridgeAdd(1, 'b'), bridgeAdd(2, 'c')]), 2),
  ]);
  t.same(
    received.map((datagrams) => decodeMessages(datagrams).map((answer) => [answer.seq, answerErrno(answer)])),
    [
      [[1, 0]],
      [
        [1, 0],
        [2, 0],
      ],
    ],
  );
  t.same(
    [linkNames(first).sort(), linkNames(second).sort()],
    [
      ['a', 'lo'],
      ['b', 'c', 'lo'],
    ],
  );
  t.same(await native.netlinkExchangeInTurn([]), []);
});

t.test('no exchange begins after one of which something was refused', async (t) => {
  const [first, second] = [await withNetns(t), await withNetns(t)];
  const received = await native.netlinkExchangeInTurn([
    {
      protocol: NETLINK_ROUTE,
      netns: { path: first },
      datagram: Buffer.concat([bridgeAdd(1, 'a'), bridgeAdd(2, 'a'), bridgeAdd(3, 'b')]),
      answers: 3,
    },
    { protocol: NETLINK_ROUTE, netns: { path: second }, datagram: bridgeAdd(1, 'c'), answers: 1 },
  ]);
  t.equal(received.length, 1);
  t.same(decodeMessages(received[0] ?? []).map(answerErrno), [0, 17, 0]);
  t.same(linkNames(second), ['lo']);
});

t.test('an exchange in the own namespace cannot follow one elsewhere', async (t) => {
  const path = await withNetns(t);
  const own: NetlinkExchangeOptions = { protocol: NETLINK_ROUTE, datagram: linkDump(1), answers: 1 };
  await t.rejects(native.netlinkExchangeInTurn([{ ...own, netns: { path } }, own]), { name: 'TypeError' });
  t.equal((await native.netlinkExchangeInTurn([own, { ...own, netns: { path } }])).length, 2);
  const garbage: unknown[] = [undefined, {}, [undefined], [own, { ...own, answers: -1 }]];
  for (const exchanges of garbage) {
    await t.rejects(native.netlinkExchangeInTurn(exchanges as NetlinkExchangeOptions[]), { name: 'TypeError' });
  }
});

t.test('garbage is a TypeError', async (t) => {
  const valid = { protocol: 0, datagram: linkDump(1), answers: 1 };
  const wrong: unknown[] = [
    undefined,
    {},
    { ...valid, datagram: 'x' },
    { ...valid, datagram: new Uint8Array(8) },
    { ...valid, answers: -1 },
    { ...valid, answers: NaN },
    { ...valid, timeoutMs: -1 },
    { ...valid, sysctls: 'x' },
    { ...valid, sysctls: ['x'] },
    { ...valid, sysctls: [['../../etc/passwd', 'x']] },
    { ...valid, sysctls: [['/etc/passwd', 'x']] },
    { ...valid, sysctls: [['net//ipv4', 'x']] },
    { ...valid, sysctls: [['net/ipv4/ip_forward', 1]] },
    { ...valid, netns: null },
  ];
  for (const options of wrong) {
    await t.rejects(native.netlinkExchange(options as NetlinkExchangeOptions), { name: 'TypeError' });
  }
});

t.test(
  'no thread of the process ever stays in a foreign namespace, and the main thread never leaves its own',
  async (t) => {
    const path = await withNetns(t);
    const own = readlinkSync('/proc/self/ns/net');
    const batch = Array.from({ length: 50 }, () =>
      native.netlinkExchange({ protocol: NETLINK_ROUTE, netns: { path }, datagram: linkDump(1), answers: 1 }),
    );
    t.equal(readlinkSync('/proc/thread-self/ns/net'), own);
    await Promise.all(batch);
    t.equal(readlinkSync('/proc/thread-self/ns/net'), own);
    const foreign = (): number =>
      readdirSync('/proc/self/task').filter((task) => {
        try {
          return readlinkSync(`/proc/self/task/${task}/ns/net`) !== own;
        } catch {
          return false;
        }
      }).length;
    await until('the threads to end', () => foreign() === 0);
  },
);

t.test('an exchange keeps nothing of a namespace: deleting it takes its veth along', async (t) => {
  const near = await withNetns(t);
  const far = newNetnsPath();
  await native.netnsCreate(far);
  ip(near, 'link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far', 'netns', far.slice('/run/netns/'.length));
  await native.netlinkExchange({ protocol: NETLINK_ROUTE, netns: { path: far }, datagram: linkDump(1), answers: 1 });
  t.same(linkNames(near).sort(), ['lo', 'near']);
  await native.netnsDelete(far);
  await until('the pair to go', () => linkNames(near).length === 1);
});

t.test('two hundred exchanges leave no descriptor and no thread', async (t) => {
  const path = await withNetns(t);
  const options = { protocol: NETLINK_ROUTE, netns: { path }, datagram: linkGet(1, 9999), answers: 1 };
  await native.netlinkExchange(options);
  const descriptors = openDescriptors();
  for (let round = 0; round < 10; round += 1) {
    await Promise.all(Array.from({ length: 20 }, () => native.netlinkExchange(options)));
    await t.rejects(native.netlinkExchange({ ...options, answers: 2, timeoutMs: 1 }), { code: 'ETIMEDOUT' });
  }
  await until('the threads to end', () => threadNames().length === 0);
  t.same(openDescriptors(), descriptors);
});
