import { createServer, type Server, type Socket } from 'node:net';
import type { NativeApi, NetnsRef } from '../../native/api.js';
import type { ConnectionShare } from './connection-share.js';
import type { Asker, Responder } from './responder.js';
import type { Scope } from './tables.js';

export interface ListenOptions {
  readonly native: NativeApi;
  readonly responder: Responder;
  /** One for all places. */
  readonly connections: ConnectionShare;
  readonly address: string;
  readonly port: number;
  /** The name server's own when absent. */
  readonly netns?: NetnsRef;
  readonly scopeOf: (address: string) => Scope | null;
  readonly onError: (error: Error) => void;
  /** A descriptor of this place that another process has opened. */
  readonly inherited?: number;
}

/** An open place. */
export interface Listener {
  readonly fd: number;
  readonly port: number;
  /** Takes nothing more, and finishes what it has: another process goes on with the socket. */
  pause(): void;
  close(): void;
}

/** Opens a TCP place, or goes on with an open one. Errors: NativeError. */
export async function listenTcp(options: ListenOptions): Promise<Listener> {
  const { native, address, port, netns, scopeOf, connections, onError, inherited } = options;
  const open = { type: 'tcp', address, port, ...(netns === undefined ? {} : { netns }) } as const;
  const fd = inherited ?? (await native.inetOpen(open));
  const sockets = new Set<Socket>();
  // Half-open: a client that has sent all its queries may close its side and wait for the answers.
  const server: Server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    const address = socket.remoteAddress ?? '';
    const client = scopeOf(address)?.client ?? address;
    if (sockets.size >= mostConnections || !connections.take(client)) {
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.on('close', () => {
      sockets.delete(socket);
      connections.give(client);
    });
    serveTcp(socket, address, options);
  });
  server.on('error', onError);
  await new Promise<void>((resolve) => server.listen({ fd }, resolve));
  const bound = server.address();
  return {
    fd,
    pause: () => void server.close(),
    port: bound !== null && typeof bound === 'object' ? bound.port : port,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

const mostConnections = 500;
/** Answers under way for one connection; beyond that it is not read. */
const mostPending = 50;
const mostUnsentBytes = 256 * 1024;
/** Until the next whole query. Source: RFC 7766 §6.2.3 leaves it to the server. */
const idleMs = 10_000;

/** Serves one connection: queries one after the other or all at once, answers as they come (RFC 7766 §6.2.1). */
function serveTcp(socket: Socket, address: string, options: ListenOptions): void {
  const { responder, scopeOf } = options;
  const asker: Asker = { address, scope: () => scopeOf(address), transport: 'tcp' };
  let received: Buffer = Buffer.alloc(0);
  let pending = 0;
  let ended = false;
  // Not a socket time-out: bytes that trickle in are no sign of life, whole queries are.
  let timer = setTimeout(() => socket.destroy(), idleMs);
  const rest = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => socket.destroy(), idleMs);
  };
  const finish = (): void => {
    if (ended && pending === 0 && !isFull()) socket.end();
  };
  const send = (answer: Buffer): void => {
    if (socket.destroyed) return;
    const length = Buffer.allocUnsafe(2);
    length.writeUInt16BE(answer.length, 0);
    socket.write(Buffer.concat([length, answer]));
  };
  const isFull = (): boolean => pending >= mostPending || socket.writableLength > mostUnsentBytes;
  const pump = (): void => {
    while (!isFull() && received.length >= 2) {
      const length = received.readUInt16BE(0);
      if (received.length < 2 + length) break;
      const answer = responder.respond(received.subarray(2, 2 + length), asker);
      received = received.subarray(2 + length);
      rest();
      if (answer === null) continue;
      if (Buffer.isBuffer(answer)) {
        send(answer);
        continue;
      }
      pending += 1;
      void answer.then((whole) => {
        pending -= 1;
        send(whole);
        pump();
      });
    }
    if (isFull()) socket.pause();
    else socket.resume();
    finish();
  };
  socket.on('data', (part) => {
    received = received.length === 0 ? part : Buffer.concat([received, part]);
    pump();
  });
  socket.on('drain', pump);
  socket.on('end', () => {
    ended = true;
    finish();
  });
  socket.on('error', () => undefined);
  socket.on('close', () => clearTimeout(timer));
}
