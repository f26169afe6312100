import type { TsnetError } from '../../core/errors.js';
import { bridgeName } from '../../core/ids.js';
import { joinedNetworks } from '../../core/join.js';
import type { Endpoint, Network } from '../../core/model.js';
import {
  carriedElements,
  definitionElements,
  isBridged,
  portElements,
  routedElements,
  vtepElements,
} from '../../core/nft/element.js';
import { newOriginTable, originElements } from '../../core/nft/origin.js';
import { newTable, type Table } from '../../core/nft/table.js';
import type { Logger } from '../../lib/log.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { OwnIndex } from '../attach/own-index.js';
import type { StateChange } from '../state/state-change.js';
import { HostElements, type HostElementsOptions } from './host-elements.js';
import type { Warning } from './neighbourhood.js';
import type { RuleSet } from './rule-set.js';

export interface FirewallOptions extends HostElementsOptions {
  /** Of the table that holds endpoints to their own addresses. */
  readonly origins: RuleSet;
  readonly knownNetwork: (id: string) => Network | undefined;
  readonly own: OwnIndex;
  readonly defaultVxlanPort: number;
  readonly log: Logger;
}

const owners = {
  definition: (network: string) => `network/${network}`,
  carried: (network: string) => `carried/${network}`,
  routed: (network: string) => `routed/${network}`,
  carrier: (network: string, host: string) => `carrier/${network}/${host}`,
  endpoint: (id: string) => `endpoint/${id}`,
} as const;

/** How often it is looked whether somebody else has turned forwarding on or off, and which addresses the host has. */
const lookMs = 2000;
const foreignDelayMs = 300;
const originTable = newOriginTable();

/**
 * Turns records into the elements of this host's table: published ports, the way out, isolation, known VTEPs. The
 * table is there while this host carries a network with a bridge.
 */
export class Firewall {
  readonly #options: FirewallOptions;
  readonly #host: HostElements;
  readonly #carried = new Map<string, { readonly network: Network; readonly own: readonly string[] }>();
  /** Networks whose bridge has its settings. */
  readonly #readyLinks = new Set<string>();
  readonly #stop: () => void;
  #tablePort = 0;
  #isUp = false;
  #timer: NodeJS.Timeout | undefined;
  #foreignTimer: NodeJS.Timeout | undefined;
  #changing: Promise<void> = Promise.resolve();

  constructor(options: FirewallOptions) {
    this.#options = options;
    this.#host = new HostElements(options, () => [...this.#carried.values()].map(({ network }) => network));
    const { state, ruleSet } = options;
    for (const network of state.networks())
      ruleSet.setElements(owners.definition(network.id), definitionElements(network));
    this.#stop = state.onChange((change) => this.#follow(change));
    ruleSet.onForeign(() => this.#lookSoon());
    ruleSet.setTable(null);
  }

  get warnings(): readonly Warning[] {
    const { ruleSet, origins } = this.#options;
    const failures: readonly (TsnetError | null)[] = [ruleSet.failure, origins.failure];
    return [
      ...failures.flatMap((each) => (each === null ? [] : [{ code: each.code, message: each.message }])),
      ...this.#host.warnings,
    ];
  }

  get repairs(): number {
    return this.#options.ruleSet.repairs + this.#options.origins.repairs;
  }

  async close(): Promise<void> {
    this.#stop();
    clearInterval(this.#timer);
    clearTimeout(this.#foreignTimer);
    await this.#changing;
  }

  /** A network is realised here, or has got other addresses of the host. */
  carry(network: Network, own: readonly string[]): void {
    if (!isBridged(network)) return;
    this.#carried.set(network.id, { network, own });
    const { ruleSet, state } = this.#options;
    // Without its cache, an agent that starts knows its endpoints before their network.
    for (const { record } of this.#options.own.ofNetwork(network.id)) {
      const isLinked = record.state === 'linked' || record.state === 'attached';
      if (isLinked) this.#options.origins.setElements(owners.endpoint(record.id), originElements(network, record));
    }
    ruleSet.setElements(owners.definition(network.id), definitionElements(network));
    ruleSet.setElements(owners.carried(network.id), carriedElements(network, own));
    for (const carrier of state.carriersOf(network.id))
      ruleSet.setElements(owners.carrier(network.id, carrier.host), vtepElements(carrier));
    this.#setRouted();
    this.#bringUp();
    if (network.options['masquerade-source'] === undefined) return;
    this.#change(async () => {
      if (this.#isUp) await this.#host.followAddresses();
    });
  }

  /** A network is no longer realised here. */
  drop(network: string): void {
    if (!this.#carried.delete(network)) return;
    this.#readyLinks.delete(network);
    const { ruleSet, state } = this.#options;
    ruleSet.setElements(owners.carried(network), []);
    ruleSet.setElements(owners.routed(network), []);
    this.#setRouted();
    for (const carrier of state.carriersOf(network)) ruleSet.setElements(owners.carrier(network, carrier.host), []);
    if (this.#carried.size > 0) return;
    this.#isUp = false;
    clearInterval(this.#timer);
    // While packets of others could still be forwarded, they are dropped: forwarding goes before the table.
    this.#change(async () => {
      if (this.#isUp) return;
      await this.#host.leave();
      ruleSet.setTable(null);
      this.#options.origins.setTable(null);
      await ruleSet.settled();
      await this.#options.origins.settled();
    });
  }

  /** Resolves when all that was said so far holds; a network's bridge must be there. Errors: ERR_KERNEL. */
  async settled(network?: string): Promise<void> {
    await this.#changing;
    if (network !== undefined) await this.#ensureLink(network);
    await this.#options.ruleSet.settled();
  }

  /** What was carried before the restart has been taken up: without a network there is nobody to hold. */
  resumed(): void {
    if (!this.#isUp) this.#options.origins.setTable(null);
  }

  /** Resolves when endpoints that were published so far can send. Errors: ERR_KERNEL. */
  bound(): Promise<void> {
    return this.#options.origins.settled();
  }

  /** A bridge of ours has come. */
  linkCame(network: string): void {
    this.#readyLinks.delete(network);
    this.#change(() => this.#ensureLink(network));
  }

  /** Publishes what an own endpoint publishes. The endpoints of its sandbox in other networks are looked at again. */
  publish(entry: OwnEndpoint): void {
    const { record } = entry;
    const network = this.#carried.get(record.network)?.network ?? this.#options.knownNetwork(record.network);
    if (network !== undefined)
      this.#options.origins.setElements(owners.endpoint(record.id), originElements(network, record));
    const siblings = entry.cookie === null ? [entry] : this.#options.own.ofSandbox(entry.cookie);
    for (const each of siblings) if (each.record.id !== entry.record.id) this.#setPorts(each, siblings.length);
    this.#setPorts(entry, Math.max(1, siblings.length));
  }

  unpublish(endpoint: Endpoint): void {
    this.#options.origins.setElements(owners.endpoint(endpoint.id), []);
    this.#closePorts(endpoint);
  }

  /** Once for each bridge: its settings go with it. */
  async #ensureLink(network: string): Promise<void> {
    if (!this.#carried.has(network) || this.#readyLinks.has(network)) return;
    await this.#options.forwarding.ensureLink(bridgeName(network));
    this.#readyLinks.add(network);
  }

  #closePorts(endpoint: Endpoint): void {
    this.#options.ruleSet.setElements(owners.endpoint(endpoint.id), []);
  }

  #setPorts(entry: OwnEndpoint, siblings: number): void {
    const { record, defaultRoutes, step } = entry;
    // One that is just being attached has been published already, and its record says so only when it is done.
    const isOpen = record.state === 'linked' || record.state === 'attached' || step === 'link';
    if (!isOpen || record.ports === undefined) return this.#closePorts(record);
    this.#options.ruleSet.setElements(
      owners.endpoint(record.id),
      portElements(record, { defaultRoutes, isElsewhere: siblings > 1 }),
    );
  }

  /** Which of the networks carried here route to each other. */
  #setRouted(): void {
    const { ruleSet, state } = this.#options;
    for (const id of this.#carried.keys()) {
      const network = state.network(id);
      const others = network === undefined ? [] : joinedNetworks(network, (other) => state.network(other));
      const carried = others.filter((other) => this.#carried.has(other.id));
      ruleSet.setElements(
        owners.routed(id),
        carried.flatMap((other) => routedElements({ id }, other)),
      );
    }
  }

  #bringUp(): void {
    const port = this.#options.state.settings?.vxlanPort ?? this.#options.defaultVxlanPort;
    if (this.#isUp && this.#tablePort === port) return;
    const table: Table = newTable({ vxlanPort: port });
    this.#tablePort = port;
    this.#isUp = true;
    this.#options.ruleSet.setTable(table);
    this.#options.origins.setTable(originTable);
    this.#change(async () => {
      // The table is there before anything is forwarded.
      this.#options.ruleSet.setTable(table);
      await this.#host.guard();
      await this.#options.ruleSet.settled();
      if (this.#isUp) await this.#host.ensureForwarding();
    });
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#change(() => this.#lookAround()), lookMs);
    this.#timer.unref();
    this.#lookSoon();
  }

  async #lookAround(): Promise<void> {
    if (this.#isUp) await this.#host.ensureForwarding();
    if (this.#isUp) await this.#host.followAddresses();
  }

  #lookSoon(): void {
    if (this.#foreignTimer !== undefined || !this.#isUp) return;
    this.#foreignTimer = setTimeout(() => {
      this.#foreignTimer = undefined;
      this.#change(async () => {
        if (this.#isUp) await this.#host.lookAtOthers();
      });
    }, foreignDelayMs);
    this.#foreignTimer.unref();
  }

  /** Changes that touch more than the table go one after the other. */
  #change(task: () => Promise<void>): void {
    this.#changing = this.#changing.then(task).catch((error: unknown) => {
      this.#options.log.error({ error: String(error) }, 'in the firewall');
    });
  }

  #follow(change: StateChange): void {
    const { ruleSet } = this.#options;
    switch (change.kind) {
      case 'settings':
        if (!this.#isUp) break;
        this.#bringUp();
        this.#change(() => this.#host.guard());
        break;
      case 'network': {
        const id = change.op === 'put' ? change.value.id : change.previous.id;
        ruleSet.setElements(owners.definition(id), change.op === 'put' ? definitionElements(change.value) : []);
        if (change.value?.joined !== undefined || change.previous?.joined !== undefined) this.#setRouted();
        break;
      }
      case 'carrier': {
        const { network, host } = change.op === 'put' ? change.value : change.previous;
        if (!this.#carried.has(network)) break;
        ruleSet.setElements(owners.carrier(network, host), change.op === 'put' ? vtepElements(change.value) : []);
        break;
      }
      case 'endpoint':
      case 'policy':
      case 'service':
        break;
    }
  }
}
