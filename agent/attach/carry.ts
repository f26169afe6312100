import { parseAddr } from '../../core/addr.js';
import { toTsnetError, TsnetError } from '../../core/errors.js';
import { macForBridge } from '../../core/mac.js';
import type { Network } from '../../core/model.js';
import { ownerOf, type Datapath } from '../datapath/datapath.js';
import type { Journal } from '../journal/journal.js';

/** Addresses of the host itself in a network. */
export interface HostAddressSource {
  ensureHostAddresses(network: Network): Promise<readonly string[]>;
  releaseHost(network: string): void;
}

/** How the cluster hears which networks this host carries. */
export interface CarrierAnnouncer {
  addInterest(network: string): void;
  /** Resolves when a controller has the carrier record, or after 200 ms, or at once while none is connected. */
  announceCarrier(network: string): Promise<unknown>;
}

export interface CarryOptions {
  readonly datapath: Datapath;
  readonly journal: Journal;
  readonly addresses: HostAddressSource;
  readonly announcer: CarrierAnnouncer;
  readonly settled: (owner: string, timeoutMs: number) => Promise<void>;
  readonly host: string;
  readonly knownNetwork: (id: string) => Network | undefined;
  /** As it is now. */
  readonly underlay: { readonly vtep: string; readonly mtu: number };
  /** A network without endpoints here is taken down after this long. */
  readonly idleMs: number;
  /** Own endpoints of a network. */
  readonly countOf: (network: string) => number;
  /** Whether a network without endpoints here is carried all the same: for one that it is joined to. */
  readonly isTransit: (network: string) => boolean;
}

/** Outer Ethernet, IP, UDP and VXLAN headers (RFC 7348 §5): 14 + 20 or 40 + 8 + 8. */
const vxlanOverheadBytes = { 4: 50, 6: 70 } as const;
const settleMs = 5000;

/**
 * Which networks this host carries: from the first endpoint's attach, in it or in a network joined to it, until some
 * time after the last one's detach.
 */
export class Carry {
  readonly #options: CarryOptions;
  readonly #starting = new Map<string, Promise<void>>();
  readonly #idle = new Map<string, NodeJS.Timeout>();

  constructor(options: CarryOptions) {
    this.#options = options;
  }

  /**
   * Makes sure that this host carries a network: its own address, bridge and VXLAN device, announcement.
   * Costs nothing when it does so already.
   * Errors: ERR_MTU_UNDERLAY, ERR_VNI_CONFLICT, ERR_LINK_CONFLICT, ERR_PARENT_UNKNOWN, ERR_NO_BLOCK, ERR_ADDRESS_EXHAUSTED, ERR_KERNEL.
   */
  async ensure(network: Network): Promise<void> {
    const timer = this.#idle.get(network.id);
    if (timer !== undefined) {
      clearTimeout(timer);
      this.#idle.delete(network.id);
    }
    const starting = this.#starting.get(network.id);
    if (starting !== undefined) return starting;
    if (this.#options.datapath.isRealised(network.id)) return;
    const start = this.#start(network).finally(() => this.#starting.delete(network.id));
    this.#starting.set(network.id, start);
    return start;
  }

  /** Takes up what the journal says was carried: nothing is waited for, the reconciler finds most of it in place. */
  resume(network: Network): void {
    const own = this.#options.journal.carrier(network.id);
    if (own === undefined) return;
    this.#options.datapath.realise(network, own.record.addresses);
    this.#options.announcer.addInterest(network.id);
    if (own.record.vtep !== this.#options.underlay.vtep) this.#putCarrier(network, own.record.addresses);
  }

  /** Follows the underlay: the VXLAN devices of what is carried, and what other hosts are told. */
  moveVtep(): void {
    const { datapath, journal, knownNetwork, underlay } = this.#options;
    for (const { record } of [...journal.carriers()]) {
      const network = knownNetwork(record.network);
      if (network !== undefined && record.vtep !== underlay.vtep) this.#putCarrier(network, record.addresses);
    }
    datapath.realiseAgain();
  }

  /** Networks carried here that are larger than the underlay carries by now: their large packets are lost. */
  warnings(): readonly { readonly code: string; readonly message: string }[] {
    const { datapath, knownNetwork } = this.#options;
    return [...datapath.realised()].flatMap((id) => {
      const network = knownNetwork(id);
      try {
        if (network !== undefined) this.#checkMtu(network);
        return [];
      } catch (error) {
        const { code, message } = toTsnetError(error);
        return [{ code, message }];
      }
    });
  }

  /** Gives this host new addresses of its own in a network: it lost the old ones with their block. */
  async renumber(network: Network): Promise<void> {
    if (!this.#options.datapath.isRealised(network.id)) return;
    const own = await this.#options.addresses.ensureHostAddresses(network);
    this.#putCarrier(network, own);
    this.#options.datapath.realise(network, own);
  }

  /** Called after each detach: the last one starts the network's rest. */
  release(network: string): void {
    if (this.#isNeeded(network) || this.#idle.has(network)) return;
    const timer = setTimeout(() => {
      this.#idle.delete(network);
      if (!this.#isNeeded(network)) this.drop(network);
    }, this.#options.idleMs);
    timer.unref();
    this.#idle.set(network, timer);
  }

  /** Takes a network down at once: it has no endpoints here any more. */
  drop(network: string): void {
    const { datapath, journal, addresses } = this.#options;
    clearTimeout(this.#idle.get(network));
    this.#idle.delete(network);
    datapath.withdraw(network);
    journal.removeCarrier(network);
    addresses.releaseHost(network);
  }

  close(): void {
    for (const timer of this.#idle.values()) clearTimeout(timer);
    this.#idle.clear();
  }

  #isNeeded(network: string): boolean {
    return this.#options.countOf(network) > 0 || this.#options.isTransit(network);
  }

  async #start(network: Network): Promise<void> {
    this.#checkMtu(network);
    const { datapath, addresses, announcer } = this.#options;
    const needsAddress = network.driver !== 'macvlan' || network.options['host-shim'] === 'true';
    const own = needsAddress ? await addresses.ensureHostAddresses(network) : [];
    try {
      this.#putCarrier(network, own);
    } catch (error) {
      if (this.#options.countOf(network.id) === 0) addresses.releaseHost(network.id);
      throw error;
    }
    datapath.realise(network, own);
    announcer.addInterest(network.id);
    const [settled] = await Promise.allSettled([
      this.#options.settled(ownerOf.network(network.id), settleMs),
      announcer.announceCarrier(network.id),
    ]);
    if (settled.status === 'fulfilled') return;
    if (this.#options.countOf(network.id) === 0) this.drop(network.id);
    throw settled.reason;
  }

  #putCarrier(network: Network, addresses: readonly string[]): void {
    const { journal, host, underlay } = this.#options;
    const { vtep } = underlay;
    const held = journal.carrier(network.id)?.record.held;
    const carrier = { network: network.id, host, vtep, addresses, mac: macForBridge(network.id, host) };
    journal.putCarrier(held === undefined ? carrier : { ...carrier, held });
  }

  #checkMtu(network: Network): void {
    if (network.driver !== 'overlay') return;
    const { mtu, vtep } = this.#options.underlay;
    const room = mtu - vxlanOverheadBytes[parseAddr(vtep).family];
    if (network.mtu <= room) return;
    throw new TsnetError(
      'ERR_MTU_UNDERLAY',
      `network ${network.name} has MTU ${network.mtu}, but this host's underlay (MTU ${mtu}) carries ${room} at most`,
      { details: { network: network.name, mtu: network.mtu, largest: room } },
    );
  }
}
