import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { TsnetError } from '../core/errors.js';

/** A data directory that is this process's alone. */
export interface DataDirLock {
  readonly release: () => Promise<void>;
}

const lockWaitSeconds = 1;
const conflictExit = 75;

/**
 * Makes the data directory (0700) and locks it. The lock is the kernel's flock on `DATA-DIR/lock`, held by
 * util-linux's `flock` for as long as a pipe from this process is open: it ends with this process however that ends.
 * Errors: ERR_DATA_DIR_LOCKED.
 */
export async function lockDataDir(dataDir: string): Promise<DataDirLock> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    throw new TsnetError('ERR_DATA_DIR_UNWRITABLE', `--data-dir ${dataDir}: ${reason}`, {
      details: { dataDir },
      cause: error,
    });
  });
  const file = join(dataDir, 'lock');
  const child = spawn(
    'flock',
    ['--timeout', String(lockWaitSeconds), '--conflict-exit-code', String(conflictExit), file, 'cat'],
    { stdio: ['pipe', 'pipe', 'ignore'], cwd: '/', detached: true },
  );
  const exited = exitOf(child);
  const held = new Promise<'held'>((resolve) => child.stdout.once('data', () => resolve('held')));
  child.stdin.on('error', () => undefined);
  child.stdin.write('\n');
  const first = await Promise.race([held, exited]);
  if (first === conflictExit)
    throw new TsnetError('ERR_DATA_DIR_LOCKED', `${dataDir} is in use by another tsnet`, { details: { dataDir } });
  if (first !== 'held')
    throw new TsnetError('ERR_INTERNAL', `${file} cannot be locked: flock ended with ${String(first)}`);
  child.unref();
  return {
    release: async () => {
      child.ref();
      child.stdin.end();
      await exited;
    },
  };
}

function exitOf(child: ChildProcess): Promise<number | string> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
}
