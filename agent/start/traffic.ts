import { NetlinkConnection } from '../../lib/netlink/connection.js';
import { NETLINK_NETFILTER } from '../../lib/netlink/conntrack.js';
import { NETLINK_SOCK_DIAG } from '../../lib/netlink/sock-diag.js';
import { placesOf } from '../../lib/places.js';
import { BridgeNetfilter } from '../bridge-netfilter.js';
import { Datapath, ownerOf } from '../datapath/datapath.js';
import { MacAnnouncer } from '../datapath/mac-announcer.js';
import { Realisation } from '../datapath/realisation.js';
import { DnsFeed } from '../dns/feed.js';
import { ResolvConfs } from '../dns/resolv-conf.js';
import { SandboxResolver } from '../dns/sandbox-resolver.js';
import { dnsSocketPath } from '../dns/server.js';
import { Firewall, listLinkNames } from '../firewall/firewall.js';
import { Forwarding } from '../firewall/forwarding.js';
import { Neighbourhood } from '../firewall/neighbourhood.js';
import { listHostAddresses, listOtherBridges } from '../firewall/surroundings.js';
import type { RelayedCall } from '../local-api/relay.js';
import { OpenConnections } from '../policy/open-connections.js';
import { Policies } from '../policy/policies.js';
import { nameServerPorts, newFindListener, type ReservedPort } from '../ports/listeners.js';
import { PortBook, type FindListener } from '../ports/port-book.js';
import { PublishedPorts } from '../ports/published-ports.js';
import { StaleFlows } from '../ports/stale-flows.js';
import { Flows } from '../services/flows.js';
import { heldRecords } from '../services/held-records.js';
import { newFindHolder } from '../services/published.js';
import { newPublishCheck } from '../services/publish-check.js';
import { Services } from '../services/services.js';
import type { AgentHost } from './host.js';
import { openRuleSets, type RuleSets } from './rule-sets.js';

/** UDP port of VXLAN until the cluster's settings have arrived for the first time (RFC 7348 §8). */
const ianaVxlanPort = 4789;
/** How long the first attach to a network waits for what others have there. */
const loadMs = 200;
const policySettleMs = 2000;

/** What carries and filters the networks of this host, and answers their names. */
export interface Traffic {
  readonly ruleSets: RuleSets;
  readonly firewall: Firewall;
  readonly policies: Policies;
  readonly services: Services;
  readonly ports: PublishedPorts;
  /** Refuses what a service cannot publish on this host. */
  readonly checkPublish: (call: RelayedCall) => Promise<void>;
  readonly dns: DnsFeed | null;
  readonly resolver: SandboxResolver | null;
  readonly resolvConfs: ResolvConfs;
  readonly bridgeNetfilter: BridgeNetfilter;
  readonly realisation: Realisation;
  readonly datapath: Datapath;
}

/** Opens tables, connection tracking and the name server, and makes the parts of the data path know one another. */
export async function openTraffic(host: AgentHost): Promise<Traffic> {
  const { native, reconciler, state, own, journal, networks, sync, bootId, log, closers } = host;
  const knownNetwork = networks.known.bind(networks);
  const ruleSets = await openRuleSets(host);
  const firewall = newFirewall(host, ruleSets);
  closers.push(() => firewall.close());

  const conntrack = await NetlinkConnection.open(native, { protocol: NETLINK_NETFILTER });
  closers.push(() => conntrack.close());
  const bridgeNetfilter = new BridgeNetfilter({ log });
  const policies = new Policies({
    ruleSet: ruleSets.policies,
    state,
    own,
    journal,
    setDesired: (owner, objects) => realisation.setPolicied(owner, objects),
    ownerOf: ownerOf.network,
    settleOwner: (owner) => reconciler.settled(owner, policySettleMs),
    connections: new OpenConnections({ native, conntrack, bootId, log }),
    log,
  });
  closers.push(() => policies.close());
  const flows = new StaleFlows({ connection: reconciler.connection, conntrack, log });
  closers.push(() => flows.idle());
  const sockDiag = await NetlinkConnection.open(native, { protocol: NETLINK_SOCK_DIAG });
  closers.push(() => sockDiag.close());
  const vxlan = (): ReservedPort => ({
    protocol: 'udp',
    port: state.settings?.vxlanPort ?? ianaVxlanPort,
    holder: 'VXLAN',
  });
  const findHolder = newFindHolder(
    () => [...journal.endpoints()].map(({ record }) => record),
    newFindListener(sockDiag, () => [vxlan()]),
  );
  const services = new Services({
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
      realisation.refresh(endpoint === undefined ? ownerOf.network(network) : ownerOf.endpoint(network, endpoint)),
  });
  closers.push(() => services.close());
  const names = host.options.dns === undefined || host.options.dns === null ? [] : nameServerPorts;
  const reserved = (): ReservedPort[] => [vxlan(), ...names, ...services.published()];
  const ports = newPorts(host, { firewall, flows, findListener: newFindListener(sockDiag, reserved) });

  const dns = newDns(host, { ruleSets, services });
  closers.push(() => dns?.close());
  dns?.start();
  const domain = host.options.dns?.domain ?? '';
  const resolver = dns === null ? null : new SandboxResolver({ feed: dns, domain, own, knownNetwork });
  const textOf = resolver === null ? null : (cookie: string) => resolver.textOf(cookie);
  const resolvConfs = new ResolvConfs({ native, journal, own, textOf, bootId, log });
  closers.push(() => resolvConfs.close());
  services.onChange((id) => {
    const [network = '', name = ''] = id.split('/');
    dns?.serviceChanged(network, name);
  });

  const realisation: Realisation = new Realisation({
    reconciler,
    bridgeNetfilter,
    policies,
    services,
    firewall,
    dns,
    knownNetwork,
    addressesIn: (network) => datapath.context(network).self.addresses,
    loaded: async (network) => {
      if (sync.isConnected) await state.loaded(network, loadMs);
    },
  });
  const announcer = new MacAnnouncer({
    host: host.name,
    sendFrame: (ifindex, frame) => native.frameSend(ifindex, frame),
    linkIndex: (name) => reconciler.linkIndex(name),
    settled: (owner, timeoutMs) => realisation.settled(owner, timeoutMs),
    log,
  });
  const datapath: Datapath = new Datapath({
    sink: realisation,
    state,
    journal,
    host: host.name,
    underlay: host.underlay,
    defaultVxlanPort: ianaVxlanPort,
    onReachable: (network, endpoint) => announcer.note(network, endpoint),
  });
  closers.push(() => datapath.close());
  return {
    ruleSets,
    firewall,
    policies,
    services,
    ports,
    checkPublish: newPublishCheck({
      host: host.name,
      state,
      isCarried: (network) => services.isCarried(network),
      find: findHolder,
    }),
    dns,
    resolver,
    resolvConfs,
    bridgeNetfilter,
    realisation,
    datapath,
  };
}

function newFirewall(host: AgentHost, ruleSets: RuleSets): Firewall {
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

function newPorts(
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

function newDns(host: AgentHost, { ruleSets, services }: { ruleSets: RuleSets; services: Services }): DnsFeed | null {
  const { options, state, own, journal, networks, bootId, log } = host;
  if (options.dns === undefined || options.dns === null) return null;
  const { program, domain, upstreams } = options.dns;
  return new DnsFeed({
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
