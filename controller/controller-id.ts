import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Reads `DATA-DIR/controller.id`, made when missing: what this controller is called in the store, over restarts. */
export async function ensureControllerId(dataDir: string): Promise<string> {
  const path = join(dataDir, 'controller.id');
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  const held = text.trim();
  if (/^[0-9a-f]{16}$/.test(held)) return held;
  const id = randomBytes(8).toString('hex');
  await writeFile(path, `${id}\n`, { mode: 0o600 });
  return id;
}
