import { spawn, spawnSync } from 'node:child_process';
import { SetupError } from './progress.mjs';

/** The person at the terminal, or the system, asked us to stop. */
export class InterruptError extends SetupError {}

/** Runs a program quietly; its status, output and errors as text. Never throws for a failing program. */
export function capture(program, args, options = {}) {
  const done = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024, ...options });
  const missing = done.error?.code === 'ENOENT';
  return { ok: done.status === 0, missing, stdout: done.stdout ?? '', stderr: done.stderr ?? '' };
}

/**
 * Runs a program and keeps its output, which is shown only when it fails. A signal to this process
 * goes to the program first, so that a package installation is never cut in the middle by us.
 */
export function run(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    const output = [];
    child.stdout.on('data', (chunk) => output.push(chunk));
    child.stderr.on('data', (chunk) => output.push(chunk));
    let interrupted = false;
    const forward = (signal) => {
      interrupted = true;
      child.kill(signal);
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, forward);
    const release = () => {
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(signal, forward);
    };
    child.on('error', (error) => {
      release();
      reject(new SetupError(`cannot run ${program}: ${error.message}`));
    });
    child.on('close', (code, signal) => {
      release();
      const text = Buffer.concat(output).toString('utf8');
      if (interrupted) reject(new InterruptError(`${program} was interrupted.`));
      else if (code === 0) resolve(text);
      else
        reject(
          new SetupError(`${[program, ...args].join(' ')} ended with ${signal ?? `status ${code}`}:\n${shorten(text)}`),
        );
    });
  });
}

/** The beginning and the end of a long output: what went wrong stands in one of the two. */
function shorten(text) {
  const lines = text.trimEnd().split('\n');
  return lines.length <= 30 ? lines.join('\n') : [...lines.slice(0, 18), '…', ...lines.slice(-10)].join('\n');
}
