import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mustRun } from '../test/lab/program.js';
import type { Sandbox } from '../test/lab/sandbox.js';

const source = fileURLToPath(new URL('../../../bench/serve.c', import.meta.url));
const program = fileURLToPath(new URL('../../bench/serve-http', import.meta.url));

/** Builds the server that costs next to nothing. */
export async function buildServer(): Promise<void> {
  mkdirSync(dirname(program), { recursive: true });
  await mustRun('cc', ['-O2', '-std=c11', '-D_GNU_SOURCE', '-o', program, source]);
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
