import { runController } from '../controller/main.js';
import type { ControllerOptions } from '../controller/options.js';
import { runDaemon } from './daemon.js';
import { optimiseSooner } from './hot-code.js';
import { newNotifier } from './notify.js';

/** Runs a controller in this process until a signal stops it. */
export function runControllerDaemon(options: ControllerOptions): Promise<void> {
  return runDaemon('controller', options.logLevel, (context) => {
    const tell = newNotifier(context);
    const onReady = (): void => {
      optimiseSooner();
      tell();
    };
    return runController(options, { ...context, onReady });
  });
}
