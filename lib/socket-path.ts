import { TsnetError, type ErrorCode } from '../core/errors.js';

/** `sun_path` has 108 bytes, and the last must be zero. */
export const maxSocketPathBytes = 107;

/**
 * The path of a unix socket, to be connected to or to be bound: every one has to come through here, for Node cuts one
 * that is too long, and uses another file, without a word.
 *
 * Source: unix(7) "Pathname sockets"
 * Errors: `code`, with an ENAMETOOLONG as the system would give it as cause.
 */
export function socketPath(path: string, code: ErrorCode): string {
  const sizeBytes = Buffer.byteLength(path);
  if (sizeBytes <= maxSocketPathBytes) return path;
  const syscall = code === 'ERR_LISTEN' ? 'bind' : 'connect';
  const cause = Object.assign(new Error(`${syscall} ENAMETOOLONG ${path}`), { code: 'ENAMETOOLONG', syscall, path });
  const message = `${path}: the path of a socket has ${maxSocketPathBytes} bytes at most, this one has ${sizeBytes}`;
  throw new TsnetError(code, message, { cause, hint: 'Choose a folder with a shorter path.' });
}
