import { readFile } from 'node:fs/promises';
import { TsnetError } from '../core/errors.js';
import type { Journal } from './journal/journal.js';

/** Random per boot: cookies and ifindexes of another boot mean nothing. */
export async function readBootId(): Promise<string> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  } catch (error) {
    throw new TsnetError('ERR_KERNEL_FEATURE', 'cannot read /proc/sys/kernel/random/boot_id', { cause: error });
  }
}

/**
 * Refuses to go on under another name with what belongs to the first: controllers would take no record of these blocks
 * from the new host, and `tsnet host rm` of the old one would give away addresses that are in use here.
 * Errors: ERR_HOST_RENAMED.
 */
export function assertSameHost(journal: Journal, name: string, dataDir: string): void {
  const before = recordedHost(journal);
  if (before === null || before === name) return;
  const message = `${dataDir} is that of host "${before}", which has endpoints or address blocks; this agent is "${name}"`;
  throw new TsnetError('ERR_HOST_RENAMED', message, { details: { dataDir, before, name } });
}

function recordedHost(journal: Journal): string | null {
  for (const { record } of journal.endpoints()) return record.host;
  for (const { record } of journal.carriers()) return record.host;
  for (const { host } of journal.addresses.blocks()) return host;
  return null;
}
