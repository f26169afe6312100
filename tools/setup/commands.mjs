import { spawn, spawnSync } from 'node:child_process';
import { SetupError } from './progress.mjs';

/** The person at the terminal, or the system, asked us to stop. */
export class InterruptError extends SetupError {}

const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'];

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
    for (const signal of stopSignals) process.on(signal, forward);
    const release = () => {
      for (const signal of stopSignals) process.off(signal, forward);
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

/**
 * Does work that a signal must not cut: what it has made is taken back first. `check`, which the work is given, throws
 * once a signal has come; so does the whole at its end.
 */
export async function holdingSignals(work) {
  let isInterrupted = false;
  const note = () => {
    isInterrupted = true;
  };
  const check = async () => {
    // A signal that came during synchronous work is told in the loop's next round, after its poll.
    for (let turn = 0; turn < 2; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    if (isInterrupted) throw new InterruptError('The set-up was interrupted; what it had begun is taken back.');
  };
  for (const signal of stopSignals) process.on(signal, note);
  try {
    const result = await work(check);
    await check();
    return result;
  } finally {
    for (const signal of stopSignals) process.off(signal, note);
  }
}

/** The beginning and the end of a long output: what went wrong stands in one of the two. */
function shorten(text) {
  const lines = text.trimEnd().split('\n');
  return lines.length <= 30 ? lines.join('\n') : [...lines.slice(0, 18), '…', ...lines.slice(-10)].join('\n');
}
