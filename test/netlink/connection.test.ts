import t from 'tap';
import { Writer } from '../../lib/bytes/writer.js';
import { assertBatch, encodeBatches } from '../../lib/netlink/batch.js';
import { NetlinkConnection } from '../../lib/netlink/connection.js';
import { NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, RTM_NEWLINK } from '../../lib/netlink/constants.js';
import { exchange, exchangeDump, exchangeGet } from '../../lib/netlink/exchange.js';
import { linkFromDump, linkGetMessage, linkListMessage, linkSetMessage } from '../../lib/netlink/link.js';
import { encodeLink } from '../../lib/netlink/link-value.js';
import { eachMessage, type NetlinkMessage } from '../../lib/netlink/message.js';
import type { NativeApi, NativeError, NetlinkOpenOptions } from '../../native/api.js';
import { scratchNetns, until } from './scratch.js';

interface Sent {
  readonly type: number;
  readonly seq: number;
}

/** A message as the kernel would send it. */
function answer(type: number, options: { seq: number; flags?: number; body: (writer: Writer) => void }): Buffer {
  const writer = new Writer();
  writer.zeros(16);
  options.body(writer);
  writer.setU32le(0, writer.length);
  writer.setU16le(4, type);
  writer.setU16le(6, options.flags ?? 0);
  writer.setU32le(8, options.seq);
  writer.zeros(-writer.length & 3);
  return Buffer.from(writer.written());
}

function ack(seq: number, errno = 0): Buffer {
  return answer(NLMSG_ERROR, {
    seq,
    flags: 0x100,
    body: (writer) => {
      writer.u32le(-errno >>> 0);
      writer.zeros(16);
    },
  });
}

function link(seq: number, ifname: string, flags = 2): Buffer {
  return answer(RTM_NEWLINK, { seq, flags, body: (writer) => encodeLink(writer, { ifname }) });
}

function done(seq: number, flags = 2): Buffer {
  return answer(NLMSG_DONE, { seq, flags, body: (writer) => writer.u32le(0) });
}

interface Fake {
  readonly native: NativeApi;
  readonly sends: Sent[][];
  options: NetlinkOpenOptions | undefined;
  closes: number;
}

function nativeError(code: string, errno: number): NativeError {
  return Object.assign(new Error(`recvmsg: ${code}`), { code, errno, syscall: 'recvmsg' });
}

/** A kernel that answers each send as `respond` says. */
function fakeNative(respond: (sent: Sent[], send: number) => Buffer[]): Fake {
  const parse = (datagram: Uint8Array): Sent[] => {
    const sent: Sent[] = [];
    eachMessage(Buffer.from(datagram), (header) => sent.push({ type: header.type, seq: header.seq }));
    fake.sends.push(sent);
    return sent;
  };
  const api: Pick<NativeApi, 'netlinkOpen' | 'netlinkExchange'> = {
    async netlinkOpen(options) {
      fake.options = options;
      const send = (datagram: Uint8Array): void => {
        const sent = parse(datagram);
        const number = fake.sends.length - 1;
        setImmediate(() => {
          for (const reply of respond(sent, number)) options.onMessage(reply);
        });
      };
      return {
        portid: 1,
        closed: false,
        send: async (datagram) => send(datagram),
        sendSync: send,
        pause: () => undefined,
        resume: () => undefined,
        close: () => {
          fake.closes++;
        },
      };
    },
    async netlinkExchange(options) {
      const sent = parse(options.datagram);
      return respond(sent, fake.sends.length - 1);
    },
  };
  const fake: Fake = { native: api as NativeApi, sends: [], options: undefined, closes: 0 };
  return fake;
}

const set = (ifindex: number): NetlinkMessage => linkSetMessage(ifindex, { mtu: 1400 });

t.test('an interrupted dump is made again, and only the last one counts', async (t) => {
  const fake = fakeNative((sent, send) => {
    const seq = sent[0]?.seq ?? 0;
    if (send === 0) return [link(seq, 'old'), link(seq, 'older', 2 | NLM_F_DUMP_INTR), done(seq)];
    if (send === 1) return [link(seq, 'old'), done(seq, 2 | NLM_F_DUMP_INTR)];
    return [Buffer.concat([link(seq, 'new'), link(seq, 'newer')]), done(seq)];
  });
  const connection = await NetlinkConnection.open(fake.native);
  const names = await connection.dump(linkListMessage(), (_header, reader) => linkFromDump(reader).ifname);
  t.same(names, ['new', 'newer']);
  t.equal(fake.sends.length, 3);
  const again = await exchangeDump(fake.native, undefined, {
    message: linkListMessage(),
    decode: (_header, reader) => linkFromDump(reader).ifname,
  });
  t.same(again, ['new', 'newer']);
  connection.close();
});

t.test('a dump that never stands still ends in DumpInterrupted', async (t) => {
  const fake = fakeNative((sent) => {
    const seq = sent[0]?.seq ?? 0;
    return [link(seq, 'a', 2 | NLM_F_DUMP_INTR), done(seq)];
  });
  const connection = await NetlinkConnection.open(fake.native);
  const request = { message: linkListMessage(), decode: () => 1 };
  await t.rejects(connection.dump(request.message, request.decode), { name: 'DumpInterrupted', attempts: 10 });
  await t.rejects(exchangeDump(fake.native, undefined, request), { name: 'DumpInterrupted', attempts: 10 });
  t.equal(fake.sends.length, 20);
  connection.close();
});

t.test('dumps wait for one another, requests do not', async (t) => {
  let release: () => void = () => undefined;
  const fake = fakeNative((sent, send) => {
    const first = sent[0] ?? { seq: 0, type: 0 };
    if (send === 0) {
      release = () => fake.options?.onMessage(done(first.seq));
      return [];
    }
    return first.type === linkListMessage().type ? [done(first.seq)] : [ack(first.seq)];
  });
  const connection = await NetlinkConnection.open(fake.native);
  const dumps = [connection.dump(linkListMessage(), () => 1), connection.dump(linkListMessage(), () => 1)];
  await until('the first dump is sent', () => fake.sends.length === 1);
  await connection.request(set(1));
  t.equal(fake.sends.length, 2, 'the second dump is not sent yet');
  release();
  await Promise.all(dumps);
  t.equal(fake.sends.length, 3);
  connection.close();
});

t.test('a dump whose object cannot be decoded rejects when it has ended, and the next one works', async (t) => {
  const fake = fakeNative((sent, send) => {
    const seq = sent[0]?.seq ?? 0;
    const broken = answer(RTM_NEWLINK, { seq, flags: 2, body: (writer) => writer.zeros(3) });
    return send === 0 ? [broken, done(seq)] : [link(seq, 'ok'), done(seq)];
  });
  const connection = await NetlinkConnection.open(fake.native);
  const list = (): Promise<unknown> =>
    connection.dump(linkListMessage(), (_header, reader) => linkFromDump(reader).ifname);
  await t.rejects(list(), { name: 'DecodeError', what: 'ifinfomsg' });
  t.same(await list(), ['ok']);
  connection.close();
});

t.test('one send carries the batch, and the refused message is reported at its index', async (t) => {
  const fake = fakeNative((sent) => [Buffer.concat(sent.map(({ seq }, index) => ack(seq, index === 2 ? 17 : 0)))]);
  const connection = await NetlinkConnection.open(fake.native);
  const result = await connection.batch([1, 2, 3, 4, 5].map(set));
  t.equal(fake.sends.length, 1);
  t.same(
    result.map((error) => error?.code),
    [undefined, undefined, 'EEXIST', undefined, undefined],
  );
  t.equal(result[2]?.message, 'RTM_SETLINK #3 mtu 1400: EEXIST: File exists');
  t.throws(() => assertBatch(result), { code: 'EEXIST' });
  t.throws(() => assertBatch([...result, ...result]), { errors: [{ code: 'EEXIST' }, { code: 'EEXIST' }] });
  t.same(await exchange(fake.native, undefined, [1, 2, 3].map(set)).then((all) => all[2]?.errno), 17);
  connection.close();
});

t.test('a large batch goes out in several sends and its results stay in order', async (t) => {
  const fake = fakeNative((sent) => sent.map(({ seq }) => ack(seq, seq % 700 === 0 ? 19 : 0)));
  const connection = await NetlinkConnection.open(fake.native);
  const messages = Array.from({ length: 1500 }, (_, index) => set(index + 1));
  const result = await connection.batch(messages);
  t.equal(result.length, 1500);
  t.equal(fake.sends.length, 3);
  t.ok(fake.sends.every((sent) => sent.length <= 512));
  const failed = result.flatMap((error, index) => (error === undefined ? [] : [[index, error.request]]));
  t.same(failed, [
    [699, 'RTM_SETLINK #700 mtu 1400'],
    [1399, 'RTM_SETLINK #1400 mtu 1400'],
  ]);
  const wide = encodeBatches(
    Array.from({ length: 100 }, () => linkSetMessage(1, { alias: 'x'.repeat(8000) })),
    0xfffffff0,
  );
  t.ok(wide.length > 10 && wide.every((batch) => batch.datagram.length < 80 * 1024));
  t.ok(wide.every((batch) => batch.firstSeq <= 0xffffffff));
  t.same(await connection.batch([]), []);
  connection.close();
});

t.test('a request without an answer ends at its deadline and says which it was', async (t) => {
  const fake = fakeNative(() => []);
  const connection = await NetlinkConnection.open(fake.native, { timeoutMs: 5 });
  await t.rejects(connection.request(set(7)), {
    name: 'NetlinkTimeout',
    request: 'RTM_SETLINK #7 mtu 1400',
    afterMs: 5,
  });
  await t.rejects(
    connection.dump(linkListMessage(), () => 1),
    { name: 'NetlinkTimeout', request: 'RTM_GETLINK' },
  );
  await t.rejects(exchange(fake.native, undefined, [set(8)]), {
    name: 'NetlinkTimeout',
    request: 'RTM_SETLINK #8 mtu 1400',
  });
  connection.close();
});

t.test('an answer that waited while the process was stopped still counts', async (t) => {
  const { connection } = await scratchNetns(t);
  // After this turn come timers, then sockets.
  await new Promise((resolve) => setImmediate(resolve));
  const request = connection.request(linkSetMessage('lo', { up: true }), { timeoutMs: 5, sync: true });
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  await t.resolves(request);
});

t.test('closing fails what is unanswered and everything afterwards', async (t) => {
  const fake = fakeNative(() => []);
  const connection = await NetlinkConnection.open(fake.native);
  const open = connection.request(set(1));
  connection.close();
  connection.close();
  await t.rejects(open, { name: 'NetlinkClosed', request: 'RTM_SETLINK #1 mtu 1400' });
  await t.rejects(connection.request(set(2)), { name: 'NetlinkClosed' });
  t.equal(connection.closed, true);
  t.equal(fake.closes, 1);
});

t.test('a final socket error closes the connection and is the cause', async (t) => {
  const fake = fakeNative(() => []);
  const connection = await NetlinkConnection.open(fake.native);
  const open = connection.request(set(1));
  fake.options?.onError(nativeError('EBADF', 9));
  await t.rejects(open, { name: 'NetlinkClosed', cause: { code: 'EBADF' } });
  t.equal(connection.closed, true);
});

t.test('lost answers fail the requests that wait, repeat the dumps, and leave the connection usable', async (t) => {
  const fake = fakeNative((sent, send) => {
    const seq = sent[0]?.seq ?? 0;
    if (send === 0) {
      fake.options?.onError(nativeError('ENOBUFS', 105));
      return [];
    }
    if (send === 1) {
      fake.options?.onError(nativeError('ENOBUFS', 105));
      return [link(seq, 'old'), done(seq)];
    }
    return send === 2 ? [link(seq, 'new'), done(seq)] : [ack(seq)];
  });
  const connection = await NetlinkConnection.open(fake.native);
  await t.rejects(connection.request(set(1)), { code: 'ENOBUFS', request: 'RTM_SETLINK #1 mtu 1400' });
  t.same(await connection.dump(linkListMessage(), (_header, reader) => linkFromDump(reader).ifname), ['new']);
  await connection.request(set(2));
  t.equal(connection.closed, false);
  connection.close();
});

t.test('answers of nobody and undecodable datagrams do not disturb', async () => {
  const fake = fakeNative((sent) => [ack(4711, 17), ...sent.map(({ seq }) => ack(seq))]);
  const connection = await NetlinkConnection.open(fake.native);
  await connection.request(set(1), { sync: true });
  fake.options?.onMessage(Buffer.from([1, 2, 3]));
  await connection.request(set(2));
  connection.close();
});

t.test("a send that the kernel does not take fails its request with the error's name", async (t) => {
  const { native } = fakeNative(() => []);
  const refuse = (): never => {
    throw nativeError('EMSGSIZE', 90);
  };
  const failing: NativeApi = {
    ...native,
    netlinkOpen: async (options) => ({
      ...(await native.netlinkOpen(options)),
      send: async () => refuse(),
      sendSync: refuse,
    }),
  };
  const connection = await NetlinkConnection.open(failing);
  const wanted = { code: 'EMSGSIZE', request: 'RTM_SETLINK #1 mtu 1400', cause: { syscall: 'recvmsg' } };
  await t.rejects(connection.request(set(1)), wanted);
  await t.rejects(connection.request(set(1), { sync: true }), wanted);
  connection.close();
});

t.test('an undecodable datagram fails the requests that wait', async (t) => {
  const fake = fakeNative(() => [Buffer.alloc(20, 0xff)]);
  const connection = await NetlinkConnection.open(fake.native);
  await t.rejects(connection.request(set(1)), { name: 'DecodeError', what: 'nlmsghdr' });
  connection.close();
});

t.test('a get that brings nothing is ENODATA', async (t) => {
  const fake = fakeNative((sent) => sent.map(({ seq }) => ack(seq)));
  const connection = await NetlinkConnection.open(fake.native);
  const decode = (): undefined => undefined;
  await t.rejects(connection.get(linkGetMessage('br0'), decode), { code: 'ENODATA', request: 'RTM_GETLINK br0' });
  await t.rejects(exchangeGet(fake.native, undefined, { message: linkGetMessage('br0'), decode }), { code: 'ENODATA' });
  connection.close();
});
