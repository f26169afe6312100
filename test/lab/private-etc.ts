import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

/** Its text is fixed: folders and the command reach it as arguments. */
const script = 'mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1,workdir=$2" /etc && shift 2 && exec "$@"';

/**
 * What to put before a command that writes to /etc, to let it write to a folder instead: an overlay that only it and
 * its children see. The command keeps the pid.
 */
export function privateEtcArgs(folder: string): string[] {
  const [upper, work] = [join(folder, 'etc'), join(folder, 'etc-work')];
  for (const each of [upper, work]) mkdirSync(each, { recursive: true });
  return ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, 'private-etc', upper, work];
}
