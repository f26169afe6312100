import type { DaemonContext } from './daemon.js';
import { optimiseSooner } from './hot-code.js';
import { newNotifier } from './notify.js';

/** What a daemon calls once it serves. */
export function newOnReady(context: DaemonContext): () => void {
  const tell = newNotifier(context);
  return () => {
    optimiseSooner();
    tell();
  };
}
