import type { Network } from '../../core/model.js';
import { Attachments } from '../attach/attachments.js';
import { Carry } from '../attach/carry.js';
import { DeferredDeletions } from '../attach/deferred-deletions.js';
import { EndpointLinks } from '../attach/endpoint-link.js';
import { EndpointLookup } from '../attach/lookup.js';
import { Steps } from '../attach/steps.js';
import { isTransit } from '../joins.js';
import { connectionsTo } from '../services/backend-sockets.js';
import { Drainer } from '../services/drainer.js';
import { Health } from '../services/health.js';
import type { AgentHost } from './host.js';
import type { Traffic } from './traffic.js';

/** What attaches and detaches the endpoints of this host, and carries networks for them. */
export interface Attaching {
  readonly carry: Carry;
  readonly steps: Steps;
  readonly attachments: Attachments;
  readonly drainer: Drainer;
}

export function newAttaching(host: AgentHost, traffic: Traffic): Attaching {
  const { options, native, reconciler, underlay, journal, own, state, networks, addresses, sync } = host;
  const { bootId, log, closers } = host;
  const { datapath, realisation, policies, services, ports } = traffic;
  const settled = (owner: string, timeoutMs: number): Promise<void> => realisation.settled(owner, timeoutMs);
  const carry = new Carry({
    datapath,
    journal,
    addresses,
    announcer: sync,
    settled,
    host: host.name,
    knownNetwork: (id) => networks.known(id),
    underlay,
    idleMs: options.quarantineMs,
    countOf: (network) => own.countOf(network),
    isTransit: (network) => isTransit({ state, own }, network),
  });
  closers.push(() => carry.close());
  underlay.onChange(() => {
    carry.moveVtep();
    sync.registerAgain();
  });
  const { connection } = reconciler;
  const linkIndex = (name: string): number | undefined => reconciler.linkIndex(name);
  const deleteLink = (ifindex: number): Promise<void> => reconciler.deleteLink(ifindex);
  const links = new EndpointLinks({ native, connection, linkIndex, deleteLink, bootId });
  const deletions = new DeferredDeletions({
    deleteLink,
    find: async (endpoint) => (own.get(endpoint) === undefined ? links.hostIfindex(endpoint) : undefined),
  });
  closers.push(() => deletions.idle());
  const steps = new Steps({
    native,
    connection,
    linkIndex,
    settled,
    lend: (owner, made) => reconciler.lend(owner, made),
    links,
    deletions,
    journal,
    own,
    datapath,
    ports,
    guarded: () => policies.settled(),
    allocate: (network, fixed) => addresses.allocate(network, fixed),
    releaseAddresses: (network, released) => addresses.release(network, released),
    host: host.name,
    bootId,
  });
  const network = (ref: string): Promise<Network> => networks.find(ref);
  const knownNetwork = (id: string): Network | undefined => networks.known(id);
  const attachments = new Attachments({
    native,
    journal,
    own,
    steps,
    links,
    lookup: new EndpointLookup({ native, journal, own, network, knownNetwork }),
    carry,
    network,
    knownNetwork,
    macHolder: (network, mac) =>
      [...state.endpointsOf(network)].find((endpoint) => endpoint.mac === mac && endpoint.host !== host.name),
    bootId,
    log,
  });
  const health = new Health({
    services,
    own,
    setPassing: (endpoint, passing) => attachments.setPassing(endpoint, passing),
    log,
  });
  closers.push(() => health.close());
  const drainer = new Drainer({
    own,
    services,
    setDraining: (endpoint, draining) => attachments.update(endpoint, { draining }),
    connections: (endpoint, ports) => connectionsTo(native, endpoint, ports),
  });
  return { carry, steps, attachments, drainer };
}
