import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** A walk of the kernel's connection table and its rest behind an answer take longer than these together. */
const windowMs = 40;
const restingWindows = 2;
/** Processor time in a window that daemons with nothing to do take at most, their heartbeats included. */
const restingMs = 1.5;
const deadlineMs = 20_000;

/** The processor time of a process and all below it, in milliseconds; finer than the ticks of /proc/PID/stat. */
async function processorMs(pid: number): Promise<number> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const times = await Promise.all(
    threads.map(async (thread) => {
      const folder = `/proc/${pid}/task/${thread}`;
      const [schedstat, children] = await Promise.all(
        ['schedstat', 'children'].map((name) => readFile(`${folder}/${name}`, 'utf8').catch(() => '')),
      );
      const below = await Promise.all(
        (children ?? '')
          .split(' ')
          .filter(Boolean)
          .map((child) => processorMs(Number(child))),
      );
      return Number(schedstat?.split(' ', 1)[0] ?? 0) / 1e6 + sum(below);
    }),
  );
  return sum(times);
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);

/**
 * Resolves when these processes and all below them do nothing any more: what goes on behind an answer (publishing to
 * controllers, other hosts, a walk of connections) is no part of what is measured next. What others do on the machine
 * does not count. Errors: when they never rest.
 */
export async function resting(pids: readonly number[]): Promise<void> {
  const total = async (): Promise<number> => sum(await Promise.all(pids.map(processorMs)));
  const startedMs = performance.now();
  let windows = 0;
  let before = await total();
  while (windows < restingWindows) {
    if (performance.now() - startedMs > deadlineMs) throw new Error(`processes ${pids.join(', ')} do not rest`);
    await delay(windowMs);
    const now = await total();
    windows = now - before < restingMs ? windows + 1 : 0;
    before = now;
  }
}
