import { startAgent, type Agent, type AgentIo } from './agent.js';
import type { AgentOptions } from './options.js';
import { stopWithin } from './stop-deadline.js';

/** A stop waits for attaches under way, each with a deadline of its own; below the unit's TimeoutStopSec, so that it is logged. */
const stopLimitMs = 15_000;

/** Runs an agent until the signal; resolves after a clean stop; a stop that hangs ends the process with status 1. */
export async function runAgent(options: AgentOptions, io: AgentIo): Promise<void> {
  let agent: Agent;
  try {
    agent = await startAgent(options, io);
  } catch (error) {
    if (io.signal.aborted) return;
    throw error;
  }
  io.onReady?.();
  await new Promise<void>((resolve) => {
    if (io.signal.aborted) resolve();
    else io.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  io.log.info('stopping');
  await stopWithin(() => agent.stop(), { limitMs: stopLimitMs, log: io.log });
}
