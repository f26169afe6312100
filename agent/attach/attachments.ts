import type { AttachRequest, DetachRequest, EndpointUpdate, StepRequest } from '../../core/api/attach.js';
import type { Family } from '../../core/addr.js';
import { TsnetError, toTsnetError } from '../../core/errors.js';
import { bridgeName } from '../../core/ids.js';
import type { Endpoint, Network } from '../../core/model.js';
import { applyLabels, parseAliases } from '../../core/name.js';
import { checkPorts } from '../../core/ports.js';
import type { Logger } from '../../lib/log.js';
import { KeyedQueue } from '../../lib/sync/keyed-queue.js';
import type { NativeApi } from '../../native/api.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { Journal } from '../journal/journal.js';
import type { Carry } from './carry.js';
import { ChosenMacs } from './chosen-macs.js';
import type { EndpointLinks } from './endpoint-link.js';
import type { EndpointLookup } from './lookup.js';
import type { OwnIndex } from './own-index.js';
import { assertSame, checkRequest, gatewayFamilies, type CheckedRequest } from './request.js';
import { familiesOf, type OpenSandbox, type RemovalOptions, type Steps } from './steps.js';
import { openTarget, parseTarget } from './target.js';

export interface AttachmentsOptions {
  readonly native: NativeApi;
  readonly journal: Journal;
  readonly own: OwnIndex;
  readonly steps: Steps;
  readonly links: EndpointLinks;
  readonly lookup: EndpointLookup;
  readonly carry: Carry;
  /** A network by name or id; asks a controller where this host does not know it yet. */
  readonly network: (ref: string) => Promise<Network>;
  /** A network this host knows, by id. */
  readonly knownNetwork: (id: string) => Network | undefined;
  /** Who has a MAC of a network on another host, as far as the cluster has said. */
  readonly macHolder: (network: string, mac: string) => Endpoint | undefined;
  readonly bootId: string;
  readonly log: Logger;
}

/** A Linux bridge numbers its ports from 1 with ten bits (BR_MAX_PORTS, net/bridge/br_private.h); an overlay's VXLAN device takes one. */
const endpointsPerHost = { overlay: 1022, bridge: 1023, macvlan: Infinity } as const;
/** How many of eth0, eth1, … are tried where the caller names none. */
const ifnameTries = 64;

/**
 * The verbs on own endpoints. One caller's id on one network is worked on in order, everything else in parallel; each
 * verb can be repeated.
 */
export class Attachments {
  readonly #options: AttachmentsOptions;
  readonly #queue = new KeyedQueue();
  readonly #ports = new Map<string, number>();
  readonly #macs: ChosenMacs;

  constructor(options: AttachmentsOptions) {
    this.#options = options;
    this.#macs = new ChosenMacs(options);
  }

  /** Resolves when what is under way has ended. */
  idle(): Promise<void> {
    return this.#queue.idle();
  }

  /**
   * Joins a sandbox to a network: reserve, link and configure in one.
   * Repeated for the same sandbox it returns what is there, and gives its interface back what it has lost; the same caller's id with a new sandbox replaces the old.
   * Errors: those of the request's fields; ERR_NETWORK_UNKNOWN, ERR_SANDBOX_MISSING, ERR_ENDPOINT_EXISTS, and those of the steps.
   */
  async attach(request: AttachRequest): Promise<OwnEndpoint> {
    const network = await this.#options.network(request.network);
    const checked = checkRequest(network, request);
    return this.#withSandbox(request.target, (sandbox) => {
      const callerId = checked.callerId ?? this.#defaultCallerId(sandbox.cookie);
      return this.#inOrder(network.id, callerId, () => this.#attach(network, { checked, callerId, sandbox }));
    });
  }

  /** Reserves addresses and a record for a sandbox that does not exist yet. Repeated, it returns the reservation. */
  async reserve(request: Omit<AttachRequest, 'target'>): Promise<OwnEndpoint> {
    const network = await this.#options.network(request.network);
    const checked = checkRequest(network, request);
    const { callerId } = checked;
    if (callerId === null)
      throw new TsnetError('ERR_INVALID_REQUEST', 'a reservation needs an id', { details: { field: 'id' } });
    return this.#inOrder(network.id, callerId, async () => {
      const known = this.#find(network.id, callerId, checked.ifname);
      if (known !== undefined) return assertSame(known, checked);
      await this.#options.steps.checkPorts(network, checked);
      const ifname = checked.ifname ?? 'eth0';
      return this.#macs.claim(network, checked.mac, async () => {
        const entry = await this.#reserve(network, { checked, callerId, ifname });
        return this.#options.own.put({ ...entry, step: null });
      });
    });
  }

  /**
   * Makes the link of a reservation: into its sandbox and configured, or, without a target, in the host namespace,
   * where it waits as `tsp-…` for its caller to move it.
   */
  async linkReserved(request: StepRequest): Promise<OwnEndpoint> {
    const entry = this.#options.lookup.byRef(request.endpoint);
    const network = this.#options.lookup.networkOf(entry);
    const link = (sandbox: OpenSandbox | null): Promise<OwnEndpoint> =>
      this.#inOrder(network.id, entry.record.callerId, async () => {
        const now = this.#options.own.get(entry.record.id) ?? entry;
        if (now.record.state !== 'reserved') {
          if (now.cookie === (sandbox?.cookie ?? null)) return now;
          throw new TsnetError(
            'ERR_ENDPOINT_EXISTS',
            `endpoint ${entry.record.id} is in ${now.record.sandbox ?? 'another sandbox'}`,
          );
        }
        await this.#options.carry.ensure(network);
        return this.#link(network, now, { sandbox, defaultRoute: request.defaultRoute ?? null, keepReservation: true });
      });
    return request.target === undefined ? link(null) : this.#withSandbox(request.target, link);
  }

  /** Writes addresses, routes and up inside an endpoint's sandbox; moves a link that still waits in the host there first. */
  async configure(request: StepRequest): Promise<OwnEndpoint> {
    const entry = this.#options.lookup.byRef(request.endpoint);
    const network = this.#options.lookup.networkOf(entry);
    const target = request.target ?? entry.record.sandbox;
    if (target === null)
      throw new TsnetError('ERR_INVALID_TARGET', 'the configure step needs a target', { details: { field: 'target' } });
    return this.#withSandbox(target, (sandbox) =>
      this.#inOrder(network.id, entry.record.callerId, () => {
        const now = this.#options.own.get(entry.record.id) ?? entry;
        const isReady =
          now.record.state === 'linked' || (now.record.state === 'attached' && now.cookie === sandbox.cookie);
        if (!isReady)
          throw new TsnetError('ERR_ENDPOINT_EXISTS', `endpoint ${now.record.id} is ${now.record.state}, not linked`);
        const defaultRoute = request.defaultRoute ?? null;
        const isAsBefore = now.record.state === 'attached' && defaultRoute === null;
        const defaultRoutes = isAsBefore
          ? now.defaultRoutes
          : this.#defaultRoutes(network, now, { sandbox, defaultRoute });
        return this.#options.steps.configure(network, now, { sandbox, defaultRoutes, takeOver: defaultRoute === true });
      }),
    );
  }

  /**
   * Takes a sandbox off a network, by target or by the caller's id. Repeated, or for what was never attached, it
   * removes nothing and is no error. In the background: see Steps.remove.
   */
  async detach(request: DetachRequest, how: RemovalOptions = {}): Promise<string[]> {
    const meant = await this.#options.lookup.callersMeant(request);
    if (meant === null) return [];
    const { network, callers } = meant;
    const removed: OwnEndpoint[] = [];
    for (const callerId of callers) {
      await this.#inOrder(network, callerId, async () => {
        for (const entry of this.#options.own.ofCaller(network, callerId)) {
          if (request.ifname !== undefined && entry.record.ifname !== request.ifname) continue;
          await this.remove(entry, how);
          removed.push(entry);
        }
      });
    }
    for (const entry of removed) await this.#handOverDefaultRoute(entry);
    return removed.map(({ record }) => record.id);
  }

  /** The endpoints that a detach would remove. */
  async meantBy(request: DetachRequest): Promise<OwnEndpoint[]> {
    const meant = await this.#options.lookup.callersMeant(request);
    if (meant === null) return [];
    return meant.callers
      .flatMap((callerId) => this.#options.own.ofCaller(meant.network, callerId))
      .filter(({ record }) => request.ifname === undefined || record.ifname === request.ifname);
  }

  /** Removes one endpoint in its caller's turn: for what happens without a caller (a sandbox that vanished). */
  async removeInTurn(id: string, stillWanted: (entry: OwnEndpoint) => boolean): Promise<void> {
    const entry = this.#options.own.get(id);
    if (entry === undefined) return;
    await this.#inOrder(entry.record.network, entry.record.callerId, async () => {
      const now = this.#options.own.get(id);
      if (now !== undefined && stillWanted(now)) await this.remove(now);
    });
  }

  /** Makes an endpoint's lost link again, in its caller's turn. */
  async relink(id: string): Promise<void> {
    const { links } = this.#options;
    const entry = this.#options.own.get(id);
    if (entry === undefined) return;
    await this.#inOrder(entry.record.network, entry.record.callerId, async () => {
      const now = this.#options.own.get(id);
      if (now === undefined || now.record.state !== 'attached' || now.record.sandbox === null) return;
      await this.#withSandbox(now.record.sandbox, async (sandbox) => {
        if (sandbox.cookie !== now.cookie || (await links.hostIfindex(id)) !== undefined) return;
        if (await links.renameBack(id)) return;
        try {
          await this.#options.steps.attach(this.#options.lookup.networkOf(now), now, {
            sandbox,
            defaultRoutes: now.defaultRoutes,
            takeOver: false,
          });
        } catch (error) {
          // It is attached all the same, as far as its owner knows: the next sweep tries again.
          this.#options.own.put(now);
          throw error;
        }
        this.#options.log.warn({ endpoint: id, sandbox: sandbox.text }, 'made a lost link again');
      });
    });
  }

  /** Changes labels, aliases, published ports, and whether services pass it over. Errors: those of the fields; ERR_PORT_IN_USE and its like. */
  async update(ref: string, change: EndpointUpdate): Promise<OwnEndpoint> {
    const { own, journal, steps } = this.#options;
    const entry = this.#options.lookup.byRef(ref);
    return this.#inOrder(entry.record.network, entry.record.callerId, async () => {
      let now = own.get(entry.record.id) ?? entry;
      const labels = change.labels === undefined ? now.record.labels : applyLabels(now.record.labels, change.labels);
      const aliases = change.aliases === undefined ? now.record.aliases : parseAliases(change.aliases);
      if (change.ports !== undefined)
        now = await steps.changePorts(this.#options.lookup.networkOf(now), now, checkPorts(change.ports));
      const { draining: wasDraining = false, ...record } = now.record;
      const isDraining = change.draining ?? wasDraining;
      if (change.labels === undefined && change.aliases === undefined && isDraining === wasDraining) return now;
      const drain = isDraining ? { draining: true } : {};
      return own.put({
        ...now,
        record: { ...record, ...drain, labels, aliases, generation: journal.nextGeneration() },
      });
    });
  }

  /** Says which services' health checks an endpoint passes; nothing where it is not attached (any longer). */
  async setPassing(id: string, passing: readonly string[]): Promise<void> {
    const { own, journal } = this.#options;
    const entry = own.get(id);
    if (entry === undefined) return;
    await this.#inOrder(entry.record.network, entry.record.callerId, async () => {
      const now = own.get(id);
      if (now?.record.state !== 'attached') return;
      own.put({ ...now, record: { ...now.record, passing, generation: journal.nextGeneration() } });
    });
  }

  /** Removes an endpoint's link, addresses and record, and lets its network rest after the last one. */
  async remove(entry: OwnEndpoint, how: RemovalOptions = {}): Promise<void> {
    await this.#options.steps.remove(entry, how);
    this.#options.carry.release(entry.record.network);
  }

  async #attach(
    network: Network,
    request: { checked: CheckedRequest; callerId: string; sandbox: OpenSandbox },
  ): Promise<OwnEndpoint> {
    const { checked, callerId, sandbox } = request;
    for (const old of this.#options.own.ofCaller(network.id, callerId)) {
      const isElsewhere = old.cookie !== null && (old.cookie !== sandbox.cookie || old.bootId !== this.#options.bootId);
      if (isElsewhere && (checked.ifname === null || old.record.ifname === checked.ifname)) await this.remove(old);
    }
    const known = this.#find(network.id, callerId, checked.ifname);
    if (known?.record.state === 'attached') {
      assertSame(known, checked);
      if (network.driver === 'macvlan' || (await this.#options.links.hostIfindex(known.record.id)) !== undefined) {
        await this.#options.steps.mendInside(network, known, sandbox);
        return known;
      }
      await this.remove(known);
    }
    const isCarried = this.#options.own.countOf(network.id) > 0;
    if (known?.record.state !== 'reserved') await this.#options.steps.checkPorts(network, checked, isCarried);
    await this.#options.carry.ensure(network);
    if (known?.record.state === 'reserved') {
      return this.#link(network, known, { sandbox, defaultRoute: checked.defaultRoute, keepReservation: true });
    }
    return this.#macs.claim(network, checked.mac, () => this.#attachFresh(network, request));
  }

  /** Where the caller leaves the interface's name open, one that somebody else has taken is passed over. */
  async #attachFresh(
    network: Network,
    request: { checked: CheckedRequest; callerId: string; sandbox: OpenSandbox },
  ): Promise<OwnEndpoint> {
    const { checked, callerId, sandbox } = request;
    const taken = new Set(this.#options.own.ofSandbox(sandbox.cookie).map((own) => own.record.ifname));
    for (let number = 0; ; number++) {
      const ifname = checked.ifname ?? `eth${number}`;
      if (checked.ifname === null && taken.has(ifname)) continue;
      const entry = await this.#reserve(network, { checked, callerId, ifname });
      try {
        return await this.#link(network, entry, {
          sandbox,
          defaultRoute: checked.defaultRoute,
          keepReservation: false,
        });
      } catch (error) {
        const isNameTaken = error instanceof TsnetError && error.code === 'ERR_IFNAME_IN_USE';
        if (!isNameTaken || checked.ifname !== null || number >= ifnameTries) throw error;
      }
    }
  }

  async #reserve(
    network: Network,
    request: { checked: CheckedRequest; callerId: string; ifname: string },
  ): Promise<OwnEndpoint> {
    const { own, steps } = this.#options;
    const pending = this.#ports.get(network.id) ?? 0;
    if (own.countOf(network.id) + pending >= endpointsPerHost[network.driver]) {
      const message = `network ${network.name} has ${own.countOf(network.id)} endpoints on this host, as many as bridge ${bridgeName(network.id)} has ports`;
      throw new TsnetError('ERR_PORTS_EXHAUSTED', message, { details: { network: network.name } });
    }
    this.#ports.set(network.id, pending + 1);
    try {
      const { checked, callerId, ifname } = request;
      return await steps.reserve({ network, request: checked, callerId, ifname });
    } finally {
      const left = (this.#ports.get(network.id) ?? 1) - 1;
      if (left === 0) this.#ports.delete(network.id);
      else this.#ports.set(network.id, left);
    }
  }

  async #link(
    network: Network,
    entry: OwnEndpoint,
    at: { sandbox: OpenSandbox | null; defaultRoute: boolean | null; keepReservation: boolean },
  ): Promise<OwnEndpoint> {
    const { own, steps } = this.#options;
    const { sandbox, defaultRoute } = at;
    try {
      if (sandbox === null) return await steps.linkInHost(network, entry);
      const defaultRoutes = this.#defaultRoutes(network, entry, { sandbox, defaultRoute });
      return await steps.attach(network, entry, { sandbox, defaultRoutes, takeOver: defaultRoute === true });
    } catch (error) {
      const now = own.get(entry.record.id);
      if (now === undefined) steps.forget(entry);
      else await this.#undo(now, { ...at, reserved: entry });
      throw error;
    }
  }

  async #undo(now: OwnEndpoint, at: { reserved: OwnEndpoint; keepReservation: boolean }): Promise<void> {
    try {
      if (!at.keepReservation) await this.remove(now);
      else {
        await this.#options.steps.unlink(now);
        this.#options.own.put({ ...at.reserved, step: null });
      }
    } catch (error) {
      this.#options.log.error(
        { endpoint: now.record.id, error: String(error) },
        'could not take back a failed attach; it is tried again',
      );
    }
  }

  /** The default route that went with an endpoint passes to the next network of the sandbox that has a way out. */
  async #handOverDefaultRoute(gone: OwnEndpoint): Promise<void> {
    const { own, log } = this.#options;
    const { sandbox } = gone.record;
    if (gone.cookie === null || sandbox === null || gone.defaultRoutes.length === 0) return;
    for (const next of own.ofSandbox(gone.cookie)) {
      const network = this.#options.knownNetwork(next.record.network);
      if (network === undefined || next.record.state !== 'attached') continue;
      const possible = gatewayFamilies(network).filter((family) => familiesOf(next.record.addresses).includes(family));
      if (!possible.some((family) => gone.defaultRoutes.includes(family))) continue;
      try {
        await this.configure({ endpoint: next.record.id, target: sandbox, defaultRoute: true });
      } catch (error) {
        log.debug(
          { endpoint: next.record.id, error: toTsnetError(error).message },
          'the default route was not handed over',
        );
      }
      return;
    }
  }

  #defaultRoutes(
    network: Network,
    entry: OwnEndpoint,
    at: { sandbox: OpenSandbox; defaultRoute: boolean | null },
  ): Family[] {
    if (at.defaultRoute === false) return [];
    const families = gatewayFamilies(network).filter((family) => familiesOf(entry.record.addresses).includes(family));
    if (at.defaultRoute === true) return families;
    const given = this.#options.own.ofSandbox(at.sandbox.cookie).flatMap((own) => own.defaultRoutes);
    return families.filter((family) => !given.includes(family));
  }

  #find(network: string, callerId: string, ifname: string | null): OwnEndpoint | undefined {
    const known = this.#options.own.ofCaller(network, callerId).filter((own) => own.record.state !== 'detaching');
    return ifname === null ? known[0] : known.find((own) => own.record.ifname === ifname);
  }

  /** Opens a target for as long as it is worked on; an open namespace would outlive its sandbox. */
  async #withSandbox<T>(text: string, work: (sandbox: OpenSandbox) => Promise<T>): Promise<T> {
    const target = parseTarget(text);
    const netns = await openTarget(this.#options.native, target);
    try {
      return await work({ text: target.text, fd: netns.fd, cookie: String(netns.cookie) });
    } finally {
      netns.close();
    }
  }

  #defaultCallerId(cookie: string): string {
    return `sandbox-${this.#options.bootId.slice(0, 8)}-${cookie}`;
  }

  #inOrder<T>(network: string, callerId: string, task: () => Promise<T>): Promise<T> {
    return this.#queue.run(`${network}/${callerId}`, task);
  }
}
