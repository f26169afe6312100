/**
 * Thrown when bytes do not have the form that their format demands.
 *
 * `what` names the thing being read (`IFLA_MTU`, `nlmsghdr`), `offset` is where in the buffer the
 * read began, and `length` is how many bytes were there to be read from that offset.
 */
export class DecodeError extends Error {
  override readonly name = 'DecodeError';

  constructor(
    readonly what: string,
    readonly offset: number,
    readonly length: number,
    problem = 'too short',
  ) {
    super(`${what}: ${problem} at offset ${offset} (${length} bytes left)`);
  }
}

/**
 * A cursor over a buffer: every read is checked against `end` and moves `offset` on.
 * The byte order is in the method's name, except where one byte has none.
 *
 * Errors: DecodeError from every read that would pass `end`.
 * Cost: no allocation but for `bytes` and `text`.
 */
export class Reader {
  readonly buffer: Buffer;
  offset: number;
  end: number;
  /** What is being read at the moment; goes into the DecodeError. */
  what: string;
  /** Leaves out details, and what the decoder has no name for, where nothing is going to be encoded again. */
  lean = false;

  constructor(buffer: Buffer, what: string) {
    this.buffer = buffer;
    this.offset = 0;
    this.end = buffer.length;
    this.what = what;
  }

  get remaining(): number {
    return this.end - this.offset;
  }

  /** The error for what is being read, at the cursor. */
  error(problem?: string): DecodeError {
    return new DecodeError(this.what, this.offset, Math.max(0, this.end - this.offset), problem);
  }

  /** Moves the cursor over `length` bytes and returns where they start. */
  skip(length: number): number {
    const at = this.offset;
    if (length < 0 || length > this.end - at) throw this.error();
    this.offset = at + length;
    return at;
  }

  u8(): number {
    return this.buffer.readUInt8(this.skip(1));
  }

  u16le(): number {
    return this.buffer.readUInt16LE(this.skip(2));
  }

  u16be(): number {
    return this.buffer.readUInt16BE(this.skip(2));
  }

  u32le(): number {
    return this.buffer.readUInt32LE(this.skip(4));
  }

  u32be(): number {
    return this.buffer.readUInt32BE(this.skip(4));
  }

  i32le(): number {
    return this.buffer.readInt32LE(this.skip(4));
  }

  u64le(): bigint {
    return this.buffer.readBigUInt64LE(this.skip(8));
  }

  /** A copy of the next `length` bytes: a view would keep the whole buffer alive. */
  bytes(length: number): Uint8Array {
    const at = this.skip(length);
    // A call into native code costs more than a few bytes one by one.
    if (length > 32) {
      const from = this.buffer.byteOffset + at;
      return new Uint8Array(this.buffer.buffer.slice(from, from + length));
    }
    const copy = new Uint8Array(length);
    for (let i = 0; i < length; i++) copy[i] = this.buffer[at + i] ?? 0;
    return copy;
  }

  /** UTF-8 up to the first zero byte within the next `length` bytes. */
  text(length: number): string {
    const at = this.skip(length);
    const zero = this.buffer.indexOf(0, at);
    return this.buffer.toString('utf8', at, zero < 0 || zero > at + length ? at + length : zero);
  }
}
