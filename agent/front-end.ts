import type { FastifyInstance } from 'fastify';
import type { Attacher } from '../core/attacher.js';
import type { Logger } from '../lib/log.js';

/** What a front end for a runtime's own protocol is started with, before the agent listens. */
export interface FrontEndParts {
  readonly app: FastifyInstance;
  readonly attacher: Attacher;
  readonly socket: string;
  readonly log: Logger;
}

/** Adds routes to the agent's interface; resolves with what ends it. */
export type FrontEnd = (parts: FrontEndParts) => Promise<() => Promise<void>>;
