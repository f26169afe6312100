import { readdirSync, readFileSync } from 'node:fs';

/** A process that a recycled pid cannot be mistaken for. */
export interface PidStamp {
  readonly pid: number;
  /** Clock ticks since boot (field 22 of /proc/PID/stat). */
  readonly startTime: string;
}

/** The process's identity; undefined when there is none, or only its zombie. */
export function pidStamp(pid: number): PidStamp | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const [state, startTime] = [fields[0], fields[19]];
    return state === 'Z' || startTime === undefined ? undefined : { pid, startTime };
  } catch {
    return undefined;
  }
}

/** Reports whether that very process still runs. */
export function isRunning(stamp: PidStamp): boolean {
  return pidStamp(stamp.pid)?.startTime === stamp.startTime;
}

const freezePatienceMs = 10_000;

/**
 * Stops a process and waits until none of its threads runs: the signal alone takes effect when the one that gets it is
 * next given a processor, and until then the others answer as before.
 * Errors: when one still runs after ten seconds.
 */
export function freezeProcess(pid: number): void {
  process.kill(pid, 'SIGSTOP');
  const cell = new Int32Array(new SharedArrayBuffer(4));
  const endMs = performance.now() + freezePatienceMs;
  while (threadStates(pid).some((state) => !'TtZX'.includes(state))) {
    if (performance.now() > endMs) throw new Error(`process ${pid} does not stop`);
    Atomics.wait(cell, 0, 0, 1);
  }
}

/** Field 3 of /proc/PID/task/TID/stat of each thread. */
function threadStates(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) => {
    try {
      const text = readFileSync(`/proc/${pid}/task/${task}/stat`, 'utf8');
      return text.charAt(text.lastIndexOf(')') + 2);
    } catch {
      // A thread that ended meanwhile.
      return [];
    }
  });
}

/** Kills that very process, nothing that has its pid by now. */
export function killStamped(stamp: PidStamp): void {
  if (!isRunning(stamp)) return;
  try {
    process.kill(stamp.pid, 'SIGKILL');
  } catch {
    // It ended by itself in between.
  }
}
