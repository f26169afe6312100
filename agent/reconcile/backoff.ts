/** Time and chance, handed in so that tests decide them. */
export interface Clock {
  /** Monotonic. */
  nowMs(): number;
  /** From 0 up to 1. */
  random(): number;
  /** Calls back once after a delay, without keeping the process alive; returns what cancels it. */
  after(delayMs: number, callback: () => void): () => void;
}

/** The machine's own clock. */
export const systemClock: Clock = {
  nowMs: () => performance.now(),
  random: Math.random,
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

const firstMs = 200;
const mostMs = 30_000;

/**
 * How long to wait after the nth failure in a row: evenly spread from 0 to a bound that doubles (full
 * jitter), so that what failed together does not come back together.
 */
export function backoffMs(attempts: number, random: () => number): number {
  return random() * Math.min(mostMs, firstMs * 2 ** Math.min(attempts - 1, 16));
}
