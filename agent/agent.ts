import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { canonicalAddr } from '../core/addr.js';
import type { AgentStatus } from '../core/api.js';
import type { Attacher } from '../core/attacher.js';
import type { TsnetError } from '../core/errors.js';
import { parseMark } from '../core/ids.js';
import type { KernelObject } from '../core/kernel.js';
import type { Endpoint } from '../core/model.js';

import { originTableName } from '../core/nft/origin.js';
import { parseHostName } from '../core/name.js';
import { policyTableName } from '../core/policy/compile.js';
import { serviceTableName } from '../core/service/table.js';
import { version } from '../core/version.js';
import { lockDataDir } from '../lib/data-dir-lock.js';
import { listenHttp } from '../lib/http/listen.js';
import type { Logger } from '../lib/log.js';
import { addrList } from '../lib/netlink/addr.js';
import { NetlinkConnection } from '../lib/netlink/connection.js';
import { NETLINK_NETFILTER } from '../lib/netlink/conntrack.js';
import { linkGet, linkList } from '../lib/netlink/link.js';
import { NETLINK_SOCK_DIAG } from '../lib/netlink/sock-diag.js';
import { placesOf } from '../lib/places.js';
import { loadNative } from '../native/index.js';
import { BridgeNetfilter } from './bridge-netfilter.js';
import { Attachments } from './attach/attachments.js';
import { Carry } from './attach/carry.js';
import { LivingLinks } from './attach/living-links.js';
import { OwnIndex } from './attach/own-index.js';
import { rebuildJournal } from './attach/rebuild.js';
import { recover } from './attach/recovery.js';
import { SandboxWatch } from './attach/sandbox-watch.js';
import { Steps } from './attach/steps.js';
import { LocalAttacher } from './cni-adapter.js';
import { DnsFeed } from './dns/feed.js';
import { SandboxResolver } from './dns/sandbox-resolver.js';
import { dnsSocketPath } from './dns/server.js';
import { Datapath, ownerOf, type DesiredSink } from './datapath/datapath.js';
import { MacAnnouncer } from './datapath/mac-announcer.js';
import { Firewall, listLinkNames } from './firewall/firewall.js';
import { Forwarding } from './firewall/forwarding.js';
import { Neighbourhood } from './firewall/neighbourhood.js';
import { NftAccess } from './firewall/nft-access.js';
import { RuleSet } from './firewall/rule-set.js';
import { readBootId } from './identity.js';
import { claimNamespace } from './namespace-claim.js';
import { HostAddresses, type BlockLoss } from './ipam/host-addresses.js';
import { Journal } from './journal/journal.js';
import { isTransit, Joins } from './joins.js';
import { newLocalApi } from './local-api/server.js';
import { Networks } from './networks.js';
import type { AgentOptions } from './options.js';
import { newFindListener } from './ports/listeners.js';
import { OpenConnections } from './policy/open-connections.js';
import { Policies } from './policy/policies.js';
import { PortBook } from './ports/port-book.js';
import { PublishedPorts } from './ports/published-ports.js';
import { StaleFlows } from './ports/stale-flows.js';
import { Reconciler } from './reconcile/reconciler.js';
import { Flows } from './services/flows.js';
import { Health } from './services/health.js';
import { Services } from './services/services.js';
import { ClusterState } from './state/cluster-state.js';
import { ClusterSync } from './sync/cluster-sync.js';
import { ControllerClient } from './sync/controller-client.js';
import { findUnderlay } from './underlay.js';

/** UDP port of VXLAN until the cluster's settings have arrived for the first time (RFC 7348 §8). */
const ianaVxlanPort = 4789;
const sweepMs = 2000;
/** How long the first attach to a network waits for what others have there. */
const loadMs = 200;
const policySettleMs = 2000;
const networkOwners = ownerOf.network('');

/** What a front end for a runtime's own protocol is started with, before the agent listens. */
export interface FrontEndParts {
  readonly app: FastifyInstance;
  readonly attacher: Attacher;
  readonly socket: string;
  readonly log: Logger;
}

/** Adds routes to the agent's interface; resolves with what ends it. */
export type FrontEnd = (parts: FrontEndParts) => Promise<() => Promise<void>>;

/** What an agent is run with, beside its options. */
export interface AgentIo {
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly frontEnds?: readonly FrontEnd[];
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
 * Errors: ERR_UNDERLAY_UNKNOWN, ERR_DATA_DIR_LOCKED, ERR_LISTEN, ERR_NATIVE_MISSING, ERR_KERNEL; ERR_STOPPING when the
 * signal comes while a lost journal waits for a controller.
 */
export async function startAgent(options: AgentOptions, io: AgentIo): Promise<Agent> {
  const { log } = io;
  const host = parseHostName(options.hostName);
  const closers: (() => Promise<void> | void)[] = [];
  const stop = async (): Promise<void> => {
    for (let close = closers.pop(); close !== undefined; close = closers.pop()) {
      try {
        await close();
      } catch (error) {
        log.error({ error: String(error) }, 'while stopping');
      }
    }
  };
  try {
    return { socket: await start({ ...options, hostName: host }, { ...io, closers }), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

interface StartParts extends AgentIo {
  readonly closers: (() => Promise<void> | void)[];
}

async function start(options: AgentOptions, parts: StartParts): Promise<string> {
  const { log, closers } = parts;
  const host = options.hostName;
  const native = loadNative();
  const bootId = await readBootId();
  await mkdir(options.runDir, { recursive: true, mode: 0o755 });
  closers.push(await claimNamespace());
  const lock = await lockDataDir(options.dataDir);
  closers.push(() => lock.release());

  const faults = (error: TsnetError): void => log.error({ code: error.code }, error.message);
  const { journal, warnings } = Journal.open(options.dataDir, faults);
  closers.push(() => journal.close());
  const state = new ClusterState({
    dataDir: options.dataDir,
    host,
    onFault: faults,
    onOwn: (sighting) => journal.observeOwn(sighting),
  });
  closers.push(() => state.close());
  for (const warning of [...warnings, ...state.warnings])
    log.error({ code: warning.code, ...warning.details }, warning.message);

  const client = new ControllerClient({ urls: options.controllers, host, tokenFile: options.tokenFile });
  closers.push(() => client.close());
  const reconciler = await Reconciler.start({ native, log, auditMs: options.auditMs });
  closers.push(() => reconciler.close());
  // By netlink: /sys shows the namespace that it was mounted in, not the agent's own.
  const underlay = await findUnderlay(
    options.underlay,
    async (iface) => (await linkGet(reconciler.connection, iface)).mtu ?? 1500,
  );
  const networks = new Networks(state, client);
  await rebuildJournal({
    host,
    journal,
    client,
    readLinks: () => LivingLinks.read(native, reconciler.connection),
    knownNetwork: (id) => networks.known(id),
    bootId,
    log,
    signal: parts.signal,
  });
  const own = new OwnIndex(journal);
  const addresses = new HostAddresses({ host, journal, state, client, log, quarantineMs: options.quarantineMs });
  closers.push(() => addresses.close());
  const sync = new ClusterSync({
    host,
    client,
    journal,
    state,
    blocks: addresses,
    log,
    onProgress: () => pruneOnce(),
    register: () => ({ vtep: underlay.vtep, underlayMtu: underlay.mtu, bootId, instance: journal.instance, version }),
  });

  const nft = await NftAccess.open(native);
  closers.push(() => nft.close());
  const ruleSet = new RuleSet({ access: nft, log, held: true });
  closers.push(() => ruleSet.close());
  const origins = new RuleSet({ access: nft, log, held: true, family: 'bridge', table: originTableName });
  closers.push(() => origins.close());
  const firewall = new Firewall({
    ruleSet,
    origins,
    knownNetwork: (id) => networks.known(id),
    forwarding: new Forwarding({ native, dataDir: options.dataDir, links: listLinkNames, log }),
    neighbourhood: new Neighbourhood({ dockerUser: options.dockerUser, log }),
    state,
    own,
    defaultVxlanPort: ianaVxlanPort,
    guarded: () => placesOf(options.controllers),
    otherBridges: async () => {
      const bridges = await linkList(reconciler.connection, { kind: 'bridge' });
      // A name that a set cannot hold is none that any tool makes.
      return bridges.flatMap(({ ifname, alias }) =>
        parseMark(alias ?? null) === null && ifname !== undefined && /^[\w.:-]{1,15}$/.test(ifname) ? [ifname] : [],
      );
    },
    hostAddresses: async () => {
      const addrs = await addrList(reconciler.connection);
      return new Set(addrs.map(({ address }) => canonicalAddr(address.split('/', 1)[0] ?? '')));
    },
    log,
  });
  closers.push(() => firewall.close());
  const policyRules = new RuleSet({ access: nft, log, held: true, table: policyTableName });
  closers.push(() => policyRules.close());
  const conntrack = await NetlinkConnection.open(native, { protocol: NETLINK_NETFILTER });
  closers.push(() => conntrack.close());
  const bridgeNetfilter = new BridgeNetfilter({ log });
  const setBridged = (owner: string, objects: readonly KernelObject[]): void => {
    bridgeNetfilter.note(objects);
    reconciler.setDesired(owner, objects);
  };
  const policies = new Policies({
    ruleSet: policyRules,
    state,
    own,
    journal,
    setDesired: (owner, objects) => setBridged(owner, services.withSwitch(owner.slice(networkOwners.length), objects)),
    ownerOf: ownerOf.network,
    settleOwner: (owner) => reconciler.settled(owner, policySettleMs),
    connections: new OpenConnections({ native, conntrack, bootId, log }),
    log,
  });
  closers.push(() => policies.close());
  const flows = new StaleFlows({ connection: reconciler.connection, conntrack, log });
  closers.push(() => flows.idle());
  const serviceRules = new RuleSet({ access: nft, log, held: true, table: serviceTableName });
  closers.push(() => serviceRules.close());
  /** Objects as a driver wants them, by owner, where somebody else has a word in what they are like. */
  const shared = new Map<string, readonly KernelObject[]>();
  const services = new Services({
    host,
    ruleSet: serviceRules,
    state,
    own,
    flows: new Flows({ conntrack, settled: () => serviceRules.settled(), log }),
    setDesired: (owner, objects) => reconciler.setDesired(owner, objects),
    refresh: ({ network, endpoint }) => {
      const owner = endpoint === undefined ? ownerOf.network(network) : ownerOf.endpoint(network, endpoint);
      const objects = shared.get(owner);
      if (objects === undefined) return;
      if (endpoint !== undefined) reconciler.setDesired(owner, services.withHairpin(endpoint, objects));
      else setBridged(owner, services.withSwitch(network, policies.withSwitch(network, objects)));
    },
  });
  closers.push(() => services.close());
  const sockDiag = await NetlinkConnection.open(native, { protocol: NETLINK_SOCK_DIAG });
  closers.push(() => sockDiag.close());
  const ports = new PublishedPorts({
    book: new PortBook({
      findListener: newFindListener(sockDiag, () => [
        { protocol: 'udp', port: state.settings?.vxlanPort ?? ianaVxlanPort, holder: 'VXLAN' },
        ...services.published(),
      ]),
      nameOf: (id) => formatEndpoint(own.get(id)?.record, id),
    }),
    firewall,
    journal,
    connection: reconciler.connection,
    flows,
    knownNetwork: (id) => networks.known(id),
    log,
  });
  const { dns: dnsOptions } = options;
  const dns =
    dnsOptions === undefined || dnsOptions === null
      ? null
      : new DnsFeed({
          socket: dnsSocketPath(options.runDir),
          program: dnsOptions.program,
          settings: { domain: dnsOptions.domain, upstreams: dnsOptions.upstreams },
          state,
          own,
          journal,
          knownNetwork: (id) => networks.known(id),
          serviceZone: (network, name) => services.zoneOf(network, name),
          setElements: (owner, elements) => ruleSet.setElements(owner, elements),
          bootId,
          log,
        });
  closers.push(() => dns?.close());
  dns?.start();
  const resolver = dns === null ? null : new SandboxResolver({ feed: dns, domain: dnsOptions?.domain ?? '', own });
  const settled = async (owner: string, timeoutMs: number): Promise<void> => {
    await reconciler.settled(owner, timeoutMs);
    if (!owner.startsWith(networkOwners)) return policies.settled();
    await dns?.settled(owner.slice(networkOwners.length));
    await firewall.settled(owner.slice(networkOwners.length));
    // The first sandbox of a network here may use its services at once.
    if (sync.status().controller !== null) await state.loaded(owner.slice(networkOwners.length), loadMs);
    await services.settled();
  };
  /** The firewall follows which networks are realised here. */
  const sink: DesiredSink = {
    setDesired(owner, objects) {
      if (objects.length === 0) shared.delete(owner);
      if (!owner.startsWith(networkOwners)) {
        // Remote endpoints have no port here, which is all that services have a word in.
        const isOwn = objects.some(({ kind }) => kind === 'port');
        if (!isOwn) return reconciler.setDesired(owner, objects);
        shared.set(owner, objects);
        return reconciler.setDesired(owner, services.withHairpin(owner.slice(owner.lastIndexOf('/') + 1), objects));
      }
      const id = owner.slice(networkOwners.length);
      if (objects.length > 0) shared.set(owner, objects);
      const network = objects.length === 0 ? undefined : networks.known(id);
      if (network !== undefined) services.carry(network, datapath.context(network).self.addresses);
      setBridged(owner, services.withSwitch(id, policies.withSwitch(id, objects)));
      if (network === undefined) {
        firewall.drop(id);
        services.drop(id);
        dns?.drop(id);
      } else {
        firewall.carry(network, datapath.context(network).self.addresses);
        dns?.carry(network, datapath.context(network).self.addresses);
      }
    },
  };
  const linkIndex = (name: string): number | undefined => reconciler.linkIndex(name);
  const announcer = new MacAnnouncer({
    host,
    sendFrame: (ifindex, frame) => native.frameSend(ifindex, frame),
    linkIndex,
    settled,
    log,
  });
  const datapath = new Datapath({
    sink,
    state,
    journal,
    host,
    vtep: underlay.vtep,
    defaultVxlanPort: ianaVxlanPort,
    onReachable: (network, endpoint) => announcer.note(network, endpoint),
  });
  closers.push(() => datapath.close());
  const carry = new Carry({
    datapath,
    journal,
    addresses,
    announcer: sync,
    settled,
    host,
    vtep: underlay.vtep,
    underlayMtu: underlay.mtu,
    idleMs: options.quarantineMs,
    countOf: (network) => own.countOf(network),
    isTransit: (network) => isTransit({ state, own }, network),
  });
  closers.push(() => carry.close());
  const steps = new Steps({
    native,
    connection: reconciler.connection,
    linkIndex,
    settled,
    deleteLink: (ifindex) => reconciler.deleteLink(ifindex),
    journal,
    own,
    datapath,
    ports,
    guarded: () => policies.settled(),
    allocate: (network, fixed) => addresses.allocate(network, fixed),
    releaseAddresses: (network, released) => addresses.release(network, released),
    host,
    bootId,
  });
  closers.push(() => steps.idle());
  const attachments = new Attachments({
    native,
    journal,
    own,
    steps,
    carry,
    network: (ref) => networks.find(ref),
    knownNetwork: (id) => networks.known(id),
    bootId,
    log,
  });

  services.onChange((id) => {
    const [network = '', name = ''] = id.split('/');
    dns?.serviceChanged(network, name);
  });
  const health = new Health({
    services,
    own,
    setPassing: (endpoint, passing) => attachments.setPassing(endpoint, passing),
    log,
  });
  closers.push(() => health.close());

  /** Addresses in a block that is another host's by now must not be used a moment longer. */
  const withdrawLost = async (loss: BlockLoss): Promise<void> => {
    const { network, cidr, endpoints, hostAddress } = loss;
    const removals = endpoints.map(async (id) => {
      log.error(
        { code: 'ERR_BLOCK_FENCED', endpoint: id, network, cidr },
        "withdrew an endpoint: its address is another host's by now",
      );
      await attachments.removeInTurn(id, () => true);
    });
    const known = networks.known(network);
    if (hostAddress && known !== undefined) removals.push(carry.renumber(known));
    for (const result of await Promise.allSettled(removals)) {
      if (result.status === 'rejected')
        log.error({ network, cidr, error: String(result.reason) }, 'while withdrawing from a lost block');
    }
  };
  await dns?.resumed();
  ports.restore();
  for (const { record } of journal.carriers()) {
    const network = networks.known(record.network);
    if (network !== undefined) carry.resume(network);
  }
  firewall.resumed();
  for (const each of [ruleSet, origins, policyRules, serviceRules]) each.release();
  const stopLosses = addresses.onLoss((loss) => void withdrawLost(loss));
  closers.push(stopLosses);
  await recover({
    journal,
    own,
    attachments,
    markedLinks: reconciler.markedLinks(),
    deleteLink: (ifindex) => reconciler.deleteLink(ifindex),
    bootId,
    log,
  });
  for (const { record } of journal.carriers()) carry.release(record.network);
  /** A network that is no more takes its endpoints with it: its subnet may be another network's by now. */
  const endNetwork = async (id: string): Promise<void> => {
    const endpoints = journal.endpointsOf(id);
    const removals = endpoints.map(({ record }) => {
      const said = { code: 'ERR_NETWORK_UNKNOWN', endpoint: record.id, network: id, sandbox: record.sandbox };
      log.error(said, 'removed an endpoint: its network was removed');
      return attachments.removeInTurn(record.id, () => true);
    });
    for (const result of await Promise.allSettled(removals)) {
      if (result.status === 'rejected')
        log.error({ network: id, error: String(result.reason) }, 'while ending a network');
    }
    if (own.countOf(id) === 0) carry.drop(id);
  };
  const stopFollowing = state.onChange((change) => {
    // Carried before the restart, and unknown until now: the cache was lost.
    if (change.kind === 'network' && change.op === 'put' && !datapath.isRealised(change.value.id))
      carry.resume(change.value);
    if (change.kind === 'network' && change.op === 'gone') void endNetwork(change.previous.id);
  });
  closers.push(stopFollowing);

  const joins = new Joins({ native, state, own, datapath, carry, log });
  closers.push(() => joins.close());

  const watch = new SandboxWatch({ native, journal, own, attachments, bootId, sweepMs, log });
  closers.push(() => watch.close());
  const stopListening = reconciler.onLink((change) => {
    if (change.event === 'gone') void watch.linkGone(change.name);
    const mark = change.event === 'new' ? parseMark(change.alias) : null;
    if (mark?.kind === 'bridge') firewall.linkCame(mark.id);
  });
  closers.push(stopListening);
  await watch.sweep();

  /**
   * What is in the kernel from before the restart and nobody wants can go, but not before the cluster has said all: the
   * cache may have missed the last records, and while no controller can be reached the old entries are the best there are.
   */
  let pruned = false;
  const pruneOnce = (): void => {
    if (pruned || ![...datapath.realised()].every((network) => state.isLoaded(network))) return;
    pruned = true;
    const ours = [...journal.carriers(), ...journal.endpoints()].map(({ record }) => record.network);
    for (const id of new Set(ours)) if (networks.known(id) === undefined) void endNetwork(id);
    reconciler.prune();
  };

  const policyWarnings = (): { code: string; message: string }[] => {
    const { failure } = policies;
    return failure === null ? [] : [{ code: failure.code, message: `policies are not enforced: ${failure.message}` }];
  };
  const serviceWarnings = (): { code: string; message: string }[] => {
    const { failure } = services;
    const failed =
      failure === null ? [] : [{ code: failure.code, message: `services do not work: ${failure.message}` }];
    return [...failed, ...services.conflicts()];
  };
  const status = (): AgentStatus => {
    const { controller, cursor, unpublished, warnings: syncWarnings } = sync.status();
    const opening = [...warnings, ...state.warnings].map(({ code, message }) => ({ code, message }));
    return {
      version,
      host,
      vtep: underlay.vtep,
      controller,
      cursor,
      endpoints: [...journal.endpoints()].length,
      networks: [...datapath.realised()].length,
      unpublished,
      reconcile: reconcileStatus(reconciler),
      firewall: { repairs: firewall.repairs },
      warnings: [
        ...opening,
        ...syncWarnings,
        ...firewall.warnings,
        ...bridgeNetfilter.warnings,
        ...policyWarnings(),
        ...serviceWarnings(),
        ...joins.warnings,
        ...(dns?.warnings ?? []),
      ],
    };
  };
  const api = newLocalApi({
    log,
    attachments,
    journal,
    client,
    knownNetwork: (id) => networks.known(id),
    status,
    ports: () => ports.list(),
    dns,
    resolver,
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
    host,
    bootId,
    isConnected: () => sync.status().controller !== null,
    hasAddresses: (network) => addresses.hasFree(network),
    dnsOf: (network) => resolver?.ofNetwork(network) ?? null,
  });
  for (const startFrontEnd of parts.frontEnds ?? [])
    closers.push(await startFrontEnd({ app: api, attacher, socket, log }));
  const listening = await listenHttp(api, `unix:${socket}`);
  closers.push(() => listening.close());
  sync.start();
  closers.push(() => sync.stop());
  log.info(
    { host, vtep: underlay.vtep, underlay: underlay.iface, socket, controllers: options.controllers },
    'agent is ready',
  );
  return socket;
}

function formatEndpoint(record: Endpoint | undefined, id: string): string {
  return `endpoint ${record?.name ?? record?.callerId ?? id} (${id})`;
}

function reconcileStatus(reconciler: Reconciler): AgentStatus['reconcile'] {
  const { objects, repairs, failing } = reconciler.status();
  return {
    objects,
    repairs,
    failing: failing.map(({ object, code, message }) => ({ object, error: `${message} (${code})` })),
  };
}
