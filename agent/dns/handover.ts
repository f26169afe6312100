import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, writeSync } from 'node:fs';
import type { PlaceSockets } from './open-place.js';

/**
 * A name server is started with the open sockets of the one before as descriptors: by that one, where the new one is of
 * another version, and it goes on answering until the new one has heard all from the agent; or by the agent, which holds
 * duplicates for when a name server dies. No socket is closed in between, so that what comes meanwhile waits in it.
 */

const variable = 'TSNET_DNS_SOCKETS';
const readyFd = 3;
const firstFd = 4;
const readyMs = 5000;

type Inherited = readonly (PlaceSockets & { readonly place: string })[];

/** What this process was started with; null where it succeeds nobody. */
export function takeInherited(): Map<string, PlaceSockets> | null {
  const text = process.env[variable];
  if (text === undefined) return null;
  delete process.env[variable];
  return new Map((JSON.parse(text) as Inherited).map(({ place, udp, tcp }) => [place, { udp, tcp }]));
}

let isSaid = false;

/** Says to the predecessor, once, that all its sockets are read here. */
export function sayReady(): void {
  if (isSaid) return;
  isSaid = true;
  try {
    writeSync(readyFd, 'r');
    closeSync(readyFd);
  } catch {
    // The predecessor has ended by itself.
  }
}

/** Starts a program with open sockets, in a session of its own: what ends our group does not end it. Its log is ours. */
export function startWith(
  [program = '', ...args]: readonly string[],
  sockets: ReadonlyMap<string, PlaceSockets>,
  ready: 'pipe' | 'ignore' = 'ignore',
): ChildProcess {
  const inherited: Inherited = [...sockets.keys()].map((place, index) => ({
    place,
    udp: firstFd + 2 * index,
    tcp: firstFd + 2 * index + 1,
  }));
  return spawn(program, args, {
    detached: true,
    env: { ...process.env, [variable]: JSON.stringify(inherited) },
    stdio: ['ignore', 'ignore', 'inherit', ready, ...[...sockets.values()].flatMap(({ udp, tcp }) => [udp, tcp])],
  });
}

/** Starts a program that takes over the sockets. False: it did not get ready, and has been ended. */
export function startSuccessor(
  program: readonly string[],
  sockets: ReadonlyMap<string, PlaceSockets>,
): Promise<boolean> {
  const child = startWith(program, sockets, 'pipe');
  return new Promise((resolve) => {
    const end = (isReady: boolean): void => {
      clearTimeout(timer);
      if (isReady) child.unref();
      else child.kill('SIGKILL');
      resolve(isReady);
    };
    const timer = setTimeout(() => end(false), readyMs);
    child.once('error', () => end(false));
    child.once('exit', () => end(false));
    child.stdio[readyFd]?.once('data', () => end(true));
  });
}
