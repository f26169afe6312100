import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mustRun } from '../test/lab/program.js';
import type { Sandbox } from '../test/lab/sandbox.js';

const sourceOf = (name: string): string => fileURLToPath(new URL(`../../../bench/${name}.c`, import.meta.url));
const programOf = (name: string): string => fileURLToPath(new URL(`../../bench/${name}-http`, import.meta.url));
const program = programOf('serve');
const openingAtOnce = 16;

/** Builds the server that costs next to nothing, and its client. */
export async function buildServer(): Promise<void> {
  mkdirSync(dirname(program), { recursive: true });
  for (const name of ['serve', 'connect'])
    await mustRun('cc', ['-O2', '-std=c11', '-D_GNU_SOURCE', '-o', programOf(name), sourceOf(name)]);
}

/** Opens connections for so long, each for one answer. How many a second. */
export async function connectFrom(
  enter: readonly string[],
  to: { readonly address: string; readonly port: number; readonly forMs: number },
): Promise<number> {
  const words = [to.address, to.port, to.forMs, openingAtOnce].map(String);
  const [command = '', ...args] = [...enter, programOf('connect'), ...words];
  const { perSecond, failed } = JSON.parse(await mustRun(command, args)) as Readonly<Record<string, number>>;
  if (perSecond === undefined || perSecond === 0 || failed !== 0)
    throw new Error(`connections to ${to.address} failed`);
  return perSecond;
}

/** Serves a port in a sandbox until it is ended. */
export async function serveIn(
  sandbox: Sandbox,
  port: number,
  name: string,
): Promise<{ readonly end: () => Promise<void> }> {
  const [command = '', ...args] = [...sandbox.enter, program, String(port), name];
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'close').then(() => Promise.reject(new Error(`${program} ended at once`))),
  ]);
  return {
    end: async () => {
      child.stdin.end();
      if (child.exitCode === null) await once(child, 'close');
    },
  };
}
