import type { TsnetError } from '../../core/errors.js';
import type { KernelObject } from '../../core/kernel.js';
import { compilePolicies, type PolicyGroup, type PolicyTable } from '../../core/policy/compile.js';
import type { PolicyEndpoint } from '../../core/policy/selector.js';
import type { Logger } from '../../lib/log.js';
import type { OwnIndex } from '../attach/own-index.js';
import type { RuleSet } from '../firewall/rule-set.js';
import type { Journal } from '../journal/journal.js';
import type { ClusterState, StateChange } from '../state/cluster-state.js';

export interface PoliciesOptions {
  /** Of the table `tsnet-policy`: its own, so that a change of policy rewrites nothing else, and nothing else it. */
  readonly ruleSet: RuleSet;
  readonly state: ClusterState;
  readonly own: OwnIndex;
  readonly journal: Journal;
  /** Where desired objects of a network's owner go. */
  readonly setDesired: (owner: string, objects: readonly KernelObject[]) => void;
  /** The owner of a network's own objects. */
  readonly ownerOf: (network: string) => string;
  readonly log: Logger;
}

const elementOwner = 'policies';

/**
 * Enforces policies on this host: turns them, and the endpoints that this host knows, into a table of its own, and has
 * the bridges of those networks show their frames to it in which a policy selects an endpoint of this host.
 */
export class Policies {
  readonly #options: PoliciesOptions;
  readonly #stops: (() => void)[];
  /** What was wanted last of networks' own objects, without the switch. */
  readonly #objects = new Map<string, readonly KernelObject[]>();
  #filtered: ReadonlySet<string> = new Set();
  #groups: readonly PolicyGroup[] = [];
  #table: PolicyTable | null = null;
  #tableText = 'null';
  #isDue = false;
  #isClosed = false;

  constructor(options: PoliciesOptions) {
    this.#options = options;
    options.ruleSet.setTable(null);
    this.#stops = [
      options.own.onChange(() => this.#schedule()),
      options.state.onChange((change) => this.#follow(change)),
    ];
    this.#compile();
  }

  get failure(): TsnetError | null {
    return this.#options.ruleSet.failure;
  }

  close(): void {
    this.#isClosed = true;
    for (const stop of this.#stops) stop();
  }

  /** A network's own objects with the switch of its bridge as policies want it. */
  withSwitch(network: string, objects: readonly KernelObject[]): readonly KernelObject[] {
    if (objects.length === 0) this.#objects.delete(network);
    else this.#objects.set(network, objects);
    if (!this.#filtered.has(network)) return objects;
    return objects.map((object) => (object.kind === 'bridge' ? { ...object, filtered: true } : object));
  }

  /** Resolves when what is known now is in the kernel. Errors: ERR_KERNEL. */
  async settled(): Promise<void> {
    if (this.#isDue) this.#compile();
    await this.#options.ruleSet.settled();
  }

  #follow(change: StateChange): void {
    if (change.kind === 'policy') this.#groups = [];
    if (change.kind === 'policy' || change.kind === 'network' || change.kind === 'endpoint') this.#schedule();
  }

  /** Changes that come together are compiled once. */
  #schedule(): void {
    if (this.#isDue || this.#isClosed) return;
    if (this.#table === null && this.#options.state.policies.length === 0) return;
    this.#isDue = true;
    setImmediate(() => {
      if (this.#isDue && !this.#isClosed) this.#compile();
    });
  }

  #compile(): void {
    this.#isDue = false;
    const { state, journal, ruleSet } = this.#options;
    const { policies } = state;
    const own = [...journal.endpoints()].map(({ record }) => record).filter((record) => record.state !== 'detaching');
    const isOwn = new Set<PolicyEndpoint>(own);
    const networks = [...state.networks()];
    const endpoints = [...own, ...networks.flatMap(({ id }) => [...state.endpointsOf(id)])];
    const compiled = compilePolicies({ policies, networks, endpoints }, (each) => isOwn.has(each), this.#groups);
    this.#groups = compiled.groups;
    // Elements alone are a small change; another table is loaded as a whole.
    const text = JSON.stringify(compiled.table);
    if (text !== this.#tableText) {
      this.#tableText = text;
      this.#table = compiled.table;
      ruleSet.setTable(compiled.table);
    }
    ruleSet.setElements(elementOwner, compiled.elements);
    this.#switch(compiled.networks);
  }

  #switch(networks: ReadonlySet<string>): void {
    const before = this.#filtered;
    this.#filtered = networks;
    for (const network of new Set([...before, ...networks])) {
      const objects = this.#objects.get(network);
      if (before.has(network) === networks.has(network) || objects === undefined) continue;
      this.#options.setDesired(this.#options.ownerOf(network), this.withSwitch(network, objects));
    }
  }
}
