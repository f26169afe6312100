import { parseAddr, type Family } from '../../core/addr.js';
import { drivers } from '../../core/desired/drivers.js';
import type { SandboxPlan } from '../../core/desired/driver.js';
import { TsnetError } from '../../core/errors.js';
import { formatId, waitingName } from '../../core/ids.js';
import { macForAddr } from '../../core/mac.js';
import type { Endpoint, Network, PortMapping } from '../../core/model.js';
import { failpoint } from '../../lib/failpoint.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { randomBytesOf } from '../../lib/random-bytes.js';
import type { NativeApi } from '../../native/api.js';
import { limitLink, type LimitedLink } from '../bandwidth/limits.js';
import { ownerOf, type Datapath } from '../datapath/datapath.js';
import type { Journal } from '../journal/journal.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { DeferredDeletions } from './deferred-deletions.js';
import type { EndpointLinks } from './endpoint-link.js';
import { joinSandbox, makeLink, moveWaitingLink } from './links.js';
import type { OwnIndex } from './own-index.js';
import type { CheckedRequest } from './request.js';
import { configureSandbox, kernelHasIpv6 } from './sandbox-config.js';
import { getSandboxLink } from './sandbox-link.js';

/** Published ports, from the claim to the rules. */
export interface EndpointPorts {
  check(network: Network, mappings: readonly PortMapping[]): Promise<void>;
  checkPossible(network: Network, mappings: readonly PortMapping[]): Promise<void>;
  claim(endpoint: string, mappings: readonly PortMapping[]): Promise<readonly PortMapping[]>;
  release(endpoint: string): void;
  publish(entry: OwnEndpoint): Promise<void>;
  change(network: Network, endpoint: string, mappings: readonly PortMapping[]): Promise<readonly PortMapping[]>;
  republish(before: OwnEndpoint, now: OwnEndpoint): Promise<void>;
  unpublish(endpoint: Endpoint): Promise<void>;
}

/** What the steps take from the rest of the agent. */
export interface StepParts {
  readonly native: NativeApi;
  readonly connection: NetlinkConnection;
  readonly linkIndex: (name: string) => number | undefined;
  readonly settled: (owner: string, timeoutMs: number) => Promise<void>;
  /** Says that an owner's objects are being made here: the reconciler leaves them alone until that has ended. */
  readonly lend: (owner: string, made: Promise<unknown>) => void;
  readonly links: EndpointLinks;
  /** Deletes discarded links, some time. */
  readonly deletions: Pick<DeferredDeletions, 'add'>;
  readonly journal: Journal;
  readonly own: OwnIndex;
  readonly datapath: Datapath;
  readonly ports: EndpointPorts;
  /** Resolves when the policies of what the journal has now are in force. Errors: ERR_KERNEL. */
  readonly guarded: () => Promise<void>;
  readonly allocate: (network: Network, fixed: readonly string[]) => Promise<readonly string[]>;
  readonly releaseAddresses: (network: string, addresses: readonly string[]) => void;
  readonly host: string;
  readonly bootId: string;
}

/** A sandbox that a step works on. */
export interface OpenSandbox {
  readonly text: string;
  readonly fd: number;
  readonly cookie: string;
}

export interface ReserveOptions {
  readonly network: Network;
  readonly request: CheckedRequest;
  readonly callerId: string;
  readonly ifname: string;
}

/** How an endpoint is removed. */
export interface RemovalOptions {
  /** The caller waits for names and addresses only, not for the deletion of the link. */
  readonly inBackground?: boolean;
}

const settleMs = 5000;

/**
 * The steps of an attach and of a detach, each writing the journal before it touches the kernel. What calls them
 * (Attachments, recovery) decides their order and takes them back.
 */
export class Steps {
  readonly #parts: StepParts;

  constructor(parts: StepParts) {
    this.#parts = parts;
  }

  /**
   * Checks that what a request publishes could be had. Where nothing is made before the ports are claimed, it leaves to
   * the claim who else may hold them.
   * Errors: those of PublishedPorts.
   */
  checkPorts(network: Network, request: CheckedRequest, isClaimedNext = false): Promise<void> {
    const { ports } = this.#parts;
    return isClaimedNext
      ? ports.checkPossible(network, request.ports ?? [])
      : ports.check(network, request.ports ?? []);
  }

  /** Claims ports, allocates addresses and a MAC, and makes the record. Nothing in the journal and the kernel yet: the next step writes it, or `forget` lets go. */
  async reserve(options: ReserveOptions): Promise<OwnEndpoint> {
    const { network, request, callerId, ifname } = options;
    const { journal, ports, allocate, releaseAddresses, host, bootId } = this.#parts;
    failpoint('attach.reserve.before');
    const id = formatId('endpoint', randomBytesOf(8));
    const published = await ports.claim(id, request.ports ?? []);
    const addresses = await allocate(network, request.addresses).catch((error: unknown) => {
      ports.release(id);
      throw error;
    });
    try {
      const record: Endpoint = {
        v: 1,
        generation: journal.nextGeneration(),
        id,
        network: network.id,
        host,
        addresses,
        mac: request.mac ?? macForAddr(network.id, addresses[0] ?? callerId),
        ifname,
        name: request.name,
        aliases: request.aliases,
        labels: request.labels,
        state: 'reserved',
        callerId,
        sandbox: null,
        ...(published.length === 0 ? {} : { ports: published }),
        ...(request.bandwidth === null ? {} : { bandwidth: request.bandwidth }),
        createdAt: new Date().toISOString(),
      };
      const entry: OwnEndpoint = {
        record,
        cookie: null,
        bootId,
        ifindexHint: null,
        publishedGeneration: 0,
        defaultRoutes: [],
        step: 'reserve',
      };
      failpoint('attach.reserve.after');
      return entry;
    } catch (error) {
      ports.release(id);
      releaseAddresses(network.id, addresses);
      throw error;
    }
  }

  /**
   * Publishes ports in place of those that an endpoint publishes. The journal first: a crash in between is mended by
   * what the next start publishes.
   * Errors: those of PublishedPorts; ERR_KERNEL, with everything as before.
   */
  async changePorts(network: Network, entry: OwnEndpoint, mappings: readonly PortMapping[]): Promise<OwnEndpoint> {
    const { own, journal, ports } = this.#parts;
    const published = await ports.change(network, entry.record.id, mappings);
    const now = own.put({
      ...entry,
      record: { ...entry.record, ports: published, generation: journal.nextGeneration() },
    });
    try {
      await ports.republish(entry, now);
    } catch (error) {
      own.put({ ...entry, record: { ...entry.record, generation: journal.nextGeneration() } });
      throw error;
    }
    return now;
  }

  /** Lets go of what was reserved for a record that was never written. */
  forget({ record }: OwnEndpoint): void {
    this.#parts.ports.release(record.id);
    this.#parts.releaseAddresses(record.network, record.addresses);
  }

  /** Makes the link into the sandbox and configures it; returns the endpoint as attached. */
  async attach(
    network: Network,
    reserved: OwnEndpoint,
    at: { sandbox: OpenSandbox; defaultRoutes: readonly Family[]; takeOver: boolean },
  ): Promise<OwnEndpoint> {
    const { own, journal, datapath, bootId } = this.#parts;
    const { sandbox } = at;
    const linking = own.put({
      ...reserved,
      record: { ...reserved.record, sandbox: sandbox.text },
      cookie: sandbox.cookie,
      bootId,
      defaultRoutes: at.defaultRoutes,
      step: 'link',
    });
    const plan = this.plan(network, linking);
    const attached: Endpoint = { ...linking.record, state: 'attached', generation: journal.nextGeneration() };
    failpoint('attach.link.before');
    // Desired first: from then on the reconciler knows them for ours, whoever makes them.
    const objects = datapath.setOwn(network, attached);
    const joining = joinSandbox(this.#parts, plan, { netnsFd: sandbox.fd, objects, takeOver: at.takeOver });
    if (plan.link.kind === 'veth') this.#parts.lend(ownerOf.endpoint(network.id, attached.id), joining);
    // Needs no link, and so is done while the kernel makes it. Both have ended before anything is taken back.
    const opening = Promise.all([
      this.#parts.ports.publish({ ...linking, record: attached }),
      // Nothing passes before the policies that select it hold.
      this.#parts.guarded(),
    ]);
    await Promise.allSettled([joining, opening]);
    const made = await joining;
    await opening;
    failpoint('attach.link.after');
    if (plan.link.kind !== 'veth') await this.#parts.settled(ownerOf.endpoint(network.id, attached.id), settleMs);
    if (made.ifindex !== null)
      await this.#limit(attached, {
        hostIfindex: made.ifindex,
        sandboxIfindex: made.sandboxIfindex,
        netns: { fd: sandbox.fd },
      });
    failpoint('attach.configure.after');
    const done = own.put({ ...linking, record: attached, ifindexHint: made.ifindex, step: null });
    failpoint('attach.done');
    return done;
  }

  /**
   * Makes the link with both ends in the host namespace, for a caller that moves the far one itself. It waits there as
   * `tsp-…`, unnumbered and down.
   */
  async linkInHost(network: Network, reserved: OwnEndpoint): Promise<OwnEndpoint> {
    const { own, journal, datapath, bootId } = this.#parts;
    const linking = own.put({ ...reserved, bootId, step: 'link' });
    const { link } = this.plan(network, linking);
    const waiting = waitingName(reserved.record.id);
    const linked: Endpoint = { ...linking.record, state: 'linked', generation: journal.nextGeneration() };
    const waitingLink =
      link.kind === 'veth' ? { ...link, peer: { ...link.peer, ifname: waiting } } : { ...link, ifname: waiting };
    failpoint('attach.link.before');
    const objects = datapath.setOwn(network, linked);
    const making = makeLink(this.#parts, waitingLink, { netnsFd: null, objects });
    if (link.kind === 'veth') this.#parts.lend(ownerOf.endpoint(network.id, linked.id), making);
    const made = await making;
    failpoint('attach.link.after');
    await this.#parts.settled(ownerOf.endpoint(network.id, linked.id), settleMs);
    return own.put({ ...linking, record: linked, ifindexHint: made.ifindex, step: null });
  }

  /** Numbers a link and brings it up in its sandbox: one that waits in the host namespace, or is there already. */
  async configure(
    network: Network,
    entry: OwnEndpoint,
    at: { sandbox: OpenSandbox; defaultRoutes: readonly Family[]; takeOver: boolean },
  ): Promise<OwnEndpoint> {
    const { native, own, journal, datapath, links, bootId } = this.#parts;
    const { record } = entry;
    const { sandbox } = at;
    const netns = { fd: sandbox.fd };
    const configuring = own.put({
      ...entry,
      record: { ...record, sandbox: sandbox.text },
      cookie: sandbox.cookie,
      bootId,
      defaultRoutes: at.defaultRoutes,
    });
    await moveWaitingLink(this.#parts, { waiting: waitingName(record.id), ifname: record.ifname }, sandbox.fd);
    const found = await getSandboxLink(native, netns, record.ifname);
    if (found === undefined || found.address !== record.mac) {
      throw new TsnetError(
        'ERR_SANDBOX_MISSING',
        `${sandbox.text} has no interface "${record.ifname}" with MAC ${record.mac}`,
        {
          details: { endpoint: record.id, ifname: record.ifname },
        },
      );
    }
    await configureSandbox(native, this.plan(network, configuring), {
      netns,
      ifindex: found.ifindex,
      takeOver: at.takeOver,
    });
    const attached: Endpoint = { ...configuring.record, state: 'attached', generation: journal.nextGeneration() };
    datapath.setOwn(network, attached);
    await this.#parts.ports.publish({ ...configuring, record: attached });
    const hostIfindex = record.bandwidth === undefined ? undefined : await links.hostIfindex(record.id);
    if (hostIfindex !== undefined) await this.#limit(attached, { hostIfindex, sandboxIfindex: found.ifindex, netns });
    return own.put({ ...configuring, record: attached, step: null });
  }

  /** Gives the sandbox's interface back what is taken from it there: addresses, routes, up. What is there stays. */
  async mendInside(network: Network, entry: OwnEndpoint, sandbox: OpenSandbox): Promise<void> {
    const netns = { fd: sandbox.fd };
    const found = await getSandboxLink(this.#parts.native, netns, entry.record.ifname);
    if (found?.address !== entry.record.mac) return;
    const at = { netns, ifindex: found.ifindex, takeOver: false };
    await configureSandbox(this.#parts.native, this.plan(network, entry), at);
  }

  /** What is to be inside the sandbox. */
  plan(network: Network, entry: OwnEndpoint): SandboxPlan {
    const ctx = this.#parts.datapath.context(network);
    return drivers[network.driver].sandbox(ctx, entry.record, {
      defaultRouteFamilies: entry.defaultRoutes,
      kernelHasIpv6,
    });
  }

  /**
   * Removes an endpoint: desired objects, link, addresses, record. Goes on past errors; while the kernel keeps the
   * link, the record stays `detaching` and the next start or sweep tries again.
   *
   * In the background, what is waited for is that the interface's name and the addresses are free: the interface is
   * taken down and renamed in its sandbox, then the record goes, then the link. From the second on it is a link of
   * ours that no record speaks of, which the next start deletes: a crash in between costs nothing.
   * Errors: ERR_KERNEL.
   */
  async remove(entry: OwnEndpoint, how: RemovalOptions = {}): Promise<void> {
    const { own, journal, datapath, links, deletions, releaseAddresses } = this.#parts;
    const { record } = entry;
    failpoint('detach.before');
    if (entry.step !== 'detach') {
      own.put({
        ...entry,
        record: { ...record, state: 'detaching', generation: journal.nextGeneration() },
        step: 'detach',
      });
    }
    failpoint('detach.journal.after');
    datapath.removeOwn(record);
    const removal = how.inBackground === true ? links.discard(entry) : links.remove(entry).then(() => null);
    const [discarded] = await Promise.all([removal, this.#parts.ports.unpublish(record)]);
    failpoint('detach.link.after');
    this.#parts.ports.release(record.id);
    releaseAddresses(record.network, record.addresses);
    own.remove(record.id);
    failpoint('detach.done');
    if (discarded !== null) deletions.add(discarded, record.id);
  }

  /** Takes the link of an endpoint back and keeps its reservation. */
  async unlink(entry: OwnEndpoint): Promise<void> {
    this.#parts.datapath.removeOwn(entry.record);
    await Promise.all([this.#parts.links.remove(entry), this.#parts.ports.unpublish(entry.record)]);
  }

  async #limit(endpoint: Endpoint, link: LimitedLink): Promise<void> {
    if (endpoint.bandwidth !== undefined) await limitLink(this.#parts, link, endpoint.bandwidth);
  }
}

/** Families of addresses, in the order of the addresses. */
export function familiesOf(addresses: readonly string[]): Family[] {
  return [...new Set(addresses.map((text) => parseAddr(text).family))];
}
