import { createHash, randomBytes } from 'node:crypto';
import { link, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { TsnetError } from '../core/errors.js';
import type { TokenRole } from './store/tokens.js';

/** 32 random bytes, hexadecimal. */
export function newToken(): string {
  return randomBytes(32).toString('hex');
}

/** SHA-256 of a token, hexadecimal: all that leaves the data directory of it. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

/**
 * Reads `DATA-DIR/ROLE.token`, made with 32 random bytes (0600) when missing.
 * Errors: ERR_USAGE for a file that holds no token of enough length.
 */
export async function ensureTokenFile(dataDir: string, role: TokenRole): Promise<string> {
  const path = join(dataDir, `${role}.token`);
  const held = await readToken(path);
  if (held !== undefined) return held;
  const fresh = join(dataDir, `.${role}.token.${randomBytes(6).toString('hex')}`);
  try {
    const file = await open(fresh, 'wx', 0o600);
    await file.writeFile(`${newToken()}\n`);
    await file.sync();
    await file.close();
    await link(fresh, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(fresh, { force: true });
  }
  const token = await readToken(path);
  if (token === undefined) throw new TsnetError('ERR_INTERNAL', `${path} was not made`);
  return token;
}

async function readToken(path: string): Promise<string | undefined> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const token = text.trim();
  if (/^[\x21-\x7e]{32,256}$/.test(token)) return token;
  throw new TsnetError('ERR_USAGE', `${path} holds no token of 32 to 256 characters`, {
    hint: 'Remove the file to have a new one made.',
  });
}
