import { createServer, type Socket } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { callServer, splitAnswer } from '../../cli/exchange.js';

const plain = Buffer.from(
  'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n["é"]\n',
  'utf8',
);
const chunked = Buffer.from(
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\n[1,2\r\n3\r\n,3]\r\n0\r\n\r\n',
  'latin1',
);

t.test('an answer is read by its length, by its chunks, or to the end', async (t) => {
  t.same(splitAnswer(plain), { status: 200, body: '["é"]\n' });
  t.same(splitAnswer(chunked), { status: 200, body: '[1,2,3]' });
  t.same(splitAnswer(Buffer.from('HTTP/1.0 503 \r\n\r\n{}')), { status: 503, body: '{}' });
  t.same(splitAnswer(Buffer.from('HTTP/1.1 204 No Content\r\n\r\n')), { status: 204, body: '' });
});

t.test('an answer cut at any byte is refused, never half read', async (t) => {
  for (let length = 0; length < plain.length; length += 1)
    t.throws(() => splitAnswer(plain.subarray(0, length)), Error, `${length} bytes`);
  // The terminal chunk is whole with its line end; the empty trailer after it holds nothing.
  for (let length = 0; length < chunked.length - 2; length += 1)
    t.throws(() => splitAnswer(chunked.subarray(0, length)), Error, `${length} bytes of chunks`);
  t.throws(() => splitAnswer(Buffer.from('SSH-2.0-OpenSSH\r\n\r\n')), /does not speak HTTP/);
  t.throws(() => splitAnswer(Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n')), /cut short/);
});

async function serve(t: Test, answer: (socket: Socket) => void): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-exchange-'));
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    answer(socket);
  });
  await new Promise<void>((done) => server.listen(join(folder, 's'), done));
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((done) => server.close(done));
    rmSync(folder, { recursive: true });
  });
  return `unix:${folder}/s`;
}

t.test('an answer is there when its length has come, though the server keeps the connection', async (t) => {
  for (const cut of [1, plain.indexOf('\r\n\r\n') + 4, plain.length - 1]) {
    const base = await serve(t, (socket) => {
      socket.once('data', () => {
        // With a head in pieces only the end says that all has come.
        const isHeadCut = cut === 1;
        socket.write(plain.subarray(0, cut), () =>
          setImmediate(() => (isHeadCut ? socket.end(plain.subarray(cut)) : socket.write(plain.subarray(cut)))),
        );
      });
    });
    const got = callServer({ base, unreachable: 'ERR_AGENT_UNREACHABLE' }, { method: 'GET', path: '/x' });
    t.same(await got, ['é'], `cut at ${cut}`);
  }
});

t.test('each way a server can fail is an error of its own', async (t) => {
  const request = { method: 'GET', path: '/x' };
  const call = (base: string, timeoutMs = 10_000): Promise<unknown> =>
    callServer({ base, unreachable: 'ERR_CONTROLLER_UNREACHABLE' }, request, { timeoutMs });
  const silent = await serve(t, (socket) => void socket.resume());
  await t.rejects(call(silent, 50), { code: 'ERR_DEADLINE', message: `GET /x at ${silent} took longer than 50 ms` });
  await t.rejects(call(await serve(t, (socket) => socket.end())), {
    code: 'ERR_CONTROLLER_UNREACHABLE',
    message: /it closed the connection/,
  });
  await t.rejects(call(await serve(t, (socket) => socket.end('hello\n'))), {
    code: 'ERR_CONTROLLER_UNREACHABLE',
    message: /does not speak HTTP/,
  });
  await t.rejects(call(await serve(t, (socket) => socket.end(plain.subarray(0, plain.length - 1)))), {
    code: 'ERR_CONTROLLER_UNREACHABLE',
    message: /cut short/,
  });
  await t.rejects(call(await serve(t, (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n<html>'))), {
    code: 'ERR_INTERNAL',
    message: /not JSON/,
  });
  await t.rejects(call(await serve(t, (socket) => socket.end('HTTP/1.1 502 Bad\r\n\r\n{}'))), {
    code: 'ERR_INTERNAL',
    message: /status 502 without an error body/,
  });
  const closed = await serve(t, () => undefined);
  await t.rejects(call(`${closed}.missing`), {
    code: 'ERR_CONTROLLER_UNREACHABLE',
    cause: { code: 'ENOENT', syscall: 'connect' },
  });
  await t.rejects(call(`unix:/${'long'.repeat(27)}`), {
    code: 'ERR_CONTROLLER_UNREACHABLE',
    cause: { code: 'ENAMETOOLONG', syscall: 'connect' },
  });
});

t.test('nothing can add a header', async (t) => {
  const server = { base: 'unix:/nonexistent', unreachable: 'ERR_CONTROLLER_UNREACHABLE' } as const;
  await t.rejects(callServer({ ...server, token: 'a\r\nx: y' }, { method: 'GET', path: '/' }), { code: 'ERR_USAGE' });
  await t.rejects(callServer(server, { method: 'GET', path: '/ HTTP/1.1\r\nx: y' }), { code: 'ERR_USAGE' });
});
