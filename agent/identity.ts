import { readFile } from 'node:fs/promises';
import { TsnetError } from '../core/errors.js';

/** Random per boot: cookies and ifindexes of another boot mean nothing. */
export async function readBootId(): Promise<string> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  } catch (error) {
    throw new TsnetError('ERR_KERNEL_FEATURE', 'cannot read /proc/sys/kernel/random/boot_id', { cause: error });
  }
}
