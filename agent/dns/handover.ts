import { spawn } from 'node:child_process';
import { closeSync, writeSync } from 'node:fs';
import type { PlaceSockets } from './places.js';

/**
 * A name server of another version takes over the open sockets: it is started with them as descriptors, and the old one
 * goes on answering until the new one has heard all from the agent. No socket is closed in between, so that what
 * comes meanwhile waits in it.
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

/** Starts a program with the sockets. False: it did not get ready, and has been ended. */
export function startSuccessor(
  [program = '', ...args]: readonly string[],
  sockets: ReadonlyMap<string, PlaceSockets>,
): Promise<boolean> {
  const inherited: Inherited = [...sockets.keys()].map((place, index) => ({
    place,
    udp: firstFd + 2 * index,
    tcp: firstFd + 2 * index + 1,
  }));
  const child = spawn(program, args, {
    detached: true,
    env: { ...process.env, [variable]: JSON.stringify(inherited) },
    stdio: ['ignore', 'ignore', 'inherit', 'pipe', ...[...sockets.values()].flatMap(({ udp, tcp }) => [udp, tcp])],
  });
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
