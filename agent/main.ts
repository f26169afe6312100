import type { Logger } from '../lib/log.js';
import { startAgent } from './agent.js';
import type { AgentOptions } from './options.js';

/** Runs an agent until the signal; resolves after a clean stop. */
export async function runAgent(options: AgentOptions, io: { readonly signal: AbortSignal; readonly log: Logger }): Promise<void> {
  const agent = await startAgent(options, io.log);
  await new Promise<void>((resolve) => {
    if (io.signal.aborted) resolve();
    else io.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  io.log.info('stopping');
  await agent.stop();
}
