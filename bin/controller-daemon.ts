import { runController } from '../controller/main.js';
import type { ControllerOptions } from '../controller/options.js';
import { runDaemon } from './daemon.js';
import { newOnReady } from './on-ready.js';

/** Runs a controller in this process until a signal stops it. */
export function runControllerDaemon(options: ControllerOptions): Promise<void> {
  return runDaemon('controller', options.logLevel, (context) =>
    runController(options, { ...context, onReady: newOnReady(context) }),
  );
}
