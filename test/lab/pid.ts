import { readFileSync } from 'node:fs';

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

/** Kills that very process, nothing that has its pid by now. */
export function killStamped(stamp: PidStamp): void {
  if (!isRunning(stamp)) return;
  try {
    process.kill(stamp.pid, 'SIGKILL');
  } catch {
    // It ended by itself in between.
  }
}
