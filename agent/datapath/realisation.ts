import type { KernelObject } from '../../core/kernel.js';
import type { Network } from '../../core/model.js';
import type { BridgeNetfilter } from '../bridge-netfilter.js';
import type { DnsFeed } from '../dns/feed.js';
import type { Firewall } from '../firewall/firewall.js';
import type { Policies } from '../policy/policies.js';
import type { Reconciler } from '../reconcile/reconciler.js';
import type { Services } from '../services/services.js';
import { ownerOf, type DesiredSink } from './datapath.js';

export interface RealisationParts {
  readonly reconciler: Pick<Reconciler, 'setDesired' | 'settled'>;
  readonly bridgeNetfilter: BridgeNetfilter;
  readonly policies: Policies;
  readonly services: Services;
  readonly firewall: Firewall;
  /** Null: this host answers no names. */
  readonly dns: DnsFeed | null;
  readonly knownNetwork: (id: string) => Network | undefined;
  /** The host's own addresses in a network. */
  readonly addressesIn: (network: Network) => readonly string[];
  /** Resolves when what others have on a network is known here, as far as it can be. */
  readonly loaded: (network: string) => Promise<void>;
}

const networkOwners = ownerOf.network('');

/**
 * Where what drivers want becomes what this host has: kernel objects go to the reconciler, with what policies and
 * services have a word in (bridges' and ports' settings), and whoever else has to do with a network that is realised
 * here (firewall, services, names) hears that it is, or is no longer.
 */
export class Realisation implements DesiredSink {
  readonly #parts: RealisationParts;
  /** Objects as a driver wants them, by owner, where somebody else has a word in what they are like. */
  readonly #shared = new Map<string, readonly KernelObject[]>();

  constructor(parts: RealisationParts) {
    this.#parts = parts;
  }

  setDesired(owner: string, objects: readonly KernelObject[]): void {
    if (objects.length === 0) this.#shared.delete(owner);
    if (owner.startsWith(networkOwners)) return this.#setNetwork(owner, objects);
    // Remote endpoints have no port here, which is all that services have a word in.
    if (!objects.some(({ kind }) => kind === 'port')) return this.#parts.reconciler.setDesired(owner, objects);
    this.#shared.set(owner, objects);
    this.#setEndpoint(owner, objects);
  }

  /** Sets a network's own objects as policies have them, who have changed their mind about its bridge. */
  setPolicied(owner: string, objects: readonly KernelObject[]): void {
    this.#setBridged(owner, this.#parts.services.withSwitch(networkOf(owner), objects));
  }

  /** Sets the objects of an owner again: what services have to say of them has changed. */
  refresh(owner: string): void {
    const objects = this.#shared.get(owner);
    if (objects === undefined) return;
    if (owner.startsWith(networkOwners)) this.#setSwitched(owner, objects);
    else this.#setEndpoint(owner, objects);
  }

  /**
   * Resolves when all that an owner wants is in the kernel, and what depends on it in the tables; of a network also when
   * its names are answered and its services known.
   * Errors: see Reconciler.settled; ERR_KERNEL of the tables.
   */
  async settled(owner: string, timeoutMs: number): Promise<void> {
    const { reconciler, policies, dns, firewall, loaded, services } = this.#parts;
    await reconciler.settled(owner, timeoutMs);
    if (!owner.startsWith(networkOwners)) return policies.settled();
    const network = networkOf(owner);
    await dns?.settled(network);
    await firewall.settled(network);
    // The first sandbox of a network here may use its services at once.
    await loaded(network);
    await services.settled();
  }

  #setNetwork(owner: string, objects: readonly KernelObject[]): void {
    const { knownNetwork, addressesIn, services, firewall, dns } = this.#parts;
    const id = networkOf(owner);
    if (objects.length > 0) this.#shared.set(owner, objects);
    const network = objects.length === 0 ? undefined : knownNetwork(id);
    const addresses = network === undefined ? [] : addressesIn(network);
    // Before the bridge is asked for: whether it shows its frames to the table depends on it.
    if (network !== undefined) services.carry(network, addresses);
    this.#setSwitched(owner, objects);
    if (network === undefined) {
      firewall.drop(id);
      services.drop(id);
      dns?.drop(id);
    } else {
      firewall.carry(network, addresses);
      dns?.carry(network, addresses);
    }
  }

  #setSwitched(owner: string, objects: readonly KernelObject[]): void {
    this.setPolicied(owner, this.#parts.policies.withSwitch(networkOf(owner), objects));
  }

  #setBridged(owner: string, objects: readonly KernelObject[]): void {
    const { bridgeNetfilter, reconciler } = this.#parts;
    bridgeNetfilter.note(objects);
    reconciler.setDesired(owner, objects);
  }

  #setEndpoint(owner: string, objects: readonly KernelObject[]): void {
    const { reconciler, services } = this.#parts;
    reconciler.setDesired(owner, services.withHairpin(owner.slice(owner.lastIndexOf('/') + 1), objects));
  }
}

const networkOf = (owner: string): string => owner.slice(networkOwners.length);
