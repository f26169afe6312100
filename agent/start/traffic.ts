import { NetlinkConnection } from '../../lib/netlink/connection.js';
import { NETLINK_NETFILTER } from '../../lib/netlink/conntrack.js';
import { NETLINK_SOCK_DIAG } from '../../lib/netlink/sock-diag.js';
import { BridgeNetfilter } from '../bridge-netfilter.js';
import { Datapath } from '../datapath/datapath.js';
import { MacAnnouncer } from '../datapath/mac-announcer.js';
import { Realisation } from '../datapath/realisation.js';
import type { DnsFeed } from '../dns/feed.js';
import { ResolvConfs } from '../dns/resolv-conf.js';
import { SandboxResolver } from '../dns/sandbox-resolver.js';
import type { Firewall } from '../firewall/firewall.js';
import type { RelayedCall } from '../local-api/relay.js';
import type { Policies } from '../policy/policies.js';
import { nameServerPorts, newFindListener, type ReservedPort } from '../ports/listeners.js';
import type { PublishedPorts } from '../ports/published-ports.js';
import { StaleFlows } from '../ports/stale-flows.js';
import { newFindHolder } from '../services/published.js';
import { newPublishCheck } from '../services/publish-check.js';
import type { Services } from '../services/services.js';
import type { AgentHost } from './host.js';
import { openRuleSets, type RuleSets } from './rule-sets.js';
import {
  ianaVxlanPort,
  newDns,
  newFirewall,
  newPolicies,
  newPorts,
  newServices,
  vxlanPortOf,
} from './traffic-parts.js';

/** How long the first attach to a network waits for what others have there. */
const loadMs = 200;

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
  const toDatapath = { realisation: () => realisation, conntrack };
  const policies = newPolicies(host, { ruleSets, ...toDatapath });
  closers.push(() => policies.close());
  const flows = new StaleFlows({ connection: reconciler.connection, conntrack, log });
  closers.push(() => flows.idle());
  const sockDiag = await NetlinkConnection.open(native, { protocol: NETLINK_SOCK_DIAG });
  closers.push(() => sockDiag.close());
  const vxlan = (): ReservedPort => ({ protocol: 'udp', port: vxlanPortOf(host), holder: 'VXLAN' });
  const names = host.options.dns === undefined || host.options.dns === null ? [] : nameServerPorts;
  const findHolder = newFindHolder(
    () => [...journal.endpoints()].map(({ record }) => record),
    newFindListener(sockDiag, () => [vxlan(), ...names]),
  );
  const services = newServices(host, { ruleSets, findHolder, ...toDatapath });
  closers.push(() => services.close());
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
