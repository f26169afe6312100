import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fstatSync,
  fsync,
  openSync,
  readSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';
import { TsnetError } from '../core/errors.js';

/** Largest file that is read into memory. */
const maxFileBytes = 1024 * 1024 * 1024;

const fsyncAsync = promisify(fsync);

/** Opens or creates a file of our own for appending, mode 0600. Errors: ERR_DATA_DIR_UNWRITABLE, ERR_DISK_FULL. */
export function openAppend(path: string): number {
  return attempt(path, () => {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW, 0o600);
    const { mode } = fstatSync(fd);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) {
      closeSync(fd);
      throw new TsnetError('ERR_DATA_DIR_UNWRITABLE', `${path} is no regular file`);
    }
    if ((mode & 0o077) !== 0) fchmodSync(fd, 0o600);
    return fd;
  });
}

/** Errors: ERR_TOO_LARGE beyond 1 GiB. */
export function readWhole(fd: number, path: string): Buffer {
  const { size } = fstatSync(fd);
  if (size > maxFileBytes)
    throw new TsnetError('ERR_TOO_LARGE', `${path} is ${size} bytes long, ${maxFileBytes} are allowed`);
  const bytes = Buffer.allocUnsafe(size);
  let filled = 0;
  while (filled < size) {
    const count = readSync(fd, bytes, filled, size - filled, filled);
    if (count === 0) break;
    filled += count;
  }
  return bytes.subarray(0, filled);
}

/** Writes all of it, in as many calls as it takes. */
export function writeWhole(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at, bytes.length - at);
}

/** Keeps a damaged file under another name; null when that cannot be done. */
export function copyAside(path: string, now: Date): string | null {
  const copy = `${path}.corrupt-${now.toISOString().replace(/[:.]/g, '-')}`;
  try {
    copyFileSync(path, copy, constants.COPYFILE_EXCL);
    chmodSync(copy, 0o600);
    return copy;
  } catch {
    return null;
  }
}

/** Removes a file that may not be there. */
export function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It may never have been made.
  }
}

/** Makes a renaming in a directory survive a power cut. */
export async function syncDirectory(path: string): Promise<void> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await fsyncAsync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Runs something on a file; what it throws becomes an error of ours. */
export function attempt<T>(path: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw diskError(path, error);
  }
}

/** An operating system's error on a file as one of ours. */
export function diskError(path: string, error: unknown): TsnetError {
  if (error instanceof TsnetError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const reason = error instanceof Error ? error.message : String(error);
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new TsnetError('ERR_DISK_FULL', `${path}: ${reason}`, { cause: error });
  if (['EROFS', 'EACCES', 'EPERM', 'ENOENT', 'ENOTDIR', 'ELOOP', 'EISDIR', 'EFBIG', 'EIO'].includes(code)) {
    return new TsnetError('ERR_DATA_DIR_UNWRITABLE', `${path}: ${reason}`, { cause: error });
  }
  return new TsnetError('ERR_INTERNAL', `${path}: ${reason}`, { cause: error });
}
