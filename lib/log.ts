import { pino, type Logger } from 'pino';

export type { Logger } from 'pino';

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

/**
 * Makes a daemon's logger: one JSON object a line on stderr, with the level as a word and an ISO time.
 * Tokens never reach a log: requests are logged without headers, and these paths are cut as a second net.
 */
export function newLogger(name: string, level: LogLevel = 'info'): Logger {
  return pino(
    {
      name,
      level,
      base: { name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: ['token', '*.token', '*.authorization', 'headers'], censor: '[redacted]' },
    },
    pino.destination({ fd: 2, sync: true }),
  );
}
