import type { Network } from '../../core/model.js';
import { guardedElements, passingElements } from '../../core/nft/element.js';
import type { Place } from '../../lib/places.js';
import type { ClusterState } from '../state/cluster-state.js';
import type { Forwarding } from './forwarding.js';
import type { Neighbourhood, Warning } from './neighbourhood.js';
import { planByAddresses } from './own-addresses.js';
import type { RuleSet } from './rule-set.js';

export interface HostElementsOptions {
  readonly ruleSet: RuleSet;
  readonly forwarding: Forwarding;
  readonly neighbourhood: Neighbourhood;
  readonly state: ClusterState;
  /** What no sandbox may reach. */
  readonly guarded: () => Promise<readonly Place[]>;
  /** Names of the bridges that are not ours. */
  readonly otherBridges: () => Promise<readonly string[]>;
  /** All addresses of this host. */
  readonly hostAddresses: () => Promise<ReadonlySet<string>>;
}

const owners = {
  guarded: 'guarded',
  apart: 'apart',
  forwarding: 'forwarding',
  addresses: 'addresses',
} as const;

/**
 * What the host's table has because of the host itself and of what else is on it: guarded places, its addresses, who
 * turned forwarding on, Docker's bridges. Nothing says when these change: they are looked at.
 */
export class HostElements {
  readonly #options: HostElementsOptions;
  readonly #carried: () => readonly Network[];
  #guarded: readonly Place[] = [];
  #addressWarnings: readonly Warning[] = [];

  /** `carried` are the networks that this host carries. */
  constructor(options: HostElementsOptions, carried: () => readonly Network[]) {
    this.#options = options;
    this.#carried = carried;
  }

  get warnings(): readonly Warning[] {
    return [...this.#options.neighbourhood.warnings, ...this.#addressWarnings];
  }

  /** Takes in which places are guarded. */
  async guard(): Promise<void> {
    const { ruleSet, state, guarded } = this.#options;
    this.#guarded = [...(await guarded()), ...(state.settings?.guarded ?? [])];
    ruleSet.setElements(owners.guarded, guardedElements(this.#guarded));
    await this.followAddresses();
  }

  /** Takes in which addresses the host has: networks leave by some, guarded places are at some. */
  async followAddresses(): Promise<void> {
    const { ruleSet, hostAddresses } = this.#options;
    const { elements, warnings } = planByAddresses(await hostAddresses(), this.#carried(), this.#guarded);
    this.#addressWarnings = warnings;
    ruleSet.setElements(owners.addresses, elements);
  }

  /** Turns forwarding on where it is off; what is forwarded for our sake only is ours alone. */
  async ensureForwarding(): Promise<void> {
    const { ruleSet, forwarding, otherBridges } = this.#options;
    const closed = await forwarding.ensure();
    const bridges = closed.length === 0 ? [] : await otherBridges();
    ruleSet.setElements(owners.forwarding, [...closed, ...passingElements(bridges)]);
  }

  /** Looks at the tables of others. */
  async lookAtOthers(): Promise<void> {
    const { neighbourhood, ruleSet } = this.#options;
    await neighbourhood.look(await ruleSet.chains(), (chain) => ruleSet.rulesOf(chain));
    ruleSet.setElements(
      owners.apart,
      neighbourhood.dockerBridges.map((bridge) => ({ set: 'apart', key: `"${bridge}"` })),
    );
  }

  /** Puts forwarding and the tables of others back as they were. */
  async leave(): Promise<void> {
    const { ruleSet, forwarding, neighbourhood } = this.#options;
    await forwarding.restore();
    await neighbourhood.leave();
    for (const owner of [owners.forwarding, owners.apart, owners.addresses]) ruleSet.setElements(owner, []);
    this.#addressWarnings = [];
  }
}
