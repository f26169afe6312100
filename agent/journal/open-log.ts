import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { TsnetError } from '../../core/errors.js';
import { KeyedLog } from '../../lib/keyed-log.js';

/** Opens a keyed log in a directory that is made where it is missing, and says what was wrong with it as errors to log. */
export function openLog<V>(
  path: string,
  accept: (key: string, value: unknown) => V | null,
  onFault?: (error: TsnetError) => void,
): { readonly log: KeyedLog<V>; readonly warnings: readonly TsnetError[] } {
  try {
    mkdirSync(join(path, '..'), { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new TsnetError('ERR_DATA_DIR_UNWRITABLE', error instanceof Error ? error.message : String(error), {
      cause: error,
    });
  }
  const { log, corrupt, refused } = KeyedLog.open<V>(path, { accept, ...(onFault === undefined ? {} : { onFault }) });
  if (corrupt === null) return { log, warnings: [] };
  const kept = corrupt.path === null ? 'no copy could be kept' : `the file as found is at ${corrupt.path}`;
  const named = refused.length === 0 ? '' : `, among them ${refused.slice(0, 5).join(', ')}`;
  const message = `${path}: ${corrupt.lines} entries could not be read${named}; ${kept}`;
  return {
    log,
    warnings: [
      new TsnetError('ERR_JOURNAL_CORRUPT', message, { details: { path: corrupt.path ?? path, lines: corrupt.lines } }),
    ],
  };
}
