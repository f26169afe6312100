import { randomFillSync } from 'node:crypto';

const poolBytes = 4096;
const pool = Buffer.alloc(poolBytes);
let taken = poolBytes;

/** A few random bytes, none of them given twice. The generator is asked for many at a time: one call costs as much as 4 KiB. */
export function randomBytesOf(length: number): Uint8Array {
  if (length > poolBytes) throw new RangeError(`${length} random bytes are more than ${poolBytes}`);
  if (taken + length > poolBytes) {
    randomFillSync(pool);
    taken = 0;
  }
  const bytes = Uint8Array.from(pool.subarray(taken, taken + length));
  taken += length;
  return bytes;
}
