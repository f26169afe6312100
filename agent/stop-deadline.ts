import type { Logger } from '../lib/log.js';

export interface StopDeadline {
  readonly limitMs: number;
  readonly log: Pick<Logger, 'error'>;
  /** Ends the process; a seam for tests. */
  readonly exit?: (code: number) => void;
}

/**
 * Awaits a stop, but not without end: one that hangs ends the process with status 1. Nothing is lost by that, for the
 * journal is written before each step and the next start finishes what is half done.
 */
export async function stopWithin(stop: () => Promise<void>, deadline: StopDeadline): Promise<void> {
  const { limitMs, log, exit = (code): void => process.exit(code) } = deadline;
  const timer = setTimeout(() => {
    log.error({ limitMs }, 'the stop did not end in time: ending at once');
    exit(1);
  }, limitMs);
  try {
    await stop();
  } finally {
    clearTimeout(timer);
  }
}
