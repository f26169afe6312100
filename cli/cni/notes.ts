import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { listConfigs } from './files.js';
import { runtimePlaces, type Runtime } from './runtimes.js';

/**
 * What keeps a runtime from using what has been installed, although it is as it should be: each a sentence that says
 * what to do.
 */
export function notesFor(
  runtime: Runtime,
  { binary, conflist }: { readonly binary: string; readonly conflist: string },
): string[] {
  const notes: string[] = [];
  const [confDir, binDir] = [dirname(conflist), dirname(binary)];
  const first = listConfigs(confDir)[0]?.path ?? conflist;
  if (runtimePlaces[runtime].takesFirst && first !== conflist)
    notes.push(
      `${runtime} takes the first file of ${confDir}, which is ${basename(first)}: rename or remove that one to have this network`,
    );
  if (runtimePlaces[runtime].needsLoopback && !existsSync(join(binDir, 'loopback')))
    notes.push(
      `${runtime} needs the reference plugin "loopback" in ${binDir} as well (Debian: containernetworking-plugins)`,
    );
  return notes;
}
