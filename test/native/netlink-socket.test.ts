import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';

import type { NativeError, NetlinkOpenOptions, NetlinkSocket } from '../../native/api.js';
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
  NLMSG_DONE,
  openDescriptors,
  RTM_NEWLINK,
  RTNLGRP_LINK,
  threadNames,
  until,
  withNetns,
} from './fixtures.js';

interface Opened {
  readonly socket: NetlinkSocket;
  readonly received: Buffer[];
  readonly errors: NativeError[];
}

async function open(path: string, options: Partial<NetlinkOpenOptions> = {}): Promise<Opened> {
  const received: Buffer[] = [];
  const errors: NativeError[] = [];
  const socket = await native.netlinkOpen({
    protocol: NETLINK_ROUTE,
    netns: { path },
    onMessage: (datagram) => received.push(datagram),
    onError: (error) => errors.push(error),
    ...options,
  });
  return { socket, received, errors };
}

t.test('a dump sent by hand returns the links of the namespace the socket was opened in', async (t) => {
  const path = await withNetns(t);
  ip(path, 'link', 'add', 'only-here', 'type', 'bridge');
  const { socket, received, errors } = await open(path);
  t.ok(socket.portid > 0);
  t.equal(socket.closed, false);
  await socket.send(linkDump(77));
  await until('the end of the dump', () => decodeMessages(received).some((message) => message.type === NLMSG_DONE));
  const links = decodeMessages(received).filter((message) => message.type === RTM_NEWLINK);
  t.equal(links.length, 2);
  t.ok(links.every((link) => link.seq === 77));
  t.ok(links.some((link) => link.body.includes('only-here\0')));
  t.same(errors, []);
  socket.close();
  t.equal(socket.closed, true);
});

t.test('many messages of one send are answered each, in order, and errors carry the kernel text', async (t) => {
  const path = await withNetns(t);
  const { socket, received } = await open(path);
  t.teardown(() => socket.close());
  const batch = [bridgeAdd(1, 'a'), bridgeAdd(2, 'a'), bridgeAdd(3, 'b'), linkGet(4, 9999)];
  await socket.send(Buffer.concat(batch));
  await until('four answers', () => decodeMessages(received).filter((m) => answerErrno(m) !== undefined).length === 4);
  const answers = decodeMessages(received).filter((message) => answerErrno(message) !== undefined);
  t.same(
    answers.map((answer) => answer.seq),
    [1, 2, 3, 4],
  );
  t.same(answers.map(answerErrno), [0, 17, 0, 19]);
  t.same(linkNames(path).sort(), ['a', 'b', 'lo']);
});

t.test('sends keep their order, and sendSync works on the calling thread', async (t) => {
  const path = await withNetns(t);
  const { socket, received } = await open(path);
  t.teardown(() => socket.close());
  await Promise.all(Array.from({ length: 200 }, (_, index) => socket.send(linkGet(index + 1, 9999))));
  socket.sendSync(linkGet(201, 9999));
  await until('all answers', () => decodeMessages(received).length === 201);
  t.same(
    decodeMessages(received).map((message) => message.seq),
    Array.from({ length: 201 }, (_, index) => index + 1),
  );
});

t.test('the sent bytes are those at the time of the call', async (t) => {
  const path = await withNetns(t);
  const { socket, received } = await open(path);
  t.teardown(() => socket.close());
  const datagram = linkGet(5, 9999);
  const sent = socket.send(datagram);
  datagram.fill(0xff);
  await sent;
  await until('the answer', () => received.length === 1);
  t.equal(decodeMessages(received)[0]?.seq, 5);
});

t.test('a group member hears of links that others make', async (t) => {
  const path = await withNetns(t);
  const { socket, received } = await open(path, { groups: [RTNLGRP_LINK] });
  t.teardown(() => socket.close());
  ip(path, 'link', 'add', 'heard', 'type', 'bridge');
  await until('the event', () => decodeMessages(received).some((message) => message.body.includes('heard\0')));
});

t.test('an overrun is reported as ENOBUFS and the socket goes on', async (t) => {
  const path = await withNetns(t);
  const { socket, received, errors } = await open(path, { groups: [RTNLGRP_LINK], receiveBufferBytes: 4096 });
  t.teardown(() => socket.close());
  const flood = await open(path);
  // On the calling thread, so that nothing can be received meanwhile.
  flood.socket.sendSync(bridgesAdd('flood', 30));
  flood.socket.close();
  await until('the error', () => errors.length > 0);
  t.equal(errors[0]?.code, 'ENOBUFS');
  t.equal(errors[0]?.syscall, 'recvmsg');
  t.equal(socket.closed, false);
  t.ok(decodeMessages(received).length < 30);
  t.equal(linkNames(path).length, 31);
  ip(path, 'link', 'add', 'afterwards', 'type', 'bridge');
  await until('the later event', () => decodeMessages(received).some((m) => m.body.includes('afterwards\0')));
  t.ok(errors.every((error) => error.code === 'ENOBUFS'));
});

t.test('closing twice, and using a closed socket, is harmless', async (t) => {
  const path = await withNetns(t);
  const { socket } = await open(path);
  socket.close();
  socket.close();
  await t.rejects(socket.send(linkDump(1)), { code: 'EBADF', errno: 9, syscall: 'sendmsg' });
  t.throws(() => socket.sendSync(linkDump(1)), { code: 'EBADF' });
});

t.test('closing while sends wait rejects them, and no callback follows', async (t) => {
  const path = await withNetns(t);
  const { socket, received, errors } = await open(path, { groups: [RTNLGRP_LINK] });
  const sends = [socket.send(bridgesAdd('x', 10)), socket.send(linkDump(1)), socket.send(linkDump(2))];
  const settled = Promise.allSettled(sends);
  socket.close();
  const reasons = (await settled).map((send) => (send.status === 'rejected' ? (send.reason as NativeError).code : ''));
  t.same(reasons, ['EBADF', 'EBADF', 'EBADF']);
  const before = received.length;
  await until('the sending thread to end', () => threadNames().length === 0);
  t.equal(received.length, before);
  t.same(errors, []);
});

t.test('a callback may close the socket that calls it', async (t) => {
  const path = await withNetns(t);
  let calls = 0;
  const { socket } = await open(path, {
    onMessage: () => {
      calls += 1;
      socket.close();
    },
  });
  const sends = Array.from({ length: 20 }, (_, index) => socket.send(linkGet(index, 9999)));
  await Promise.allSettled(sends);
  await until('the close', () => socket.closed);
  t.equal(calls, 1);
});

t.test('garbage is a TypeError', async (t) => {
  const path = await withNetns(t);
  const { socket, received } = await open(path);
  t.teardown(() => socket.close());
  const cut = linkDump(1).subarray(0, 31);
  const zeroLength = Buffer.alloc(16);
  const second = Buffer.concat([linkDump(1), Buffer.alloc(16)]);
  const detached = new Uint8Array(32);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const values: unknown[] = [
    undefined,
    null,
    5,
    'text',
    {},
    [],
    Symbol('x'),
    10n,
    () => 0,
    new ArrayBuffer(32),
    new Uint16Array(16),
    new DataView(new ArrayBuffer(32)),
    new Uint8Array(0),
    new Uint8Array(15),
    new Uint8Array(64).fill(0xff),
    cut,
    zeroLength,
    second,
    detached,
  ];
  for (const value of values) {
    t.throws(() => socket.sendSync(value as Uint8Array), { name: 'TypeError' });
    await t.rejects(socket.send(value as Uint8Array), { name: 'TypeError' });
  }
  t.same(received, []);
});

t.test('wrong options are a TypeError', async (t) => {
  const valid = { protocol: 0, onMessage: () => undefined, onError: () => undefined };
  const thrower = {
    get path(): string {
      throw new RangeError('mine');
    },
  };
  const wrong: unknown[] = [
    undefined,
    null,
    7,
    {},
    { ...valid, protocol: '0' },
    { ...valid, protocol: -1 },
    { ...valid, protocol: 1.5 },
    { ...valid, protocol: 1e9 },
    { ...valid, onMessage: 1 },
    { ...valid, onError: undefined },
    { ...valid, groups: 1 },
    { ...valid, groups: [0] },
    { ...valid, groups: ['x'] },
    { ...valid, strictCheck: 1 },
    { ...valid, receiveBufferBytes: -1 },
    { ...valid, netns: 'x' },
    { ...valid, netns: {} },
    { ...valid, netns: { path: 'a', pid: 1 } },
    { ...valid, netns: { path: '' } },
    { ...valid, netns: { path: 'a\0b' } },
    { ...valid, netns: { pid: 0 } },
    { ...valid, netns: { fd: -1 } },
  ];
  for (const options of wrong) {
    await t.rejects(native.netlinkOpen(options as NetlinkOpenOptions), { name: 'TypeError' });
  }
  await t.rejects(native.netlinkOpen({ ...valid, netns: thrower }), { name: 'RangeError', message: 'mine' });
  await t.rejects(native.netlinkOpen({ ...valid, protocol: 31 }), { code: 'EPROTONOSUPPORT' });
  await t.rejects(native.netlinkOpen({ ...valid, netns: { path: '/run/netns/none-such' } }), {
    code: 'ENOENT',
    syscall: 'open /run/netns/none-such',
  });
  await t.rejects(native.netlinkOpen({ ...valid, netns: { path: '/etc/passwd' } }), { code: 'EINVAL' });
  await t.rejects(native.netlinkOpen({ ...valid, netns: { fd: 19_999 } }), { code: 'EBADF' });
});

t.test('an exception in a callback is an uncaught one, and the next message is still delivered', (t) => {
  const script = `
    import { loadNative } from ${JSON.stringify(new URL('../../native/index.js', import.meta.url).href)};
    let seen = 0;
    process.on('uncaughtException', (error) => console.log(error.message));
    const socket = await loadNative().netlinkOpen({
      protocol: 0,
      onMessage: () => { seen += 1; if (seen === 2) socket.close(); throw new Error('thrown ' + seen); },
      onError: () => undefined,
    });
    const message = Buffer.from('20000000120005000100000000000000000000000f2700000000000000000000', 'hex');
    socket.sendSync(message);
    socket.sendSync(message);
  `;
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    cwd: fileURLToPath(new URL('.', import.meta.url)),
    timeout: 20_000,
  });
  t.equal(run.stdout, 'thrown 1\nthrown 2\n', run.stderr);
  t.equal(run.status, 0);
  t.end();
});

t.test('two hundred sockets opened and closed leave no descriptor and no thread', async (t) => {
  const path = await withNetns(t);
  (await open(path)).socket.close();
  const descriptors = openDescriptors();
  for (let round = 0; round < 10; round += 1) {
    const all = await Promise.all(Array.from({ length: 20 }, () => open(path, { groups: [RTNLGRP_LINK] })));
    await Promise.all(all.map(({ socket }) => socket.send(linkDump(1))));
    for (const { socket } of all) socket.close();
    await t.rejects(open('/run/netns/none-such'), { code: 'ENOENT' });
  }
  await until('the threads to end', () => threadNames().length === 0);
  t.same(openDescriptors(), descriptors);
});

t.test('a paused socket receives nothing, and all that has come once it is resumed', async (t) => {
  const path = await withNetns(t);
  const { socket, received, errors } = await open(path, { groups: [RTNLGRP_LINK] });
  const names = (): string[] =>
    ['one', 'two', 'three'].filter((name) => decodeMessages(received).some(({ body }) => body.includes(`${name}\0`)));
  socket.pause();
  socket.pause();
  for (const name of ['one', 'two']) ip(path, 'link', 'add', name, 'type', 'bridge');
  await new Promise(setImmediate);
  t.same(received, []);
  socket.resume();
  socket.resume();
  await until('what has come meanwhile', () => names().includes('one') && names().includes('two'));
  ip(path, 'link', 'add', 'three', 'type', 'bridge');
  await until('what comes afterwards', () => names().includes('three'));
  socket.pause();
  socket.close();
  t.same(errors, []);
  t.doesNotThrow(() => [socket.pause(), socket.resume()], 'on a closed one they do nothing');
});
