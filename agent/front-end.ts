import type { Attacher } from '../core/attacher.js';
import type { Logger } from '../lib/log.js';
import type { NativeApi } from '../native/api.js';

/** What a front end for a runtime's own protocol is started with, before the agent listens. */
export interface FrontEndParts {
  readonly native: NativeApi;
  readonly attacher: Attacher;
  /** The agent's. */
  readonly socket: string;
  readonly log: Logger;
}

/** Listens beside the agent's socket; resolves with what ends it. */
export type FrontEnd = (parts: FrontEndParts) => Promise<() => Promise<void>>;
