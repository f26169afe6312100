/** A fixed number of bits with a count of the clear ones, searched a word at a time. */
export class Bitmap {
  readonly size: number;
  private readonly words: Uint32Array;
  private clearBits: number;

  constructor(size: number) {
    this.size = size;
    this.words = new Uint32Array(Math.ceil(size / 32));
    this.clearBits = size;
  }

  /** How many bits are clear. */
  get clearCount(): number {
    return this.clearBits;
  }

  has(index: number): boolean {
    return ((this.word(index >>> 5) >>> (index & 31)) & 1) === 1;
  }

  set(index: number): void {
    if (this.has(index)) return;
    this.words[index >>> 5] = this.word(index >>> 5) | (1 << (index & 31));
    this.clearBits--;
  }

  clear(index: number): void {
    if (!this.has(index)) return;
    this.words[index >>> 5] = this.word(index >>> 5) & ~(1 << (index & 31));
    this.clearBits++;
  }

  /** The first clear bit at or behind a position, going round at the end; -1 when all are set. */
  nextClear(from: number): number {
    if (this.clearBits === 0) return -1;
    const found = this.searchClear(from, this.size);
    return found >= 0 ? found : this.searchClear(0, from);
  }

  /** The last clear bit; -1 when all are set. */
  lastClear(): number {
    for (let at = this.words.length - 1; at >= 0; at--) {
      const limit = Math.min(32, this.size - at * 32);
      const open = ~this.word(at) & (limit === 32 ? 0xffffffff : (1 << limit) - 1);
      if (open !== 0) return at * 32 + 31 - Math.clz32(open);
    }
    return -1;
  }

  private word(at: number): number {
    return this.words[at] ?? 0xffffffff;
  }

  private searchClear(from: number, to: number): number {
    let index = from;
    while (index < to) {
      const open = ~this.word(index >>> 5) & (0xffffffff << (index & 31));
      if (open !== 0) {
        const found = (index & ~31) + 31 - Math.clz32(open & -open);
        return found < to ? found : -1;
      }
      index = (index & ~31) + 32;
    }
    return -1;
  }
}
