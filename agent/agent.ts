import { parseHostName } from '../core/name.js';
import type { Logger } from '../lib/log.js';
import { Closers } from '../lib/sync/closers.js';
import type { FrontEnd } from './front-end.js';
import type { AgentOptions } from './options.js';
import { newAttaching } from './start/attaching.js';
import { openHost } from './start/host.js';
import { openInterface } from './start/interface.js';
import { resume } from './start/resume.js';
import { openTraffic } from './start/traffic.js';

/** What an agent is run with, beside its options. */
export interface AgentIo {
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly frontEnds?: readonly FrontEnd[];
  /** Called once it serves. */
  readonly onReady?: () => void;
}

/** A running agent. */
export interface Agent {
  readonly socket: string;
  /** Stops serving and lets go of everything; the kernel's objects stay, so traffic goes on. */
  stop(): Promise<void>;
}

/**
 * Starts an agent: first what this host had (journal, cache, kernel), then its own interface, then the cluster. It
 * serves attaches whether or not a controller can be reached.
 * Errors: ERR_UNDERLAY_UNKNOWN, ERR_DATA_DIR_LOCKED, ERR_HOST_RENAMED, ERR_LISTEN, ERR_NATIVE_MISSING,
 * ERR_NATIVE_OUTDATED, ERR_KERNEL; ERR_STOPPING when the signal comes while a lost journal waits for a controller.
 */
export async function startAgent(options: AgentOptions, io: AgentIo): Promise<Agent> {
  const closers = new Closers((error) => io.log.error({ error: String(error) }, 'while stopping'));
  try {
    const hostName = parseHostName(options.hostName);
    return { socket: await start({ ...options, hostName }, io, closers), stop: () => closers.close() };
  } catch (error) {
    await closers.close();
    throw error;
  }
}

async function start(options: AgentOptions, io: AgentIo, closers: Closers): Promise<string> {
  const { log, signal, frontEnds = [] } = io;
  const host = await openHost(options, { log, closers, signal });
  const traffic = await openTraffic(host);
  const attaching = newAttaching(host, traffic);
  const joins = await resume(host, traffic, attaching);
  const socket = await openInterface({ host, traffic, attaching, joins }, frontEnds);
  host.sync.start();
  closers.push(() => host.sync.stop());
  const { vtep = null, iface = null } = host.underlay.found ?? {};
  log.info({ host: host.name, vtep, underlay: iface, socket, controllers: options.controllers }, 'agent is ready');
  return socket;
}
