import { spawn } from 'node:child_process';
import { plain } from './plain.js';

export interface ProgramOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Default 30 s; the program is killed afterwards. */
  readonly timeoutMs?: number;
}

export interface ProgramResult {
  readonly command: string;
  /** Exit status; 128 + signal when a signal ended it. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that was expected to succeed and did not; the message holds all it said. */
export class ProgramError extends Error {
  readonly result: ProgramResult;

  constructor(result: ProgramResult) {
    super(`${result.command}: status ${result.status}\n${result.stderr}${result.stdout}`.trimEnd());
    this.name = 'ProgramError';
    this.result = result;
  }
}

/** Runs a program to its end, whatever its status. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<ProgramResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(...plain([program, ...args]), {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      timeout: options.timeoutMs ?? 30_000,
      killSignal: 'SIGKILL',
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.stdin.on('error', () => undefined);
    child.on('error', reject);
    child.on('close', (code) => {
      resolve({
        command: [program, ...args].join(' '),
        status: code ?? 137,
        stdout: Buffer.concat(stdout).toString('utf8'),
        stderr: Buffer.concat(stderr).toString('utf8'),
      });
    });
    child.stdin.end(options.input ?? '');
  });
}

/** Runs a program that has to succeed; its standard output. Errors: ProgramError. */
export async function mustRun(program: string, args: readonly string[], options: ProgramOptions = {}): Promise<string> {
  const result = await runProgram(program, args, options);
  if (result.status !== 0) throw new ProgramError(result);
  return result.stdout;
}
