import { setTimeout as wait } from 'node:timers/promises';
import type { TsnetError } from '../../core/errors.js';
import type { KernelObject } from '../../core/kernel.js';
import { compilePolicies, type CompiledPolicies } from '../../core/policy/compile.js';
import type { PolicyEndpoint } from '../../core/policy/selector.js';
import type { Logger } from '../../lib/log.js';
import type { OwnIndex } from '../attach/own-index.js';
import type { RuleSet } from '../firewall/rule-set.js';
import type { Journal } from '../journal/journal.js';
import type { ClusterState } from '../state/cluster-state.js';
import type { StateChange } from '../state/state-change.js';
import type { OpenConnections } from './open-connections.js';

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
  /** Resolves when what is desired of an owner is in the kernel. */
  readonly settleOwner: (owner: string) => Promise<void>;
  readonly connections: OpenConnections;
  readonly log: Logger;
}

const elementOwner = 'policies';
/** A first policy waits so long at most until the connections that are open are known. */
const adoptionMs = 1000;

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
  #compiled: CompiledPolicies | undefined;
  #tableText = 'null';
  /** Bridges that begin to be filtered while their open connections are learned. */
  #adopting: Promise<void> | undefined;
  #switching: Promise<unknown> = Promise.resolve();
  /** When a change of policies was heard of that is not in the kernel yet. */
  #changedMs: number | undefined;
  #isDue = false;
  #isClosed = false;

  constructor(options: PoliciesOptions) {
    this.#options = options;
    options.ruleSet.setTable(null);
    this.#stops = [
      options.own.onChange(() => this.#schedule()),
      options.state.onChange((change) => this.#follow(change)),
    ];
    // What a former run filtered has been tracked ever since.
    this.#compile();
    this.#apply();
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
    if (this.#isDue) this.#update();
    await this.#adopting;
    await this.#switching;
    await this.#options.ruleSet.settled();
  }

  #follow(change: StateChange): void {
    if (change.kind === 'policy') this.#changedMs ??= performance.now();
    if (change.kind === 'policy' || change.kind === 'network' || change.kind === 'endpoint') this.#schedule();
  }

  /** Changes that come together are compiled once. */
  #schedule(): void {
    if (this.#isDue || this.#isClosed) return;
    if (this.#compiled?.table === null && this.#options.state.policies.length === 0) return;
    this.#isDue = true;
    setImmediate(() => {
      if (this.#isDue && !this.#isClosed) this.#update();
    });
  }

  #update(): void {
    const compiled = this.#compile();
    if (this.#adopting !== undefined) return;
    const begun = new Set([...compiled.networks].filter((network) => !this.#filtered.has(network)));
    const { journal, connections, ruleSet, log } = this.#options;
    const endpoints = [...journal.endpoints()].filter(
      ({ record }) => begun.has(record.network) && record.state === 'attached',
    );
    if (endpoints.length === 0) return this.#apply();
    const adoption = connections.adopt(endpoints);
    this.#adopting = Promise.race([adoption, wait(adoptionMs, undefined, { ref: false })])
      .then(() => {
        if (this.#isClosed) return;
        this.#apply();
        // Once more: those that were opened between the question and the answer.
        void Promise.all([adoption, this.#switching, ruleSet.settled()])
          .then(() => connections.adopt(endpoints))
          .catch((error: unknown) => log.warn({ error: String(error) }, 'open connections may have been cut'));
      })
      .finally(() => (this.#adopting = undefined));
  }

  #compile(): CompiledPolicies {
    this.#isDue = false;
    const { state, journal } = this.#options;
    const { policies } = state;
    const own = [...journal.endpoints()].map(({ record }) => record).filter((record) => record.state !== 'detaching');
    const isOwn = new Set<PolicyEndpoint>(own);
    const networks = [...state.networks()];
    const endpoints = [...own, ...networks.flatMap(({ id }) => [...state.endpointsOf(id)])];
    const isLoaded = this.#tableText !== 'null';
    const compiled = compilePolicies(
      { policies, networks, endpoints },
      { isLocal: (each) => isOwn.has(each), isLoaded },
    );
    this.#compiled = compiled;
    return compiled;
  }

  #apply(): void {
    const { ruleSet } = this.#options;
    if (this.#compiled === undefined) return;
    const { table, elements, networks } = this.#compiled;
    const text = JSON.stringify(table);
    if (text !== this.#tableText) {
      this.#tableText = text;
      ruleSet.setTable(table);
    }
    ruleSet.setElements(elementOwner, elements);
    this.#switch(networks);
    this.#tell(elements.length);
  }

  /** Says of a change of policies how long it took. */
  #tell(elements: number): void {
    const { ruleSet, log } = this.#options;
    const changedMs = this.#changedMs;
    if (changedMs === undefined) return;
    this.#changedMs = undefined;
    const tell = (): void => {
      log.info({ elements, tookMs: performance.now() - changedMs }, 'policies are in force');
    };
    // A failure is in the rule set's own log, and in the status.
    Promise.all([ruleSet.settled(), this.#switching]).then(tell, () => undefined);
  }

  #switch(networks: ReadonlySet<string>): void {
    const { setDesired, settleOwner, ownerOf } = this.#options;
    const before = this.#filtered;
    this.#filtered = networks;
    const owners: string[] = [];
    for (const network of new Set([...before, ...networks])) {
      const objects = this.#objects.get(network);
      if (before.has(network) === networks.has(network) || objects === undefined) continue;
      owners.push(ownerOf(network));
      setDesired(ownerOf(network), this.withSwitch(network, objects));
    }
    if (owners.length > 0) this.#switching = Promise.all(owners.map(settleOwner));
    this.#switching.catch(() => undefined);
  }
}
