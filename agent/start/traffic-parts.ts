import { type NetlinkConnection } from '../../lib/netlink/connection.js';
import { placesOf } from '../../lib/places.js';
import { ownerOf } from '../datapath/datapath.js';
import type { Realisation } from '../datapath/realisation.js';
import { DnsFeed } from '../dns/feed.js';
import { dnsSocketPath } from '../dns/server.js';
import { Firewall } from '../firewall/firewall.js';
import { Forwarding } from '../firewall/forwarding.js';
import { Neighbourhood } from '../firewall/neighbourhood.js';
import { listHostAddresses, listLinkNames, listOtherBridges } from '../firewall/surroundings.js';
import { OpenConnections } from '../policy/open-connections.js';
import { Policies } from '../policy/policies.js';
import { PortBook, type FindListener } from '../ports/port-book.js';
import { PublishedPorts } from '../ports/published-ports.js';
import type { StaleFlows } from '../ports/stale-flows.js';
import { Flows } from '../services/flows.js';
import { heldRecords } from '../services/held-records.js';
import { Services, type ServicesOptions } from '../services/services.js';
import type { AgentHost } from './host.js';
import type { RuleSets } from './rule-sets.js';

/** UDP port of VXLAN until the cluster's settings have arrived for the first time (RFC 7348 §8). */
export const ianaVxlanPort = 4789;
const policySettleMs = 2000;

/** What a part of the traffic is made with beside the host. The data path is there once all parts are made. */
interface MadeWith {
  readonly ruleSets: RuleSets;
  readonly conntrack: NetlinkConnection;
  readonly realisation: () => Realisation;
}

export const vxlanPortOf = ({ state }: AgentHost): number => state.settings?.vxlanPort ?? ianaVxlanPort;

export function newPolicies(host: AgentHost, { ruleSets, conntrack, realisation }: MadeWith): Policies {
  const { native, reconciler, state, own, journal, bootId, log } = host;
  return new Policies({
    ruleSet: ruleSets.policies,
    state,
    own,
    journal,
    setDesired: (owner, objects) => realisation().setPolicied(owner, objects),
    ownerOf: ownerOf.network,
    settleOwner: (owner) => reconciler.settled(owner, policySettleMs),
    connections: new OpenConnections({ native, conntrack, bootId, log }),
    log,
  });
}

export function newServices(
  host: AgentHost,
  { ruleSets, conntrack, realisation, findHolder }: MadeWith & Pick<ServicesOptions, 'findHolder'>,
): Services {
  const { reconciler, state, own, journal, log } = host;
  return new Services({
    host: host.name,
    ruleSet: ruleSets.services,
    state,
    own,
    flows: new Flows({
      conntrack,
      settled: () => ruleSets.services.settled(),
      isThere: (network, endpoint) => {
        const record = own.get(endpoint)?.record ?? state.endpoint(network, endpoint);
        return record?.state === 'attached' && !state.downHosts.has(record.host);
      },
      log,
    }),
    findHolder,
    held: heldRecords(journal),
    log,
    setDesired: (owner, objects) => reconciler.setDesired(owner, objects),
    refresh: ({ network, endpoint }) =>
      realisation().refresh(endpoint === undefined ? ownerOf.network(network) : ownerOf.endpoint(network, endpoint)),
  });
}

export function newFirewall(host: AgentHost, ruleSets: RuleSets): Firewall {
  const { options, native, reconciler, state, own, networks, log } = host;
  return new Firewall({
    ruleSet: ruleSets.main,
    origins: ruleSets.origins,
    knownNetwork: (id) => networks.known(id),
    forwarding: new Forwarding({ native, dataDir: options.dataDir, links: listLinkNames, log }),
    neighbourhood: new Neighbourhood({ dockerUser: options.dockerUser, log }),
    state,
    own,
    defaultVxlanPort: ianaVxlanPort,
    guarded: () => placesOf(options.controllers),
    otherBridges: () => listOtherBridges(reconciler.connection),
    hostAddresses: () => listHostAddresses(reconciler.connection),
    log,
  });
}

export function newPorts(
  host: AgentHost,
  { firewall, flows, findListener }: { firewall: Firewall; flows: StaleFlows; findListener: FindListener },
): PublishedPorts {
  const { reconciler, own, journal, networks, log } = host;
  const book = new PortBook({
    findListener,
    nameOf: (id) => {
      const record = own.get(id)?.record;
      return `endpoint ${record?.name ?? record?.callerId ?? id} (${id})`;
    },
  });
  return new PublishedPorts({
    book,
    firewall,
    journal,
    connection: reconciler.connection,
    flows,
    knownNetwork: (id) => networks.known(id),
    log,
  });
}

export function newDns(
  host: AgentHost,
  { ruleSets, services }: { ruleSets: RuleSets; services: Services },
): DnsFeed | null {
  const { options, native, state, own, journal, networks, bootId, log } = host;
  if (options.dns === undefined || options.dns === null) return null;
  const { program, domain, upstreams } = options.dns;
  return new DnsFeed({
    native,
    socket: dnsSocketPath(options.runDir),
    program,
    settings: { domain, upstreams },
    state,
    own,
    journal,
    knownNetwork: (id) => networks.known(id),
    serviceZone: (network, name) => services.zoneOf(network, name),
    setElements: (owner, elements) => ruleSets.main.setElements(owner, elements),
    bootId,
    log,
  });
}
