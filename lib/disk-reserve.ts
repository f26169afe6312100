import { randomBytes } from 'node:crypto';
import { closeSync, constants, ftruncateSync, openSync, statSync, truncateSync, writeSync } from 'node:fs';

/** So much is let go at one time: a disk that others fill at once takes no more than this. */
const stepBytes = 32 * 1024;

/**
 * Room on a disk, held by a file of noise: what must still be written when the disk is full gets it by shortening the
 * file. Noise, so that no file system makes less of it.
 */
export class DiskReserve {
  readonly #path: string;
  readonly #sizeBytes: number;
  #heldBytes: number;

  /** Takes up the file that an earlier run has left at `path`. */
  constructor(path: string, sizeBytes: number) {
    this.#path = path;
    this.#sizeBytes = sizeBytes;
    this.#heldBytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** Holds all of the room, taking again what was let go; false when the disk has not that much. */
  take(): boolean {
    if (this.#heldBytes >= this.#sizeBytes) return true;
    try {
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;
      const fd = openSync(this.#path, flags, 0o600);
      try {
        this.#extend(fd);
      } finally {
        closeSync(fd);
      }
    } catch {
      return false;
    }
    return true;
  }

  /** Lets a part of the room go; false when there is none left. */
  release(): boolean {
    if (this.#heldBytes === 0) return false;
    const leftBytes = Math.max(0, this.#heldBytes - stepBytes);
    try {
      truncateSync(this.#path, leftBytes);
    } catch {
      return false;
    }
    this.#heldBytes = leftBytes;
    return true;
  }

  #extend(fd: number): void {
    const noise = randomBytes(this.#sizeBytes - this.#heldBytes);
    try {
      for (let at = 0; at < noise.length;) at += writeSync(fd, noise, at);
      this.#heldBytes = this.#sizeBytes;
    } catch (error) {
      ftruncateSync(fd, this.#heldBytes);
      throw error;
    }
  }
}
