import { mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun, runProgram } from './program.js';
import { isRunning, killStamped, pidStamp, type PidStamp } from './pid.js';
import { waitFor } from './wait.js';

/**
 * What a lab has made, noted in /run before it is made, so that whoever comes next can remove what a
 * killed run left. All namespaces carry the lab's prefix, all links live inside them, all files lie in its folder.
 */
export interface Registration {
  readonly prefix: string;
  readonly folder: string;
  /** Who made it; null: kept on purpose, removed only when asked. */
  readonly owner: PidStamp | null;
  readonly pids: readonly PidStamp[];
}

const registry = '/run/tsnet-lab';
const netnsFolder = '/run/netns';
/** Noted when /run/netns was no mount point before us: `ip netns` makes it one, and we unmake it. */
const netnsMade = join(registry, 'netns-made');

/** Notes a lab, replacing what was noted of it. */
export function putRegistration(registration: Registration): void {
  mkdirSync(registry, { recursive: true, mode: 0o700 });
  if (!isMountPoint(netnsFolder)) writeFileSync(netnsMade, '');
  const path = join(registry, `${registration.prefix}.json`);
  writeFileSync(`${path}.new`, JSON.stringify(registration));
  renameSync(`${path}.new`, path);
}

/** All labs noted, of whomever. */
export function listRegistrations(): Registration[] {
  try {
    return readdirSync(registry)
      .filter((name) => name.endsWith('.json'))
      .flatMap((name) => {
        try {
          return [JSON.parse(readFileSync(join(registry, name), 'utf8')) as Registration];
        } catch {
          return [];
        }
      });
  } catch {
    return [];
  }
}

/** Removes what labs left whose makers have died. */
export async function removeLeftovers(): Promise<string[]> {
  const dead = listRegistrations().filter(({ owner }) => owner !== null && !isRunning(owner));
  for (const registration of dead) await removeLab(registration);
  return dead.map(({ prefix }) => prefix);
}

/** Removes everything of a lab; again is a no-op. */
export async function removeLab(registration: Registration): Promise<void> {
  registration.pids.forEach(killStamped);
  for (const name of netnsOf(registration.prefix)) {
    const inside = (await listPids(name)).flatMap((pid) => pidStamp(pid) ?? []);
    inside.forEach(killStamped);
    await waitFor(`the processes in ${name} to end`, () => !inside.some(isRunning));
  }
  // What `tsnet run` started outlives it, in a namespace without a name.
  const left = pidsOfFolder(registration.folder).flatMap((pid) => pidStamp(pid) ?? []);
  left.forEach(killStamped);
  await waitFor('the processes of the lab to end', () => ![...registration.pids, ...left].some(isRunning));
  for (const name of netnsOf(registration.prefix)) await runProgram('ip', ['netns', 'delete', name]);
  for (const path of mountsBelow(registration.folder)) await runProgram('umount', ['--lazy', path]);
  rmSync(registration.folder, { recursive: true, force: true });
  rmSync(join(registry, `${registration.prefix}.json`), { force: true });
  await unmakeFolders();
}

/** What is left of a lab, in words; empty when it has gone without a trace. */
export async function listRemains(registration: Registration): Promise<string[]> {
  const links = await mustRun('ip', ['-o', 'link']);
  return [
    ...netnsOf(registration.prefix).map((name) => `namespace ${name}`),
    ...registration.pids.filter(isRunning).map(({ pid }) => `process ${pid}`),
    ...mountsBelow(registration.folder).map((path) => `mount ${path}`),
    ...(links.includes(registration.prefix) ? [`links in the root namespace:\n${links}`] : []),
  ];
}

/** Pids inside a namespace. Equivalent to: `ip netns pids $name` */
export async function listPids(name: string): Promise<number[]> {
  const { stdout } = await runProgram('ip', ['netns', 'pids', name]);
  return stdout.split('\n').filter(Boolean).map(Number);
}

function netnsOf(prefix: string): string[] {
  try {
    return readdirSync(netnsFolder).filter((name) => name.startsWith(prefix));
  } catch {
    return [];
  }
}

function mountPoints(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .flatMap((line) => line.split(' ')[4] ?? []);
}

function isMountPoint(path: string): boolean {
  return mountPoints().includes(path);
}

/** Innermost first, so that each can be unmounted. */
function mountsBelow(folder: string): string[] {
  return mountPoints()
    .filter((path) => path === folder || path.startsWith(`${folder}/`))
    .reverse();
}

/** The last lab to go takes the folders along that there were not before. */
async function unmakeFolders(): Promise<void> {
  if (listRegistrations().length > 0) return;
  try {
    if (readdirSync(registry).includes('netns-made') && readdirSync(netnsFolder).length === 0) {
      // `ip netns` binds the folder onto itself, once for each time it found it unmounted.
      while (isMountPoint(netnsFolder)) await mustRun('umount', [netnsFolder]);
      rmdirSync(netnsFolder);
      rmSync(netnsMade, { force: true });
    }
    rmdirSync(registry);
  } catch {
    // Another lab has come up meanwhile, or others use the folder: they stay.
  }
}

/** Processes whose environment names a lab's folder: whatever was started through one of its agents. */
export function pidsOfFolder(folder: string): number[] {
  return readdirSync('/proc').flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    try {
      return readFileSync(`/proc/${pid}/environ`).includes(`=${folder}/`) ? [pid] : [];
    } catch {
      return [];
    }
  });
}
