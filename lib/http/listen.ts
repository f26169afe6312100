import { createServer, type Server } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { TsnetError } from '../../core/errors.js';
import { bind, bindUnix } from '../unix-socket.js';

/** A bound address of a server. */
export interface Listening {
  /** `http://ADDRESS:PORT` with the port really bound, or `unix:PATH`. */
  readonly url: string;
  /** Stops accepting, and ends connections. */
  readonly close: () => Promise<void>;
}

/**
 * Binds a server to `http://ADDRESS:PORT` or `unix:PATH`; may be called once for each of several
 * addresses. A unix socket is readable by its owner only; a socket file that nobody answers on is replaced.
 * Errors: ERR_LISTEN, ERR_USAGE for an address that is neither.
 */
export async function listenHttp(app: FastifyInstance, address: string): Promise<Listening> {
  await app.ready();
  const server = createServer((request, response) => app.routing(request, response));
  server.headersTimeout = 10_000;
  server.requestTimeout = 60_000;
  server.keepAliveTimeout = 60_000;
  server.maxConnections = 20_000;
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
    else socket.destroy();
  });
  try {
    const isUnix = address.startsWith('unix:');
    server.on('connection', (socket: Socket) => {
      if (isUnix || isLoopback(socket.remoteAddress)) localPeers.add(socket);
    });
    if (isUnix) await bindUnix(server, address.slice('unix:'.length));
    const url = isUnix ? address : await bindTcp(server, address);
    return { url, close: () => closeServer(server) };
  } catch (error) {
    if (error instanceof TsnetError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new TsnetError('ERR_LISTEN', `cannot listen on ${address}: ${reason}`, { cause: error });
  }
}

// Noted when the connection is accepted: a socket that has been closed since has no address, and neither has a unix socket.
const localPeers = new WeakSet<object>();

/** Reports whether a connection came over loopback or a unix socket of this machine. */
export function isLocalPeer(socket: object): boolean {
  return localPeers.has(socket);
}

function isLoopback(address: string | undefined): boolean {
  return address === '::1' || /^(::ffff:)?127\./.test(address ?? '');
}

async function bindTcp(server: Server, address: string): Promise<string> {
  const url = parseTcpAddress(address);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  await bind(server, () => server.listen({ host, port: url.port === '' ? 80 : Number(url.port) }));
  const bound = server.address();
  const port = bound !== null && typeof bound === 'object' ? bound.port : 0;
  return `http://${url.hostname}:${port}`;
}

function parseTcpAddress(address: string): URL {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url?.protocol === 'http:' && url.pathname === '/' && url.hostname !== '') return url;
  throw new TsnetError('ERR_USAGE', `--listen: "${address}" is neither http://ADDRESS:PORT nor unix:PATH`);
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
