import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { CallServer } from '../../native/api.js';
import { loadNative } from '../../native/index.js';
import { waitFor } from '../lab/wait.js';

const native = loadNative();

interface Served {
  readonly path: string;
  readonly server: CallServer;
  /** What was called, by number. */
  readonly calls: Map<number, string>;
}

function serve(t: Test, { maxCalls = 10, maxBytes = 100 } = {}): Served {
  // The test's own folder has too long a name for a socket.
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-calls-'));
  const path = join(folder, 'calls.sock');
  const calls = new Map<number, string>();
  const onCall = (call: number, said: Buffer): void => void calls.set(call, said.toString());
  const server = native.callServe({ path, maxBytes, maxCalls, onCall });
  t.teardown(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });
  return { path, server, calls };
}

async function open(t: Test, path: string): Promise<Socket> {
  const socket = connect({ path });
  t.teardown(() => socket.destroy());
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

function said(text: string): Buffer {
  const bytes = Buffer.alloc(4 + Buffer.byteLength(text));
  bytes.writeUInt32BE(Buffer.byteLength(text));
  bytes.write(text, 4);
  return bytes;
}

async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'close');
  return Buffer.concat(chunks);
}

t.test('an answer of megabytes comes whole, and a call is answered once', async (t) => {
  const { path, server, calls } = serve(t);
  const socket = await open(t, path);
  socket.write(said('more'));
  await waitFor('the call', () => calls.size === 1);
  const [[call = 0] = []] = calls;
  const text = 'ä'.repeat(2 << 20);
  const answer = readAll(socket);
  server.answer(call, 1, text);
  server.answer(call, 0, 'again');
  const bytes = await answer;
  t.equal(bytes[0], 1);
  t.equal(bytes.readUInt32BE(1), Buffer.byteLength(text));
  t.ok(bytes.subarray(5).equals(Buffer.from(text)), 'nothing is missing');
  t.ok(server.isGone(call));
});

t.test('calls at one time are told apart', async (t) => {
  const { path, server, calls } = serve(t);
  const sockets = await Promise.all(['a', 'b', 'c'].map(async (name) => ({ name, socket: await open(t, path) })));
  for (const { name, socket } of sockets) socket.write(said(name));
  await waitFor('all calls', () => calls.size === 3);
  const answers = sockets.map(async ({ name, socket }) => [name, (await readAll(socket)).toString('utf8', 5)]);
  for (const [call, name] of [...calls].reverse()) server.answer(call, 0, `to ${name}`);
  t.same(Object.fromEntries(await Promise.all(answers)), { a: 'to a', b: 'to b', c: 'to c' });
});

t.test('one caller too many is turned away, and those before it are served', async (t) => {
  const { path, server, calls } = serve(t, { maxCalls: 2 });
  const [first, second] = [await open(t, path), await open(t, path)];
  const turnedAway = await open(t, path);
  t.same(await readAll(turnedAway), Buffer.alloc(0));
  first.write(said('first'));
  await waitFor('the call', () => calls.size === 1);
  const answer = readAll(first);
  for (const call of calls.keys()) server.answer(call, 0, 'served');
  t.equal((await answer).toString('utf8', 5), 'served');
  const next = await open(t, path);
  next.write(said('next'));
  await waitFor('a call in its place', () => calls.size === 2);
  second.destroy();
});

t.test('who has not said all in time is let go, who waits for an answer is not', async (t) => {
  const { path, server, calls } = serve(t);
  const [slow, silent, waiting] = [await open(t, path), await open(t, path), await open(t, path)];
  slow.write(said('slow').subarray(0, 6));
  waiting.write(said('waiting'));
  await waitFor('the call', () => calls.size === 1);
  server.tidy(60_000);
  const ended = Promise.all([readAll(slow), readAll(silent)]);
  server.tidy(0);
  t.same(await ended, [Buffer.alloc(0), Buffer.alloc(0)]);
  const answer = readAll(waiting);
  for (const call of calls.keys()) server.answer(call, 0, '');
  t.same(await answer, Buffer.from([0, 0, 0, 0, 0]));
});

t.test('closing ends all connections and takes the socket away', async (t) => {
  const { path, server, calls } = serve(t);
  const [waiting, silent] = [await open(t, path), await open(t, path)];
  waiting.write(said('waiting'));
  await waitFor('the call', () => calls.size === 1);
  const ended = Promise.all([readAll(waiting), readAll(silent)]);
  server.close();
  await ended;
  t.notOk(existsSync(path));
  server.close();
  for (const call of calls.keys()) {
    t.ok(server.isGone(call));
    server.answer(call, 0, 'too late');
  }
});

t.test('what cannot be is said', (t) => {
  const { path } = serve(t);
  const options = { maxBytes: 1, maxCalls: 1, onCall: () => undefined };
  t.throws(() => native.callServe({ ...options, path }), { code: 'EADDRINUSE', syscall: `bind ${path}` });
  t.throws(() => native.callServe({ ...options, path: `/tmp/${'x'.repeat(200)}` }), { code: 'ENAMETOOLONG' });
  t.throws(() => native.callServe({ ...options, path, maxCalls: 0 }), TypeError);
  t.end();
});
