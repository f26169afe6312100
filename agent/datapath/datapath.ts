import { drivers } from '../../core/desired/drivers.js';
import type { DriverContext } from '../../core/desired/driver.js';
import { joinedNetworks } from '../../core/join.js';
import type { KernelObject } from '../../core/kernel.js';
import type { Carrier, Endpoint, Network } from '../../core/model.js';
import type { Journal } from '../journal/journal.js';
import type { ClusterState } from '../state/cluster-state.js';
import type { StateChange } from '../state/state-change.js';

/** What the datapath tells: the desired objects of an owner; an empty list takes them away. */
export interface DesiredSink {
  setDesired(owner: string, objects: readonly KernelObject[]): void;
}

export interface DatapathOptions {
  readonly sink: DesiredSink;
  readonly state: ClusterState;
  readonly journal: Journal;
  readonly host: string;
  /** Where this host's VTEP is now. */
  readonly underlay: { readonly vtep: string };
  /** UDP port of VXLAN while no settings have arrived. */
  readonly defaultVxlanPort: number;
  /** Hears of every endpoint that is or becomes reachable through a network's bridge. */
  readonly onReachable?: (network: Network, endpoint: Endpoint) => void;
}

export const ownerOf = {
  network: (network: string) => `network/${network}`,
  carrier: (network: string, host: string) => `carrier/${network}/${host}`,
  endpoint: (network: string, id: string) => `endpoint/${network}/${id}`,
} as const;

/**
 * Turns records into desired kernel objects, for the networks that this host carries. Each record has its own owner
 * key, so a change of one record costs one driver call and one small diff.
 */
export class Datapath {
  readonly #options: DatapathOptions;
  /** Networks realised here, with the host's own addresses in them. */
  readonly #realised = new Map<string, readonly string[]>();
  readonly #stop: () => void;

  constructor(options: DatapathOptions) {
    this.#options = options;
    this.#stop = options.state.onChange((change) => this.#follow(change));
  }

  close(): void {
    this.#stop();
  }

  isRealised(network: string): boolean {
    return this.#realised.has(network);
  }

  realised(): IterableIterator<string> {
    return this.#realised.keys();
  }

  /** What a driver is asked with. */
  context(network: Network, addresses = this.#realised.get(network.id) ?? []): DriverContext {
    const { host, underlay, state, defaultVxlanPort } = this.#options;
    const joined = joinedNetworks(network, (id) => state.network(id));
    return {
      network,
      self: { host, vtep: underlay.vtep, addresses },
      vxlanPort: state.settings?.vxlanPort ?? defaultVxlanPort,
      ...(joined.length === 0 ? {} : { joined }),
    };
  }

  /** Realises a network here: its own objects, and what is known of its carriers and endpoints. */
  realise(network: Network, addresses: readonly string[]): void {
    this.#realised.set(network.id, addresses);
    const ctx = this.context(network, addresses);
    const { sink, state, journal } = this.#options;
    sink.setDesired(ownerOf.network(network.id), drivers[network.driver].networkObjects(ctx));
    for (const carrier of state.carriersOf(network.id)) this.#setCarrier(ctx, carrier);
    for (const endpoint of state.endpointsOf(network.id)) this.#setEndpoint(ctx, endpoint);
    for (const own of journal.endpointsOf(network.id)) this.#setEndpoint(ctx, own.record);
  }

  /** Realises all networks again: what all of them are made with has changed. */
  realiseAgain(): void {
    for (const id of [...this.#realised.keys()]) this.#again(id);
  }

  /** Takes everything of a network away from this host. */
  withdraw(network: string): void {
    if (!this.#realised.delete(network)) return;
    const { sink, state, journal } = this.#options;
    for (const own of journal.endpointsOf(network)) sink.setDesired(ownerOf.endpoint(network, own.record.id), []);
    for (const endpoint of state.endpointsOf(network)) sink.setDesired(ownerOf.endpoint(network, endpoint.id), []);
    for (const carrier of state.carriersOf(network)) sink.setDesired(ownerOf.carrier(network, carrier.host), []);
    sink.setDesired(ownerOf.network(network), []);
  }

  /** Sets what an own endpoint needs on this host, and returns it. */
  setOwn(network: Network, endpoint: Endpoint): readonly KernelObject[] {
    return this.#setEndpoint(this.context(network), endpoint);
  }

  removeOwn(endpoint: Endpoint): void {
    this.#options.sink.setDesired(ownerOf.endpoint(endpoint.network, endpoint.id), []);
  }

  #setCarrier(ctx: DriverContext, carrier: Carrier): void {
    const objects = drivers[ctx.network.driver].carrierObjects(ctx, carrier);
    this.#options.sink.setDesired(ownerOf.carrier(carrier.network, carrier.host), objects);
  }

  #setEndpoint(ctx: DriverContext, endpoint: Endpoint): readonly KernelObject[] {
    const vtep = this.#options.state.carrier(endpoint.network, endpoint.host)?.vtep ?? null;
    const objects = drivers[ctx.network.driver].endpointObjects(ctx, endpoint, vtep);
    this.#options.sink.setDesired(ownerOf.endpoint(endpoint.network, endpoint.id), objects);
    if (objects.length > 0) this.#options.onReachable?.(ctx.network, endpoint);
    return objects;
  }

  #follow(change: StateChange): void {
    const { sink, state } = this.#options;
    if (change.kind === 'settings') {
      this.realiseAgain();
      return;
    }
    if (change.kind === 'network') {
      if (change.op === 'put') this.#again(change.value.id);
      return;
    }
    if (change.kind === 'policy' || change.kind === 'service') return;
    const record = change.op === 'put' ? change.value : change.previous;
    if (!this.#realised.has(record.network)) return;
    if (change.op === 'gone') {
      const { network: id, host } = record;
      sink.setDesired(
        change.kind === 'endpoint' ? ownerOf.endpoint(id, change.previous.id) : ownerOf.carrier(id, host),
        [],
      );
    }
    const network = state.network(record.network);
    // Gone as well, before what it had: nobody finds that in the state any more.
    if (network === undefined) return;
    const ctx = this.context(network);
    if (change.kind === 'endpoint') {
      if (change.op === 'put') this.#setEndpoint(ctx, change.value);
      return;
    }
    if (change.op === 'put') this.#setCarrier(ctx, change.value);
    // Endpoints follow their host's VTEP: only a changed one is worth the walk.
    const before = change.previous?.vtep;
    const now = change.op === 'put' ? change.value.vtep : undefined;
    if (before === now) return;
    for (const endpoint of state.endpointsOf(record.network)) {
      if (endpoint.host === record.host) this.#setEndpoint(ctx, endpoint);
    }
  }

  #again(id: string): void {
    const addresses = this.#realised.get(id);
    const network = this.#options.state.network(id);
    if (addresses !== undefined && network !== undefined) this.realise(network, addresses);
  }
}
