/**
 * Thrown when a value cannot be written in its format: an address that is none, a name too long.
 */
export class EncodeError extends Error {
  override readonly name = 'EncodeError';

  constructor(
    readonly what: string,
    readonly value: string,
    problem = 'cannot be encoded',
  ) {
    super(`${what}: ${JSON.stringify(value)} ${problem}`);
  }
}

/**
 * A buffer that grows as it is written to. Lengths that are known only afterwards are patched
 * with the `set…` methods, so that nested structures need no buffer of their own.
 *
 * Cost: amortised one copy per doubling; the memory is not zeroed beforehand.
 */
export class Writer {
  #buffer: Buffer;
  #length = 0;

  constructor(sizeBytes = 2048) {
    this.#buffer = Buffer.allocUnsafe(sizeBytes);
  }

  get length(): number {
    return this.#length;
  }

  /** What has been written so far: a view, valid until the next write. */
  written(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Makes room for `count` bytes and returns where they start; their content is undefined. */
  reserve(count: number): number {
    const at = this.#length;
    const needed = at + count;
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
      this.#buffer.copy(grown, 0, 0, at);
      this.#buffer = grown;
    }
    this.#length = needed;
    return at;
  }

  u8(value: number): void {
    const at = this.reserve(1);
    this.#buffer[at] = value;
  }

  u16le(value: number): void {
    this.setU16le(this.reserve(2), value);
  }

  u16be(value: number): void {
    const at = this.reserve(2);
    this.#buffer[at] = value >>> 8;
    this.#buffer[at + 1] = value;
  }

  u32le(value: number): void {
    this.setU32le(this.reserve(4), value);
  }

  u32be(value: number): void {
    const at = this.reserve(4);
    this.#buffer[at] = value >>> 24;
    this.#buffer[at + 1] = value >>> 16;
    this.#buffer[at + 2] = value >>> 8;
    this.#buffer[at + 3] = value;
  }

  bytes(value: Uint8Array): void {
    const at = this.reserve(value.length);
    this.#buffer.set(value, at);
  }

  zeros(count: number): void {
    const at = this.reserve(count);
    for (let i = at; i < at + count; i++) this.#buffer[i] = 0;
  }

  /** UTF-8 without a terminator. */
  text(value: string): void {
    const at = this.reserve(value.length);
    for (let i = 0; i < value.length; i++) {
      const unit = value.charCodeAt(i);
      if (unit >= 0x80) {
        this.#length = at;
        this.bytes(Buffer.from(value, 'utf8'));
        return;
      }
      this.#buffer[at + i] = unit;
    }
  }

  setU16le(at: number, value: number): void {
    this.#buffer[at] = value;
    this.#buffer[at + 1] = value >>> 8;
  }

  setU32le(at: number, value: number): void {
    this.#buffer[at] = value;
    this.#buffer[at + 1] = value >>> 8;
    this.#buffer[at + 2] = value >>> 16;
    this.#buffer[at + 3] = value >>> 24;
  }
}
