import { writeFileSync } from 'node:fs';
import { createSocket } from 'node:dgram';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ConnectionShare } from '../../agent/dns/connection-share.js';
import { Forwarder } from '../../agent/dns/forwarder.js';
import { listenTcp } from '../../agent/dns/listener.js';
import { Responder } from '../../agent/dns/responder.js';
import { DnsTables } from '../../agent/dns/tables.js';
import { listenUdp } from '../../agent/dns/udp-listener.js';
import { HostResolver } from '../../agent/dns/upstreams.js';
import { FLAG, headerBytes, RCODE, TYPE } from '../../lib/dns/constants.js';
import { decodeMessage, type Message } from '../../lib/dns/message.js';
import { encodeName } from '../../lib/dns/name.js';
import { encodeQuery, encodeQuestion } from '../../lib/dns/query.js';
import { loadNative } from '../../native/index.js';
import { waitFor } from '../lab/wait.js';

const upstreamAddress = '203.0.113.7';

function question(name: string, id: number, udpBytes: number | null = null): Buffer {
  return encodeQuery({ id, question: encodeQuestion(encodeName(name), TYPE.A), udpBytes });
}

function framed(message: Buffer): Buffer {
  return Buffer.concat([Buffer.of(message.length >> 8, message.length & 255), message]);
}

/** The answer of an upstream; over UDP it may say only that it is too long. */
function upstreamAnswer(query: Buffer, isTruncated: boolean): Buffer {
  const end = query.indexOf(0, headerBytes) + 5;
  const record = Buffer.from('c00c000100010000003c0004cb007107', 'hex');
  const bytes = Buffer.concat([query.subarray(0, end), ...(isTruncated ? [] : [record])]);
  bytes.writeUInt16BE(FLAG.QR | FLAG.RD | FLAG.RA | (isTruncated ? FLAG.TC : 0), 2);
  bytes.writeUInt16BE(isTruncated ? 0 : 1, 6);
  bytes.writeUInt32BE(0, 8);
  return bytes;
}

/** Upstream whose UDP answers are all truncated, so that only TCP gives an address; counts both. */
async function startUpstream(t: Test) {
  const counts = { udp: 0, tcp: 0 };
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (part) => {
      counts.tcp += 1;
      socket.end(framed(upstreamAnswer(part.subarray(2), false)));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const udp = createSocket('udp4');
  udp.on('message', (query, from) => {
    counts.udp += 1;
    udp.send(upstreamAnswer(query, true), from.port, from.address);
  });
  await new Promise<void>((resolve) => udp.bind(port, '127.0.0.1', resolve));
  t.teardown(() => {
    udp.close();
    server.close();
  });
  return { counts, server: `127.0.0.1#${port}` };
}

/** A socket that takes queries and never answers. */
async function startSilence(t: Test): Promise<string> {
  const udp = createSocket('udp4');
  await new Promise<void>((resolve) => udp.bind(0, '127.0.0.1', resolve));
  t.teardown(() => udp.close());
  return `127.0.0.1#${udp.address().port}`;
}

/** A name server with `web`, and `many` at 60 addresses, on a loopback port, for whoever asks. */
async function startServer(t: Test, { servers = [] as readonly string[], ours = '' } = {}) {
  const tables = new DnsTables('tsnet.internal');
  tables.apply({ do: 'begin', settings: { domain: 'tsnet.internal', upstreams: servers } });
  const network = { id: 'n1', name: 'front', subnets: ['10.1.0.0/16'] };
  tables.apply({ do: 'network', value: { ...network, internal: false, servers: [], listen: [] } });
  for (let index = 0; index <= 60; index++) {
    const id = `e${index}`;
    const name = index === 0 ? 'web' : 'many';
    const names = {
      network: 'n1',
      host: 'h1',
      generation: 1,
      name,
      aliases: [],
      callerId: id,
      state: 'attached',
    } as const;
    const addresses = [`10.1.0.${index + 10}`];
    tables.apply({ do: 'endpoint', value: { id, ...names, addresses, labels: {}, ports: [] } });
  }
  for (const [endpoint, sandbox] of ['1', '2'].entries())
    tables.apply({ do: 'own', value: { endpoint: `e${endpoint}`, sandbox, inside: null } });
  tables.apply({ do: 'end' });
  const forwarder = new Forwarder({ isOurs: (address) => address === ours, tryMs: 200 });
  const responder = new Responder({ tables, forwarder, hostServers: () => servers });
  const options = {
    native: loadNative(),
    responder,
    address: '127.0.0.1',
    port: 0,
    connections: new ConnectionShare(),
    // One sandbox has several addresses.
    scopeOf: (address: string) => tables.scopeOf(address.startsWith('127.0.1.') ? 'e1' : 'e0'),
    onError: (error: Error) => {
      throw error;
    },
  };
  const [udp, tcp] = [await listenUdp(options), await listenTcp({ ...options, address: '0.0.0.0' })];
  const other = await listenTcp({ ...options, address: '0.0.0.0' });
  t.teardown(() => {
    udp.close();
    tcp.close();
    other.close();
  });
  return { udpPort: udp.port, tcpPort: tcp.port, otherTcpPort: other.port };
}

/** A client with a UDP socket: sends anything, and asks. */
async function newClient(t: Test, port: number) {
  const socket = createSocket('udp4');
  const waiting = new Map<number, (answer: Buffer) => void>();
  socket.on('message', (answer) => waiting.get(answer.readUInt16BE(0))?.(answer));
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  t.teardown(() => socket.close());
  const send = (bytes: Buffer) => new Promise((resolve) => socket.send(bytes, port, '127.0.0.1', resolve));
  const ask = (query: Buffer): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no answer')), 10_000);
      waiting.set(query.readUInt16BE(0), (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      void send(query);
    });
  return { send, ask };
}

/** What a connection brings until it ends, as messages. */
function messagesOf(socket: Socket): Promise<Message[]> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    socket.on('data', (part) => parts.push(part));
    socket.on('error', reject);
    socket.on('close', () => {
      const bytes = Buffer.concat(parts);
      const messages: Message[] = [];
      for (let at = 0; at + 2 <= bytes.length; at += 2 + bytes.readUInt16BE(at))
        messages.push(decodeMessage(bytes.subarray(at + 2, at + 2 + bytes.readUInt16BE(at))));
      resolve(messages);
    });
  });
}

const dataOf = ({ answers }: Message): (string | null)[] => answers.map(({ data }) => data);

t.test('malformed, looping and cut datagrams leave the server answering', async (t) => {
  const { udpPort } = await startServer(t);
  const { send, ask } = await newClient(t, udpPort);
  const good = question('web', 7, 1232);
  const loop = Buffer.concat([good.subarray(0, headerBytes), Buffer.from('c00c00010001', 'hex')]);
  for (let size = 0; size < good.length; size++) await send(good.subarray(0, size));
  for (let at = 2; at < good.length; at++) {
    const changed = Buffer.from(good);
    changed[at] = 0xff;
    changed.writeUInt16BE(1000 + at, 0);
    await send(changed);
  }
  await send(Buffer.alloc(60_000, 0xc0));
  const refused = decodeMessage(await ask(Buffer.concat([Buffer.of(0, 9), loop.subarray(2)])));
  t.equal(refused.rcode, RCODE.FORMERR, 'a name that points at itself');
  t.same(dataOf(decodeMessage(await ask(question('web', 8)))), ['10.1.0.10']);
});

t.test('answers fit 512 bytes, what EDNS allows, or come whole by TCP', async (t) => {
  const { udpPort, tcpPort } = await startServer(t);
  const { ask } = await newClient(t, udpPort);
  for (const [id, udpBytes, limit] of [
    [1, null, 512],
    [2, 700, 700],
    [3, 65_000, 1232],
  ] as const) {
    const bytes = await ask(question('many.front', id, udpBytes));
    t.ok(bytes.length <= limit, `${bytes.length} of ${limit} bytes`);
    const count = decodeMessage(bytes).answers.length;
    t.equal((bytes.readUInt16BE(2) & FLAG.TC) !== 0, count < 60, `${count} records, and TC says whether all`);
  }
  const socket = connect({ host: '127.0.0.1', port: tcpPort });
  const messages = messagesOf(socket);
  socket.end(framed(question('many.front', 4)));
  t.equal((await messages)[0]?.answers.length, 60);
});

t.test('pipelined queries are all answered, also after the client has closed its side', async (t) => {
  const upstream = await startUpstream(t);
  const { tcpPort } = await startServer(t, { servers: [upstream.server] });
  const socket = connect({ host: '127.0.0.1', port: tcpPort });
  const messages = messagesOf(socket);
  const queries = Array.from({ length: 24 }, (_, id) => question(id % 2 === 0 ? 'web' : `x${id}.example.com`, id));
  socket.end(Buffer.concat(queries.map(framed)));
  const answers = (await messages).sort((a, b) => a.id - b.id);
  t.same(
    answers.map((answer) => [answer.id, ...dataOf(answer)]),
    queries.map((_, id) => [id, id % 2 === 0 ? '10.1.0.10' : upstreamAddress]),
  );
});

t.test('connections that never say anything cost their client only, whatever address they come from', async (t) => {
  const { tcpPort, otherTcpPort } = await startServer(t);
  const held = Array.from({ length: 40 }, (_, index) =>
    connect({
      host: '127.0.0.1',
      port: index % 3 === 0 ? otherTcpPort : tcpPort,
      localAddress: index % 2 === 0 ? '127.0.0.2' : '127.0.0.3',
    }),
  );
  t.teardown(() => held.forEach((socket) => socket.destroy()));
  for (const socket of held) socket.on('error', () => undefined).resume();
  for (const socket of held) socket.write(Buffer.of(0, 40, 1));
  const closed = (): number => held.filter(({ destroyed }) => destroyed).length;
  await waitFor('those beyond the limit to be closed', () => closed() === 20);
  const ask = async (localAddress: string): Promise<(string | null)[][]> => {
    const socket = connect({ host: '127.0.0.1', port: tcpPort, localAddress });
    const messages = messagesOf(socket);
    socket.end(framed(question('web', 1)));
    return (await messages.catch(() => [])).map(dataOf);
  };
  t.same(await ask('127.0.1.1'), [['10.1.0.10']], 'another client');
  t.same(await ask('127.0.0.4'), [], 'the same client, from one more address');
  t.equal(closed(), 20, 'its others are still there');
  held.find(({ destroyed }) => !destroyed)?.destroy();
  await waitFor('the place of a closed one to be free', async () => (await ask('127.0.0.4')).length === 1);
});

t.test('a silent upstream is passed over, and a truncated answer is fetched by TCP', async (t) => {
  const [silent, upstream] = [await startSilence(t), await startUpstream(t)];
  const { udpPort } = await startServer(t, { servers: [silent, upstream.server] });
  const { ask } = await newClient(t, udpPort);
  t.same(dataOf(decodeMessage(await ask(question('example.com', 1)))), [upstreamAddress]);
  t.same(upstream.counts, { udp: 1, tcp: 1 });
  t.same(dataOf(decodeMessage(await ask(question('example.com', 2)))), [upstreamAddress], 'from the cache');
  t.same(upstream.counts, { udp: 1, tcp: 1 });
});

/** What a bad upstream says instead of an answer; null: nothing. */
type Answering = (query: Buffer) => Buffer | null;

async function startBad(t: Test, answering: Answering, isElsewhere = false): Promise<string> {
  const [udp, other] = [createSocket('udp4'), createSocket('udp4')];
  for (const socket of [udp, other]) {
    await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
    t.teardown(() => socket.close());
  }
  udp.on('message', (query, from) => {
    const answer = answering(query);
    if (answer !== null) (isElsewhere ? other : udp).send(answer, from.port, from.address);
  });
  return `127.0.0.1#${udp.address().port}`;
}

function withCode(query: Buffer, rcode: number): Buffer {
  const answer = upstreamAnswer(query, false);
  answer.writeUInt16BE(FLAG.QR | FLAG.RD | FLAG.RA | rcode, 2);
  return answer;
}

t.test('an upstream that answers wrongly is passed over', async (t) => {
  const good = await startBad(t, (query) => upstreamAnswer(query, false));
  const changed = (query: Buffer, offset: number): Buffer => {
    const answer = upstreamAnswer(query, false);
    answer[offset] = (answer[offset] ?? 0) ^ 1;
    return answer;
  };
  const bad: Readonly<Record<string, string>> = {
    SERVFAIL: await startBad(t, (query) => withCode(query, RCODE.SERVFAIL)),
    REFUSED: await startBad(t, (query) => withCode(query, RCODE.REFUSED)),
    'another id': await startBad(t, (query) => changed(query, 1)),
    'another name': await startBad(t, (query) => changed(query, headerBytes + 1)),
    'another type': await startBad(t, (query) => changed(query, query.indexOf(0, headerBytes) + 2)),
    'from another port': await startBad(t, (query) => upstreamAnswer(query, false), true),
    'the query itself': await startBad(t, (query) => query),
    'half an answer': await startBad(t, (query) => upstreamAnswer(query, false).subarray(0, -6)),
    'a header': await startBad(t, (query) => upstreamAnswer(query, false).subarray(0, headerBytes)),
    nothing: await startBad(t, () => null),
  };
  for (const [name, server] of Object.entries(bad)) {
    const both = await newClient(t, (await startServer(t, { servers: [server, good] })).udpPort);
    t.same(dataOf(decodeMessage(await both.ask(question('example.com', 1)))), [upstreamAddress], name);
    const alone = await newClient(t, (await startServer(t, { servers: [server] })).udpPort);
    const { rcode } = decodeMessage(await alone.ask(question('example.com', 1)));
    t.equal(rcode, name === 'REFUSED' ? RCODE.REFUSED : RCODE.SERVFAIL, `${name} alone`);
  }
});

t.test('what follows an upstream’s answer is not passed on', async (t) => {
  const long = await startBad(t, (query) => Buffer.concat([upstreamAnswer(query, false), Buffer.from('rest')]));
  const { ask } = await newClient(t, (await startServer(t, { servers: [long] })).udpPort);
  for (const [id, udpBytes] of [
    [1, 1232],
    [2, null],
  ] as const) {
    const bytes = await ask(question('example.com', id, udpBytes));
    const { endOffset, additionals } = decodeMessage(bytes);
    t.equal(endOffset, bytes.length);
    t.same(
      additionals.map(({ type }) => type),
      udpBytes === null ? [] : [TYPE.OPT],
    );
  }
});

t.test('an upstream that knows no EDNS is asked without', async (t) => {
  const old = await startBad(t, (query) =>
    query.readUInt16BE(10) > 0 ? withCode(query, RCODE.FORMERR) : upstreamAnswer(query, false),
  );
  const { ask } = await newClient(t, (await startServer(t, { servers: [old] })).udpPort);
  t.same(dataOf(decodeMessage(await ask(question('example.com', 1, 1232)))), [upstreamAddress]);
});

t.test('an upstream that is this server is not asked', async (t) => {
  const upstream = await startUpstream(t);
  const { udpPort } = await startServer(t, { servers: [upstream.server], ours: '127.0.0.1' });
  const { ask } = await newClient(t, udpPort);
  t.equal(decodeMessage(await ask(question('example.com', 1))).rcode, RCODE.SERVFAIL);
  t.same(upstream.counts, { udp: 0, tcp: 0 });
});

t.test("the host's resolv.conf is read again when it changes", (t) => {
  const file = join(t.testdir(), 'resolv.conf');
  writeFileSync(file, 'nameserver 198.18.0.1\n');
  const resolver = new HostResolver(file);
  t.same(resolver.get(0).nameservers, ['198.18.0.1']);
  writeFileSync(file, 'nameserver 198.18.0.22\nnameserver 198.18.0.3\n');
  t.same(resolver.get(500).nameservers, ['198.18.0.1'], 'looked at once a second');
  t.same(resolver.get(1500).nameservers, ['198.18.0.22', '198.18.0.3']);
  t.end();
});
