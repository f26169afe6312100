import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { countTap } from './tap-count.mjs';

const graceMs = 20_000;
const pipesMs = 2000;
/** Where more files fail than these, the fault is not that they ran side by side. */
const mostAgain = 8;
const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * Runs test files side by side, and those that fail beside others once more at the end, each alone. `onEnd` hears of each
 * run, `onEndAlone` of the second ones. Resolves with the last result of each file, and the status to exit with where a
 * signal has ended it.
 */
export async function runSteadily(files, { onEnd, onEndAlone, ...options }) {
  const last = new Map();
  const keep = (tell) => (result) => {
    last.set(result.file, result);
    tell(result);
  };
  let status = await runFiles(files, { ...options, onEnd: keep(onEnd) });
  const again = [...last.values()].filter(({ counted, wasBeside }) => counted.failed > 0 && wasBeside);
  if (status === undefined && again.length <= mostAgain) {
    const alone = again.map(({ file }) => file);
    status = await runFiles(alone, { ...options, jobs: 1, onEnd: keep(onEndAlone) });
  }
  return { results: [...last.values()], status };
}

/**
 * Runs test files side by side, in the order given, and calls `onEnd` with each one's result as it ends. Files are run
 * as plain Node programs: tap's own runner loads a hook into each, which takes longer than most of them.
 * `jobs`: how many at once; `most`: how many at once of a class (`classOf(file)`) that has a bound of its own.
 */
export async function runFiles(files, { jobs, most, classOf, timeoutMs, cwd, onEnd }) {
  const waiting = [...files];
  const running = new Map();
  const beside = new Set();
  let stopped;
  const stop = (signal) => {
    stopped = signal;
    waiting.length = 0;
    // Each removes what it has made before it ends.
    for (const { child } of running.values()) child.kill(signal);
  };
  for (const signal of stopSignals) process.on(signal, stop);
  try {
    while (waiting.length + running.size > 0) {
      while (running.size < jobs) {
        const at = waiting.findIndex((file) => hasPlace(file, running, { most, classOf }));
        if (at < 0) break;
        const [file] = waiting.splice(at, 1);
        running.set(file, runFile(file, { timeoutMs, cwd }));
        if (running.size > 1) for (const one of running.keys()) beside.add(one);
      }
      const result = await Promise.race([...running.values()].map(({ ended }) => ended));
      running.delete(result.file);
      onEnd({ ...result, wasBeside: beside.has(result.file) });
    }
  } finally {
    for (const signal of stopSignals) process.off(signal, stop);
  }
  return stopped === undefined ? undefined : 128 + constants.signals[stopped];
}

function hasPlace(file, running, { most, classOf }) {
  const bound = most[classOf(file)];
  return bound === undefined || [...running.keys()].filter((one) => classOf(one) === classOf(file)).length < bound;
}

function runFile(file, { timeoutMs, cwd }) {
  const startedMs = performance.now();
  const child = spawn(process.execPath, ['--enable-source-maps', file], {
    cwd,
    env: { ...process.env, TAP: '1', TAP_TIMEOUT: String(timeoutMs / 1000) },
    stdio: ['ignore', 'pipe', 'pipe'],
    // An interrupt from the terminal comes to us, and from us once to each.
    detached: true,
  });
  const [output, errors] = [[], []];
  child.stdout.on('data', (chunk) => output.push(chunk));
  child.stderr.on('data', (chunk) => errors.push(chunk));
  // tap ends a test in time; this is for what holds up the process itself.
  const timers = ['SIGTERM', 'SIGKILL'].map((signal, at) =>
    setTimeout(() => child.kill(signal), timeoutMs + graceMs * (at + 1)),
  );
  const ended = new Promise((resolve) => {
    const finish = (code, signal) => {
      timers.forEach(clearTimeout);
      const text = Buffer.concat(output).toString('utf8');
      const result = { file, text, errors: Buffer.concat(errors).toString('utf8'), ms: performance.now() - startedMs };
      resolve({ ...result, ...verdict(text, code, signal) });
    };
    child.on('error', (error) => finish(1, error.message));
    child.on('close', finish);
    // A daemon that a failed test left may hold the pipes open.
    child.on('exit', (code, signal) => setTimeout(() => finish(code, signal), pipesMs).unref());
  });
  return { child, ended };
}

/** What a file's output and end come to. A file that failed without a failing test counts as one failure. */
function verdict(text, code, signal) {
  const indented = text.replaceAll(/^(?=.)/gm, '    ');
  const counted = countTap(indented);
  const isCut = !/^1\.\.\d+/m.test(text);
  const why = signal ?? (code === 0 ? (isCut ? 'ended before its tests did' : undefined) : `status ${code}`);
  if (why !== undefined && counted.failed === 0) counted.failed = 1;
  return { indented, counted, why };
}
