import { readFileSync } from 'node:fs';

const lookMs = 1000;

/**
 * Ends this process as SIGTERM does once the npm that runs it has ended. npm gives a signal to the shell that it runs a
 * script in, which gives it to nobody, and of SIGKILL neither hears: tests and labs would go on without anybody.
 */
export function endWithNpm() {
  const npm = findNpm();
  if (npm === undefined) return;
  const timer = setInterval(() => {
    if (readProcess(npm.pid)?.started === npm.started) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, lookMs);
  timer.unref();
}

/** The nearest process above this one that is npm; undefined where none is. */
function findNpm() {
  let above = readProcess(process.ppid);
  while (above !== undefined && !above.name.startsWith('npm')) above = readProcess(above.parent);
  return above;
}

/** A process as /proc/PID/stat has it: fields 2, 4 and 22, proc_pid_stat(5). A number alone may be another's by now. */
function readProcess(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name may hold anything but ends with the last parenthesis.
    const end = stat.lastIndexOf(')');
    const fields = stat.slice(end + 2).split(' ');
    return { pid, name: stat.slice(stat.indexOf('(') + 1, end), parent: Number(fields[1]), started: fields[19] };
  } catch {
    return undefined;
  }
}
