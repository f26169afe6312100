import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

/** Its text is fixed: folders and the command reach it as arguments. */
const script = [
  'mount --make-private /',
  'while [ "$1" != -- ]; do mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$1" || exit; shift 3; done',
  'shift',
  'exec "$@"',
].join('; ');

/**
 * What to put before a command to let it write to folders of ours instead of some of the machine's: overlays that only it
 * and its children see. The command keeps the pid. Unlike in a namespace that is private as a whole, the network namespaces
 * that it binds below /run/netns are everybody's.
 */
export function privateMountArgs(folder: string, paths: readonly string[]): string[] {
  const overlays = paths.flatMap((path) => {
    const [upper, work] = [privateUpper(folder, path), `${privateUpper(folder, path)}-work`];
    for (const each of [upper, work]) mkdirSync(each, { recursive: true });
    return [path, upper, work];
  });
  return ['unshare', '--mount', '--propagation', 'unchanged', 'sh', '-c', script, 'private-mounts', ...overlays, '--'];
}

/** Where a command finds in place of a path what it finds there besides. */
export function privateUpper(folder: string, path: string): string {
  return join(folder, 'private', path.replaceAll('/', '-').slice(1));
}
