import { newLogger, type Logger, type LogLevel } from '../lib/log.js';

/** What a daemon is started with, beside its options. */
export interface DaemonContext {
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** Signals this close together are one request: some runners send one to the process and one to its group. */
const repeatMs = 500;

/** A daemon that has stopped must not linger because of a handle that somebody forgot. */
const lingerMs = 5_000;

/**
 * Runs a daemon until it ends by itself or SIGTERM or SIGINT asks it to; a second signal ends the
 * process at once. Resolves when the daemon has stopped.
 */
export async function runDaemon(
  name: string,
  level: LogLevel,
  run: (context: DaemonContext) => Promise<void>,
): Promise<void> {
  const abort = new AbortController();
  const log = newLogger(name, level);
  let askedMs = 0;
  const stop = (signal: NodeJS.Signals): void => {
    if (abort.signal.aborted) {
      if (performance.now() - askedMs < repeatMs) return;
      log.warn({ signal }, 'second signal: ending at once');
      process.exit(signal === 'SIGINT' ? 130 : 143);
    }
    askedMs = performance.now();
    log.info({ signal }, 'stopping');
    abort.abort();
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  try {
    await run({ signal: abort.signal, log });
  } finally {
    process.off('SIGTERM', stop);
    process.off('SIGINT', stop);
    setTimeout(() => {
      log.warn('stopped, but something still runs: ending');
      process.exit();
    }, lingerMs).unref();
  }
}
