import { execFile } from 'node:child_process';
import type { DaemonContext } from './daemon.js';

/** Others are ordered after an agent; one that waits for a controller must not keep the machine from booting. */
const patienceMs = 20_000;

/**
 * Tells the service manager that the daemon serves, where one asked (`Type=notify`), or that it takes longer than
 * others should wait. Node has no datagram sockets of the kind it listens on, so systemd's own program speaks.
 */
export function newNotifier({ signal, log }: DaemonContext): () => void {
  if (process.env['NOTIFY_SOCKET'] === undefined) return () => undefined;
  let isTold = false;
  const tell = (): void => {
    clearTimeout(timer);
    if (isTold || signal.aborted) return;
    isTold = true;
    execFile('systemd-notify', ['--ready', `--pid=${process.pid}`], { timeout: 5000 }, (error) => {
      if (error !== null) log.warn({ err: error }, 'the service manager could not be told');
    });
  };
  const timer = setTimeout(tell, patienceMs);
  signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  return tell;
}
