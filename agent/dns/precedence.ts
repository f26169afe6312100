import { readFileSync, writeFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import type { Logger } from '../../lib/log.js';

/**
 * Answers take microseconds and are waited for: the work of an attach can go after them. Without the right to say so they
 * take turns.
 *
 * Where the kernel shares out the processor by sessions, a priority counts among the processes of one session only, and
 * the name server is alone in its own; so the session gets the same. Source: sched(7), "The autogroup feature".
 */
export function goFirst(log: Logger): void {
  const priority = constants.priority.PRIORITY_ABOVE_NORMAL;
  try {
    setPriority(priority);
    if (isSessionLeader()) writeFileSync('/proc/self/autogroup', String(priority));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      log.debug({ error: String(error) }, 'the name server has no precedence');
  }
}

/** Otherwise others share the session: a shell in which it was started, for example. */
function isSessionLeader(): boolean {
  const stat = readFileSync('/proc/self/stat', 'latin1');
  // The name before it may hold anything but ends with the last parenthesis: state, parent, group, session.
  const [, , , session] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return session === String(process.pid);
}
