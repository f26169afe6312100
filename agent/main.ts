import type { Logger } from '../lib/log.js';
import { startAgent, type FrontEnd } from './agent.js';
import type { AgentOptions } from './options.js';

/** What an agent is run with, beside its options. */
export interface AgentIo {
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly frontEnds?: readonly FrontEnd[];
}

/** Runs an agent until the signal; resolves after a clean stop. */
export async function runAgent(options: AgentOptions, io: AgentIo): Promise<void> {
  const agent = await startAgent(options, io.log, io.frontEnds);
  await new Promise<void>((resolve) => {
    if (io.signal.aborted) resolve();
    else io.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  io.log.info('stopping');
  await agent.stop();
}
