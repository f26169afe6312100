import { dirname, join } from 'node:path';
import { claimUnixPath } from '../lib/unix-socket.js';
import type { NativeApi } from '../native/api.js';
import { maxFrameBytes } from './frame.js';
import type { Caller, CniAnswer } from './plugin.js';

/** Where an agent serves the native program: beside its own socket. */
export const cniSocketPath = (agentSocket: string): string => join(dirname(agentSocket), 'cni.sock');

/** A caller that has not said all by then is none of ours. */
const patienceMs = 10_000;
const tidyMs = 1000;
/** One more is turned away, which its caller takes as "try again later". */
const maxCalls = 2000;

/**
 * Serves calls on a unix socket, one a connection: NativeApi.callServe, with frames as calls. Resolves, once it listens, with
 * what ends it.
 * Errors: ERR_LISTEN; those of the system.
 */
export async function serveCalls(
  native: Pick<NativeApi, 'callServe'>,
  path: string,
  answer: (frame: Buffer, caller: Caller) => Promise<CniAnswer>,
): Promise<() => void> {
  const serve = () =>
    native.callServe({
      path,
      maxBytes: maxFrameBytes,
      maxCalls,
      onCall: (call, frame) => {
        const caller = { isGone: () => server.isGone(call) };
        void answer(frame, caller).then(({ exit, stdout }) => server.answer(call, exit, stdout));
      },
    });
  const server = await claimUnixPath(path, serve);
  const timer = setInterval(() => server.tidy(patienceMs), tidyMs);
  timer.unref();
  return () => {
    clearInterval(timer);
    server.close();
  };
}
