import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { mustRun } from '../test/lab/program.js';

const program = fileURLToPath(new URL('../../cni/spawn-calls', import.meta.url));
const makeFolder = fileURLToPath(new URL('../../../cni-plugin', import.meta.url));

/** A program as a runtime starts it. */
export interface Call {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly input: string;
}

export interface Called {
  /** From its start until its end was noticed. */
  readonly ms: number;
  readonly stdout: string;
}

export interface Spawned {
  /** From the first start to the last end. */
  readonly ms: number;
  /** By job, then by call. */
  readonly jobs: readonly (readonly Called[])[];
}

/** Builds the program that starts others. */
export async function buildSpawner(): Promise<void> {
  await mustRun('make', ['-s', '-C', makeFolder, 'bench']);
}

/**
 * Starts programs, so many jobs at a time, the calls of each one after another, and times them natively.
 * Errors: the first program that did not succeed.
 */
export async function spawnCalls(
  jobs: readonly (readonly Call[])[],
  at: { readonly concurrency: number; readonly enter: readonly string[] },
): Promise<Spawned> {
  const [command = '', ...args] = [...at.enter, program, String(at.concurrency)];
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const output: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stdin.on('error', () => undefined);
  child.stdin.end(encodeJobs(jobs));
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (status !== 0) throw new Error(`${program} ended with ${status}`);
  return decodeSpawned(Buffer.concat(output), jobs);
}

function encodeJobs(jobs: readonly (readonly Call[])[]): Buffer {
  const strings = (texts: readonly string[]): Buffer[] => [u32(texts.length), ...texts.flatMap(bytes)];
  const parts = jobs.flatMap((job) => [
    u32(job.length),
    ...job.flatMap(({ argv, env, input }) => [
      ...strings(argv),
      ...strings(Object.entries(env).map(([name, value]) => `${name}=${value}`)),
      ...bytes(input),
    ]),
  ]);
  return Buffer.concat([u32(jobs.length), ...parts]);
}

function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function bytes(text: string): Buffer[] {
  const content = Buffer.from(text);
  return [u32(content.length), content];
}

const toMs = (ns: bigint): number => Number(ns) / 1e6;

function decodeSpawned(output: Buffer, jobs: readonly (readonly Call[])[]): Spawned {
  let offset = 8;
  const decodeCalled = (call: Call): Called => {
    const ms = toMs(output.readBigUInt64LE(offset));
    const status = output.readUInt32LE(offset + 8);
    const from = offset + 16;
    offset = from + output.readUInt32LE(offset + 12);
    const stdout = output.toString('utf8', from, offset);
    if (status !== 0) {
      throw new Error(`${call.argv.join(' ')} ${call.env.CNI_COMMAND ?? ''} ended with ${status}: ${stdout}`);
    }
    return { ms, stdout };
  };
  return { ms: toMs(output.readBigUInt64LE(0)), jobs: jobs.map((job) => job.map(decodeCalled)) };
}
