import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { readFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { plain } from '../lab/plain.js';

/** The checkout, seen from build/js/test/cli. */
export const root = fileURLToPath(new URL('../../../../', import.meta.url));
export const tsnetPath = `${root}build/bin/tsnet`;

export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly outcome: Promise<Outcome>;
}

/** No setting of whoever runs the tests gets in. */
export function cleanEnv(env: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { PATH: process.env['PATH'] ?? '', LANG: 'C.UTF-8', ...env };
}

/** Starts the bundled tsnet. */
export function startTsnet(
  args: readonly string[],
  options: { env?: Readonly<Record<string, string>> } & Omit<SpawnOptions, 'env' | 'stdio'> = {},
): Running {
  const { env, ...rest } = options;
  const child = spawn(...plain([tsnetPath, ...args]), {
    ...rest,
    env: cleanEnv(env),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { stdout, stderr } = child as { stdout: Readable; stderr: Readable };
  const outcome = Promise.all([
    text(stdout),
    text(stderr),
    new Promise<[number | null, NodeJS.Signals | null]>((done, failed) => {
      child.once('error', failed);
      child.once('exit', (code, signal) => done([code, signal]));
    }),
  ]).then(([out, err, [code, signal]]) => ({ code, signal, stdout: out, stderr: err }));
  return { child, outcome };
}

/** Runs the bundled tsnet to its end. */
export function tsnet(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  return startTsnet(args, { env, timeout: 30_000, killSignal: 'SIGKILL' }).outcome;
}

/** The expected text of a golden file; with UPDATE_GOLDEN=1 it is written first. */
export function golden(name: string, actual: string): string {
  const path = `${root}test/golden/cli/${name}.txt`;
  if (process.env['UPDATE_GOLDEN'] === '1') {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, actual);
  }
  return readFileSync(path, 'utf8');
}
