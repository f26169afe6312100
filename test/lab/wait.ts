import { scheduler } from 'node:timers/promises';

/** What a condition throws when it can come no more: the wait ends at once. */
export class Hopeless extends Error {}

/**
 * Asks again and again until the condition gives something truthy, and returns that.
 * Errors: what was waited for, how long, and the last answer or error, once the deadline has passed.
 */
export async function waitFor<T>(
  what: string,
  condition: () => Promise<T> | T,
  deadlineMs = 30_000,
): Promise<NonNullable<T>> {
  const startedMs = performance.now();
  let last = 'nothing';
  for (let pauseMs = 5; ; pauseMs = nextPause(pauseMs, performance.now() - startedMs)) {
    try {
      const answer = await condition();
      if (answer) return answer;
      last = JSON.stringify(answer) ?? 'undefined';
    } catch (error) {
      if (error instanceof Hopeless) throw new Error(`waited in vain for: ${what}; ${error.message}`);
      last = error instanceof Error ? error.message : String(error);
    }
    if (performance.now() - startedMs > deadlineMs) {
      throw new Error(`waited ${deadlineMs} ms in vain for: ${what}; last: ${last}`);
    }
    await scheduler.wait(pauseMs);
  }
}

/**
 * Measures until it took less than a bound, three times at most: a busy machine makes things slower, nothing makes them
 * quicker. The last measurement.
 */
export async function quickest(boundMs: number, measure: () => Promise<number>): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    const tookMs = await measure();
    if (tookMs < boundMs || attempt === 3) return tookMs;
  }
}

/** Soon again at first; what is long in coming is asked for less often, a twentieth of the time waited apart. */
function nextPause(pauseMs: number, waitedMs: number): number {
  return Math.min(pauseMs * 2, Math.max(50, waitedMs / 20), 250);
}
