import { Option } from 'commander';
import type { LogLevel } from '../lib/log.js';

// Named here again, checked by the type: lib/log.ts would bring pino into every start of the CLI.
const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const satisfies readonly LogLevel[];

/** The option that both daemons have. */
export function logLevelOption(level: LogLevel): Option {
  return new Option('--log-level <LEVEL>', 'least level that is logged, as JSON lines on stderr')
    .choices(logLevels)
    .default(level)
    .env('TSNET_LOG_LEVEL');
}
