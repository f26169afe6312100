import { scheduler } from 'node:timers/promises';

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
  for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 2, 50)) {
    try {
      const answer = await condition();
      if (answer) return answer;
      last = JSON.stringify(answer) ?? 'undefined';
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    }
    if (performance.now() - startedMs > deadlineMs) {
      throw new Error(`waited ${deadlineMs} ms in vain for: ${what}; last: ${last}`);
    }
    await scheduler.wait(pauseMs);
  }
}
