import { rm } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { TsnetError } from '../core/errors.js';
import { socketPath } from './socket-path.js';

/**
 * Binds a server to a unix socket that its owner alone can use; a socket file that nobody answers on is replaced.
 * Errors: ERR_LISTEN where another process answers, or the path is too long; those of the system.
 */
export async function bindUnix(server: Server, path: string): Promise<void> {
  const listen = (): void => {
    // The file must never be there with wider permissions, so a later chmod would not do.
    const before = process.umask(0o177);
    try {
      server.listen({ path: socketPath(path, 'ERR_LISTEN') });
    } finally {
      process.umask(before);
    }
  };
  await claimUnixPath(path, () => bind(server, listen));
}

/**
 * What `listen` makes at a path, where a socket file that nobody answers on is replaced.
 * Errors: as bindUnix.
 */
export async function claimUnixPath<T>(path: string, listen: () => T | Promise<T>): Promise<T> {
  try {
    return await listen();
  } catch (error) {
    if (!isErrno(error, 'EADDRINUSE')) throw error;
    if (await isAnswered(path)) throw new TsnetError('ERR_LISTEN', `${path}: another process answers on this socket`);
    await rm(path, { force: true });
    return listen();
  }
}

/** Resolves once a server listens. */
export function bind(server: Server, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => {
      server.removeListener('listening', bound);
      reject(error);
    };
    const bound = (): void => {
      server.removeListener('error', failed);
      resolve();
    };
    server.once('error', failed);
    server.once('listening', bound);
    listen();
  });
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const done = (result: boolean): void => {
      socket.destroy();
      resolve(result);
    };
    socket.once('connect', () => done(true));
    socket.once('error', (error) => done(!isErrno(error, 'ECONNREFUSED') && !isErrno(error, 'ENOENT')));
    socket.setTimeout(1000, () => done(true));
  });
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code;
}
