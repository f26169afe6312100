import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { decodeFrame, encodeFrame, maxFrameBytes } from '../../cni-plugin/frame.js';
import type { Caller, CniAnswer } from '../../cni-plugin/plugin.js';
import { serveCalls } from '../../cni-plugin/socket.js';
import { loadNative } from '../../native/index.js';
import { waitFor } from '../lab/wait.js';
import { shimPath } from './program.js';
import { runProgram } from '../lab/program.js';

const frame = encodeFrame({ environment: { CNI_COMMAND: 'STATUS' }, stdin: '{"name":"näme"}' });

type Answer = (frame: Buffer, caller: Caller) => Promise<CniAnswer>;

async function serve(t: Test, answer: Answer): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-cni-'));
  const path = join(folder, 'cni.sock');
  const close = await serveCalls(loadNative(), path, answer);
  t.teardown(() => {
    close();
    rmSync(folder, { recursive: true });
  });
  return path;
}

function lengthOf(bytes: number): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes);
  return length;
}

async function open(path: string): Promise<Socket> {
  const socket = connect({ path });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** All that comes until the other side ends the connection. */
async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'close');
  return Buffer.concat(chunks);
}

t.test('a call is answered with status and text, in however many pieces it comes', async (t) => {
  const path = await serve(t, (bytes) => {
    const { environment, stdin } = decodeFrame(bytes);
    return Promise.resolve({ exit: 1, stdout: `${environment['CNI_COMMAND'] ?? ''} ${stdin}` });
  });
  t.equal(statSync(path).mode & 0o777, 0o600, 'for its owner alone');
  const text = Buffer.from('STATUS {"name":"näme"}');
  const wanted = Buffer.concat([Buffer.from([1]), lengthOf(text.length), text]);
  const call = Buffer.concat([lengthOf(frame.length), frame]);
  for (const size of [1, 3, 5, call.length]) {
    const socket = await open(path);
    const answer = readAll(socket);
    for (let at = 0; at < call.length; at += size)
      await new Promise((sent) => socket.write(call.subarray(at, at + size), sent));
    t.same(await answer, wanted, `in pieces of ${size}`);
  }
});

t.test('a call that is too long, or longer than it says, is ended without being looked at', async (t) => {
  let called = 0;
  const path = await serve(t, () => {
    called += 1;
    return Promise.resolve({ exit: 0, stdout: '' });
  });
  for (const bytes of [
    Buffer.concat([lengthOf(maxFrameBytes + 1), frame]),
    Buffer.from([255, 255, 255, 255]),
    Buffer.concat([lengthOf(frame.length), frame, Buffer.from('more')]),
    Buffer.from('GET /v1/agent/status HTTP/1.1\r\n\r\n'),
  ]) {
    const socket = await open(path);
    const answer = readAll(socket);
    socket.write(bytes);
    t.same(await answer, Buffer.alloc(0));
  }
  t.equal(called, 0);
});

t.test('a caller that goes away is known to have gone', async (t) => {
  let caller: Caller | undefined;
  const path = await serve(t, (_frame, from) => {
    caller = from;
    return new Promise(() => undefined);
  });
  const socket = await open(path);
  socket.write(Buffer.concat([lengthOf(frame.length), frame]));
  await waitFor('the call', () => caller !== undefined, 5000);
  t.equal(caller?.isGone(), false);
  socket.destroy();
  await waitFor('the end of the caller', () => caller?.isGone() === true, 5000);
});

t.test('the native program takes an answer that is none for an agent that is away', async (t) => {
  const run = async (answer: Buffer) => {
    const folder = mkdtempSync(join(tmpdir(), 'tsnet-cni-'));
    const server = createServer((socket) => socket.on('error', () => undefined).once('data', () => socket.end(answer)));
    await new Promise<void>((listening) => server.listen(join(folder, 'cni.sock'), listening));
    const input = JSON.stringify({
      cniVersion: '1.1.0',
      name: 'net',
      type: 'tsnet',
      agentSocket: join(folder, 'x.sock'),
    });
    const result = await runProgram(shimPath, [], { input, env: { CNI_COMMAND: 'STATUS', CNI_PATH: '/' } });
    await new Promise((closed) => server.close(closed));
    rmSync(folder, { recursive: true });
    return { status: result.status, ...(JSON.parse(result.stdout) as { code: number; details: string }) };
  };
  t.match(await run(Buffer.from('HTTP/1.1 404 Not Found\r\n\r\n')), {
    status: 1,
    code: 50,
    details: /cni\.sock: what listens there does not serve CNI/,
  });
  t.match(await run(Buffer.from([0, 0, 0, 0, 9, 1])), { status: 1, code: 50, details: /the agent broke off/ });
  t.match(await run(Buffer.from([0, 255, 255, 255, 255])), { status: 1, code: 50, details: /does not serve CNI/ });
});
