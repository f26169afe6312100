import { DumpInterrupted } from './errors.js';
import { formatMessage, type NetlinkMessage } from './message.js';

const attempts = 10;

/**
 * Repeats a dump until nothing of what it lists has changed meanwhile (`NLM_F_DUMP_INTR`).
 *
 * @param dumpOnce resolves with undefined where something has.
 * Errors: DumpInterrupted when it never stood still; those of `dumpOnce`.
 */
export async function dumpConsistently<T>(
  message: NetlinkMessage,
  dumpOnce: () => Promise<T[] | undefined>,
): Promise<T[]> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const values = await dumpOnce();
    if (values !== undefined) return values;
  }
  throw new DumpInterrupted(formatMessage(message), attempts);
}
