import { mustRun } from './program.js';

/** A bound namespace's path. */
export function netnsPath(name: string): string {
  return `/run/netns/${name}`;
}

/**
 * What to put before a command to run it inside a namespace. Unlike `ip netns exec` it leaves mounts
 * alone, and the command keeps the pid.
 */
export function enterArgs(path: string): string[] {
  return ['nsenter', `--net=${path}`, '--'];
}

/** Makes a bound namespace with its loopback up. Equivalent to: `ip netns add $name` */
export async function netnsAdd(name: string): Promise<void> {
  await mustRun('ip', ['netns', 'add', name]);
  await ipBatch(name, ['link set lo up']);
}

/** Runs `ip` commands inside a namespace, in one process. */
export async function ipBatch(name: string, lines: readonly string[]): Promise<void> {
  await mustRun('ip', ['-n', name, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}
