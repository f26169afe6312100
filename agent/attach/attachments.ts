import { setTimeout as wait } from 'node:timers/promises';
import type { AttachRequest, DetachRequest, EndpointUpdate, StepRequest } from '../../core/api/attach.js';
import type { Family } from '../../core/addr.js';
import { TsnetError, toTsnetError } from '../../core/errors.js';
import { bridgeName } from '../../core/ids.js';
import type { Endpoint, Network } from '../../core/model.js';
import { applyLabels, parseAliases } from '../../core/name.js';
import { checkPorts, isSameBandwidth, isSamePorts } from '../../core/ports.js';
import type { Logger } from '../../lib/log.js';
import { KeyedQueue } from '../../lib/sync/keyed-queue.js';
import type { NativeApi } from '../../native/api.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { Journal } from '../journal/journal.js';
import type { Carry } from './carry.js';
import type { OwnIndex } from './own-index.js';
import { checkRequest, gatewayFamilies, type CheckedRequest } from './request.js';
import { familiesOf, type OpenSandbox, type RemovalOptions, type Steps } from './steps.js';
import { openTarget, parseTarget, type Target } from './target.js';

export interface AttachmentsOptions {
  readonly native: NativeApi;
  readonly journal: Journal;
  readonly own: OwnIndex;
  readonly steps: Steps;
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
/** How long a MAC is waited for that was on another host until just now. */
const macWaitMs = 1000;
const macLookMs = 50;

/**
 * The verbs on own endpoints. One caller's id on one network is worked on in order, everything else in parallel; each
 * verb can be repeated.
 */
export class Attachments {
  readonly #options: AttachmentsOptions;
  readonly #queue = new KeyedQueue();
  readonly #ports = new Map<string, number>();
  /** By network and MAC that somebody chose. */
  readonly #macs = new KeyedQueue();

  constructor(options: AttachmentsOptions) {
    this.#options = options;
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
      if (known !== undefined) return this.#assertSame(known, checked);
      await this.#options.steps.checkPorts(network, checked);
      const ifname = checked.ifname ?? 'eth0';
      return this.#byMac(network, checked.mac, async () => {
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
    const entry = this.#byRef(request.endpoint);
    const network = this.#networkOf(entry);
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
    const entry = this.#byRef(request.endpoint);
    const network = this.#networkOf(entry);
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
    const network = await this.#networkOfDetach(request);
    if (network === null) return [];
    const callers = await this.#callersOf(network, request);
    const removed: OwnEndpoint[] = [];
    for (const callerId of callers) {
      await this.#inOrder(network.id, callerId, async () => {
        for (const entry of this.#options.own.ofCaller(network.id, callerId)) {
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
    const network = await this.#networkOfDetach(request);
    if (network === null) return [];
    const callers = await this.#callersOf(network, request);
    return callers
      .flatMap((callerId) => [...this.#options.own.ofCaller(network.id, callerId)])
      .filter(({ record }) => request.ifname === undefined || record.ifname === request.ifname);
  }

  /**
   * The network of a detach. One that the cluster does not know (any more) may still have endpoints here: by its id, or
   * as the only one of those unknown that the caller's sandbox or id is in.
   */
  async #networkOfDetach(request: DetachRequest): Promise<{ readonly id: string } | null> {
    try {
      return await this.#options.network(request.network);
    } catch (error) {
      const { code } = toTsnetError(error);
      if (code !== 'ERR_NETWORK_UNKNOWN' && code !== 'ERR_CONTROLLER_UNREACHABLE') throw error;
    }
    const strays = [...this.#options.journal.endpoints()].filter(
      ({ record }) => this.#options.knownNetwork(record.network) === undefined,
    );
    const byId = strays.find(({ record }) => record.network === request.network);
    if (byId !== undefined) return { id: byId.record.network };
    const own = strays.filter(
      ({ record }) =>
        (request.id ?? record.callerId) === record.callerId && (request.target ?? record.sandbox) === record.sandbox,
    );
    const networks = new Set(own.map(({ record }) => record.network));
    const [only] = networks;
    return only === undefined || networks.size > 1 ? null : { id: only };
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
    const entry = this.#options.own.get(id);
    if (entry === undefined) return;
    await this.#inOrder(entry.record.network, entry.record.callerId, async () => {
      const now = this.#options.own.get(id);
      if (now === undefined || now.record.state !== 'attached' || now.record.sandbox === null) return;
      await this.#withSandbox(now.record.sandbox, async (sandbox) => {
        if (sandbox.cookie !== now.cookie || (await this.#options.steps.hasHostLink(now))) return;
        if (await this.#options.steps.renameBack(now)) return;
        try {
          await this.#options.steps.attach(this.#networkOf(now), now, {
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
    const entry = this.#byRef(ref);
    return this.#inOrder(entry.record.network, entry.record.callerId, async () => {
      let now = own.get(entry.record.id) ?? entry;
      const labels = change.labels === undefined ? now.record.labels : applyLabels(now.record.labels, change.labels);
      const aliases = change.aliases === undefined ? now.record.aliases : parseAliases(change.aliases);
      if (change.ports !== undefined)
        now = await steps.changePorts(this.#networkOf(now), now, checkPorts(change.ports));
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
      this.#assertSame(known, checked);
      if (network.driver === 'macvlan' || (await this.#options.steps.hasHostLink(known))) {
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
    return this.#byMac(network, checked.mac, () => this.#attachFresh(network, request));
  }

  /** Those who choose one MAC wait for each other: whether it is free shows once the one before has its record. */
  #byMac<T>(network: Network, mac: string | null, task: () => Promise<T>): Promise<T> {
    return mac === null ? task() : this.#macs.run(`${network.id}/${mac}`, task);
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
    if (request.checked.mac !== null) await this.#assertMacFree(network, request.checked.mac);
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

  /**
   * A bridge has one port for a MAC, and leads it to one host. Where two hosts choose it at once, the controller has the last
   * word when it hears of the endpoints.
   */
  async #assertMacFree(network: Network, mac: string): Promise<void> {
    const { own, macHolder } = this.#options;
    const here = own.ofNetwork(network.id).find(({ record }) => record.mac === mac)?.record;
    let holder = here ?? macHolder(network.id, mac);
    for (let waitedMs = 0; here === undefined && holder !== undefined && waitedMs < macWaitMs; waitedMs += macLookMs) {
      await wait(macLookMs);
      holder = macHolder(network.id, mac);
    }
    if (holder === undefined) return;
    const message = `MAC ${mac} is that of endpoint ${holder.id} on ${network.name}, on host ${holder.host}`;
    throw new TsnetError('ERR_MAC_IN_USE', message, {
      details: { field: 'mac', value: mac, network: network.name, endpoint: holder.id, host: holder.host },
    });
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

  /** A repetition may leave out what the first call said, but may not contradict it. */
  #assertSame(known: OwnEndpoint, request: CheckedRequest): OwnEndpoint {
    const { record } = known;
    const differs =
      request.addresses.some((address) => !record.addresses.includes(address)) ||
      (request.mac !== null && request.mac !== record.mac) ||
      (request.name !== null && request.name !== record.name) ||
      (request.ports !== null && !isSamePorts(record.ports ?? [], request.ports)) ||
      (request.bandwidth !== null && !isSameBandwidth(record.bandwidth ?? {}, request.bandwidth));
    if (!differs) return known;
    const message = `endpoint ${record.id} (${record.callerId}, ${record.ifname}) exists with ${record.addresses.join(', ')}, MAC ${record.mac}, name ${record.name ?? 'none'}, ${record.ports?.length ?? 0} published ports`;
    throw new TsnetError('ERR_ENDPOINT_EXISTS', message, { details: { endpoint: record.id } });
  }

  async #callersOf(network: { readonly id: string }, request: DetachRequest): Promise<string[]> {
    const { own, native, journal } = this.#options;
    if (request.id !== undefined) return [request.id];
    if (request.target === undefined) {
      throw new TsnetError('ERR_INVALID_REQUEST', 'a detach needs a target or an id', { details: { field: 'target' } });
    }
    const target: Target = parseTarget(request.target);
    const [cookie] = await native.netnsCookies([target.ref]);
    const found =
      typeof cookie === 'bigint'
        ? own.ofSandbox(String(cookie))
        : journal.endpointsOf(network.id).filter((each) => each.record.sandbox === target.text);
    return [...new Set(found.filter((each) => each.record.network === network.id).map((each) => each.record.callerId))];
  }

  /** An endpoint by id, by caller's id or by name, where that is one. */
  #byRef(ref: string): OwnEndpoint {
    const { own, journal } = this.#options;
    const byId = own.get(ref);
    if (byId !== undefined) return byId;
    const found = [...journal.endpoints()].filter(({ record }) => record.name === ref || record.callerId === ref);
    const [only, ...others] = found;
    if (only !== undefined && others.length === 0) return only;
    const ids = found.map(({ record }) => record.id);
    if (only !== undefined) {
      throw new TsnetError('ERR_INVALID_REQUEST', `"${ref}" names several endpoints of this host: ${ids.join(', ')}`, {
        details: { endpoints: ids },
      });
    }
    throw new TsnetError('ERR_ENDPOINT_UNKNOWN', `this host has no endpoint "${ref}"`, { details: { endpoint: ref } });
  }

  #networkOf(entry: OwnEndpoint): Network {
    const network = this.#options.knownNetwork(entry.record.network);
    if (network !== undefined) return network;
    throw new TsnetError(
      'ERR_NETWORK_UNKNOWN',
      `network ${entry.record.network} of endpoint ${entry.record.id} is not known here`,
    );
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
