import { createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { bindUnix } from '../lib/unix-socket.js';
import { maxFrameBytes } from './frame.js';
import type { Caller, CniAnswer } from './plugin.js';

/** Where an agent serves the native program: beside its own socket. */
export const cniSocketPath = (agentSocket: string): string => join(dirname(agentSocket), 'cni.sock');

const lengthBytes = 4;
/** A caller that has not said all by then is none of ours. */
const patienceMs = 10_000;
/** One more is turned away, which its caller takes as "try again later". */
const maxCalls = 2000;

/**
 * Serves calls on a unix socket, one a connection. A call is four bytes of length, big-endian, and a frame; its answer
 * one byte of status, four of length, and what is to be printed. Resolves, once it listens, with what ends it.
 * Errors: ERR_LISTEN.
 */
export async function serveCalls(
  path: string,
  answer: (frame: Buffer, caller: Caller) => Promise<CniAnswer>,
): Promise<() => Promise<void>> {
  const open = new Set<Socket>();
  const server: Server = createServer((socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    socket.on('error', () => undefined);
    receive(socket, async (frame) => {
      const caller = { isGone: () => socket.destroyed };
      socket.end(encodeAnswer(await answer(frame, caller)));
    });
  });
  server.maxConnections = maxCalls;
  await bindUnix(server, path);
  return () =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of open) socket.destroy();
    });
}

/** Calls `act` with what a connection sends, once that is whole; ends a connection that sends too much or too slowly. */
function receive(socket: Socket, act: (frame: Buffer) => Promise<void>): void {
  let received: Buffer | null = null;
  socket.setTimeout(patienceMs, () => socket.destroy());
  const take = (chunk: Buffer): void => {
    received = received === null ? chunk : Buffer.concat([received, chunk]);
    if (received.length < lengthBytes) return;
    const end = lengthBytes + received.readUInt32BE(0);
    if (end > lengthBytes + maxFrameBytes || received.length > end) socket.destroy();
    else if (received.length === end) {
      socket.setTimeout(0);
      void act(received.subarray(lengthBytes));
    }
  };
  socket.on('data', take);
}

function encodeAnswer({ exit, stdout }: CniAnswer): Buffer {
  const length = Buffer.byteLength(stdout);
  const answer = Buffer.allocUnsafe(1 + lengthBytes + length);
  answer.writeUInt8(exit, 0);
  answer.writeUInt32BE(length, 1);
  answer.write(stdout, 1 + lengthBytes);
  return answer;
}
