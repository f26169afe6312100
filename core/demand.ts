/**
 * How many were taken of something in the last while: counted by halves of a window, so that what is told covers
 * between half and the whole of it. Times are handed in, in milliseconds of one monotonic clock.
 */
export class Demand {
  readonly #halfMs: number;
  #half = -Infinity;
  #now = 0;
  #before = 0;

  constructor(windowMs: number) {
    this.#halfMs = windowMs / 2;
  }

  add(nowMs: number): void {
    this.#turn(nowMs);
    this.#now += 1;
  }

  count(nowMs: number): number {
    this.#turn(nowMs);
    return this.#before + this.#now;
  }

  #turn(nowMs: number): void {
    const half = Math.floor(nowMs / this.#halfMs);
    if (half === this.#half) return;
    this.#before = half === this.#half + 1 ? this.#now : 0;
    this.#now = 0;
    this.#half = half;
  }
}
