import { createServer } from 'node:net';
import { TsnetError } from '../core/errors.js';

/** An abstract unix socket: its name is the network namespace's own, and it ends with the process however that ends. */
const claimName = '\0tsnet-agent';

/**
 * Makes this the only agent of its network namespace: a second one, whatever its directories, would take the links of
 * the first for strays. Returns what lets go.
 * Errors: ERR_AGENT_RUNNING.
 */
export async function claimNamespace(): Promise<() => Promise<void>> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const isTaken = error.code === 'EADDRINUSE';
      reject(
        isTaken
          ? new TsnetError('ERR_AGENT_RUNNING', 'another agent runs in this network namespace', { cause: error })
          : error,
      );
    });
    server.listen(claimName, resolve);
  });
  server.unref();
  return () => new Promise((resolve) => server.close(() => resolve()));
}
