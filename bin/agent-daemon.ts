import { runAgent } from '../agent/main.js';
import type { AgentOptions } from '../agent/options.js';
import { startCniService } from '../cni-plugin/service.js';
import { runDaemon } from './daemon.js';
import { newOnReady } from './on-ready.js';

/** Runs the agent in this process until a signal stops it. */
export function runAgentDaemon(options: AgentOptions): Promise<void> {
  return runDaemon('agent', options.logLevel, (context) =>
    runAgent(options, { ...context, frontEnds: [startCniService], onReady: newOnReady(context) }),
  );
}
