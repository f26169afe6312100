import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { TsnetError } from '../../core/errors.js';

/**
 * Puts a file in place at one instant, by a name beside it that no runtime reads; reports whether anything was
 * changed. A program that runs keeps its old file ("text file busy" otherwise), and runtimes that watch the folder
 * see the rename only when it comes from the same one.
 */
export function replaceFile(path: string, content: Buffer | string, mode: number): boolean {
  const wanted = Buffer.from(content);
  if (isSame(path, wanted, mode)) return false;
  const part = join(dirname(path), `.${basename(path)}.${process.pid}.part`);
  try {
    makeFolder(dirname(path));
    writeFileSync(part, wanted, { mode, flag: 'wx' });
    chmodSync(part, mode);
    renameSync(part, path);
  } catch (cause) {
    rmSync(part, { force: true });
    throw unwritable(path, cause);
  }
  return true;
}

/** Makes a folder that everybody may read, whatever the umask of who runs this: not all runtimes are root's. */
function makeFolder(path: string): void {
  const first = mkdirSync(path, { recursive: true });
  if (first === undefined) return;
  for (let at = path; at.length >= first.length; at = dirname(at)) chmodSync(at, 0o755);
}

/** Removes a file; reports whether there was one. */
export function removeFile(path: string): boolean {
  try {
    rmSync(path);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw unwritable(path, cause);
  }
}

/** A file's text; null where there is none. */
export function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

/** The configurations in a folder, as runtimes see them: path and text. */
export function listConfigs(folder: string): { readonly path: string; readonly text: string }[] {
  let names: string[];
  try {
    names = readdirSync(folder).sort();
  } catch {
    return [];
  }
  return names
    .filter((name) => /\.(conflist|conf|json)$/.test(name))
    .map((name) => join(folder, name))
    .map((path) => ({ path, text: readText(path) ?? '' }));
}

export function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function isSame(path: string, wanted: Buffer, mode: number): boolean {
  try {
    return (statSync(path).mode & 0o777) === mode && readFileSync(path).equals(wanted);
  } catch {
    return false;
  }
}

function unwritable(path: string, cause: unknown): TsnetError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new TsnetError('ERR_DATA_DIR_UNWRITABLE', `${path}: ${reason}`, {
    cause,
    hint: 'Run it as root, or name another folder with --bin-dir or --conf-dir.',
  });
}
