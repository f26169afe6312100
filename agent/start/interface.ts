import { join } from 'node:path';
import { listenHttp } from '../../lib/http/listen.js';
import { LocalAttacher } from '../cni-adapter.js';
import { OwnFinder } from '../dns/own-finder.js';
import type { FrontEnd } from '../front-end.js';
import type { Joins } from '../joins.js';
import { newLocalApi } from '../local-api/server.js';
import type { Attaching } from './attaching.js';
import type { AgentHost } from './host.js';
import { agentStatus } from './status.js';
import type { Traffic } from './traffic.js';

/** All that a running agent consists of. */
export interface AgentParts {
  readonly host: AgentHost;
  readonly traffic: Traffic;
  readonly attaching: Attaching;
  readonly joins: Joins;
}

/** Serves the agent's interface, front ends for runtimes' protocols included. Returns its socket. Errors: ERR_LISTEN. */
export async function openInterface(parts: AgentParts, frontEnds: readonly FrontEnd[]): Promise<string> {
  const { host, traffic, attaching } = parts;
  const { options, native, reconciler, journal, own, networks, addresses, client, sync, bootId, log, closers } = host;
  const { ports, checkPublish, dns, resolver, resolvConfs } = traffic;
  const { attachments, steps, drainer } = attaching;
  const app = newLocalApi({
    log,
    attachments,
    drainer,
    journal,
    finder: new OwnFinder({ native, journal, own }),
    client,
    knownNetwork: (id) => networks.known(id),
    status: () => agentStatus(parts),
    ports: () => ports.list(),
    checkRelayed: checkPublish,
    dns,
    resolver,
    resolvConfs,
  });
  closers.push(() => attachments.idle());
  const socket = join(options.runDir, 'agent.sock');
  const attacher = new LocalAttacher({
    native,
    connection: reconciler.connection,
    networks,
    journal,
    own,
    attachments,
    steps,
    client,
    host: host.name,
    bootId,
    isConnected: () => sync.isConnected,
    hasAddresses: (network) => addresses.hasFree(network),
    dnsOf: (network) => resolver?.ofNetwork(network) ?? null,
  });
  for (const startFrontEnd of frontEnds) closers.push(await startFrontEnd({ native, attacher, socket, log }));
  const listening = await listenHttp(app, `unix:${socket}`);
  closers.push(() => listening.close());
  return socket;
}
