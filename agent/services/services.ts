import type { TsnetError } from '../../core/errors.js';
import type { KernelObject } from '../../core/kernel.js';
import type { Network, Service } from '../../core/model.js';
import type { ZoneEndpoint } from '../../core/dns/zone-endpoint.js';
import { isSelectedBy, type BackendEndpoint } from '../../core/service/backend.js';
import { hostElements, serviceElements } from '../../core/service/compile.js';
import { serviceZone } from '../../core/service/names.js';
import { serviceTable } from '../../core/service/table.js';
import type { Logger } from '../../lib/log.js';
import type { OwnIndex } from '../attach/own-index.js';
import type { RuleSet } from '../firewall/rule-set.js';
import type { ClusterState } from '../state/cluster-state.js';
import type { StateChange } from '../state/state-change.js';
import { BackendStates } from './backend-states.js';
import type { Flows } from './flows.js';
import { Membership, serviceId } from './membership.js';
import { addressObjects } from './objects.js';
import { HeldPorts, type FindHolder, type HeldRecords } from './held-ports.js';
import { publishedPorts, type PublishedService } from './published.js';

export interface ServicesOptions {
  readonly host: string;
  /** Of the table `tsnet-services`. */
  readonly ruleSet: RuleSet;
  readonly state: ClusterState;
  readonly own: OwnIndex;
  readonly flows: Flows;
  readonly findHolder: FindHolder;
  readonly held: HeldRecords;
  readonly log: Logger;
  readonly setDesired: (owner: string, objects: readonly KernelObject[]) => void;
  /** That a network's own objects, or those of an endpoint, are to be asked for again: what `with…` adds has changed. */
  readonly refresh: (what: { readonly network: string; readonly endpoint?: string }) => void;
}

const owners = {
  service: (id: string) => `service/${id}`,
  host: (network: string) => `host/${network}`,
} as const;

/**
 * The services of the networks that this host carries: their virtual addresses on the bridges, and the table that
 * leads connections of this host's sandboxes to backends. One table for all sandboxes, so a change of a backend is one
 * transaction, and an attach has nothing to do with how many services there are.
 */
export class Services {
  readonly #options: ServicesOptions;
  readonly #membership = new Membership();
  readonly #states: BackendStates;
  readonly #heldPorts: HeldPorts;
  readonly #carried = new Map<string, { readonly network: Network; readonly own: readonly string[] }>();
  readonly #stops: (() => void)[];
  readonly #dirty = new Set<string>();
  readonly #filtered = new Set<string>();
  readonly #hairpins = new Set<string>();
  readonly #listeners = new Set<(service: string) => void>();
  #isResuming = true;
  #hasTable = false;
  #isDue = false;
  #isTelling = false;
  #isClosed = false;

  constructor(options: ServicesOptions) {
    this.#options = options;
    const { state, own, ruleSet, findHolder: find, held: records, log } = options;
    const touch = (services: Iterable<string>): void => this.#touch(services);
    this.#heldPorts = new HeldPorts({ find, records, log, onChange: touch });
    this.#states = new BackendStates({ membership: this.#membership, downHosts: state.downHosts, onChange: touch });
    ruleSet.setTable(null);
    this.#stops = [
      own.onChange((id) => this.#followOwn(id)),
      state.onChange((change) => this.#follow(change)),
      state.onDown((hosts) => this.#followDown(hosts)),
    ];
  }

  get failure(): TsnetError | null {
    return this.#options.ruleSet.failure;
  }

  get membership(): Membership {
    return this.#membership;
  }

  close(): void {
    this.#isClosed = true;
    for (const stop of this.#stops) stop();
    this.#options.flows.close();
    this.#states.close();
    this.#heldPorts.close();
  }

  /** Calls `listener` with the id of each service that is compiled again or gone. */
  onChange(listener: (service: string) => void): void {
    this.#listeners.add(listener);
  }

  /** Resolves when what is known now is in the kernel. Errors: ERR_KERNEL. */
  async settled(): Promise<void> {
    if (this.#isDue) this.#compile();
    await this.#options.ruleSet.settled();
  }

  /** What discovery answers for a service; also before its network is taken up here again. */
  zoneOf(network: string, name: string): ZoneEndpoint[] {
    const { state, own } = this.#options;
    const service = state.service(network, name);
    if (service === undefined) return [];
    if (service.mode === 'vip') return serviceZone(service, []);
    const isTaken = this.#carried.has(network);
    const endpoints: BackendEndpoint[] = isTaken
      ? this.#membership.membersOf(`${network}/${name}`)
      : [...own.ofNetwork(network).map(({ record }) => record), ...state.endpointsOf(network)].filter((each) =>
          isSelectedBy(service, each),
        );
    const ready = endpoints.filter((each) => this.#states.stateOf(service, each) === 'ready');
    return serviceZone(service, ready);
  }

  /** The ports of this host that lead to services. */
  published(): PublishedService[] {
    return publishedPorts([...this.#membership.ids()].flatMap((id) => this.#membership.get(id) ?? []));
  }

  /** What was carried before a restart is carried again. */
  resumed(): void {
    this.#isResuming = false;
  }

  /** Ports of services that something else on this host has. */
  get warnings(): { readonly code: string; readonly message: string }[] {
    return this.#heldPorts.warnings;
  }

  isCarried(network: string): boolean {
    return this.#carried.has(network);
  }

  /** A network's own objects: where it has services, its bridge shows its frames to the table. */
  withSwitch(network: string, objects: readonly KernelObject[]): readonly KernelObject[] {
    if (!this.#filtered.has(network)) return objects;
    return objects.map((object) => (object.kind === 'bridge' ? { ...object, filtered: true } : object));
  }

  /** An endpoint's objects: what a backend sends to its own service goes back by the port that it came from. */
  withHairpin(endpoint: string, objects: readonly KernelObject[]): readonly KernelObject[] {
    if (!this.#hairpins.has(endpoint)) return objects;
    return objects.map((object) => (object.kind === 'port' ? { ...object, hairpin: true } : object));
  }

  /** A network is realised here, or has got other addresses of the host. */
  carry(network: Network, own: readonly string[]): void {
    const isNew = !this.#carried.has(network.id);
    this.#carried.set(network.id, { network, own });
    this.#options.ruleSet.setElements(owners.host(network.id), hostElements(network, own));
    if (!isNew) return;
    const { state, own: ownIndex } = this.#options;
    for (const { record } of ownIndex.ofNetwork(network.id)) this.#membership.putEndpoint(record);
    for (const endpoint of state.endpointsOf(network.id)) this.#membership.putEndpoint(endpoint);
    for (const service of state.servicesOf(network.id)) {
      if (this.#isResuming) this.#heldPorts.restore(service);
      this.#dirty.add(this.#membership.putService(service));
    }
    // At once: after a restart the table and the bridge stay as they were only if they are wanted so from the start.
    this.#compile();
  }

  /** A network is no longer realised here. */
  drop(network: string): void {
    if (!this.#carried.delete(network)) return;
    this.#options.ruleSet.setElements(owners.host(network), []);
    for (const service of this.#membership.drop(network)) this.#withdraw(service);
    this.#setTable();
  }

  #follow(change: StateChange): void {
    if (change.kind !== 'service' && change.kind !== 'endpoint') return;
    const { network } = change.op === 'put' ? change.value : change.previous;
    if (!this.#carried.has(network)) return this.#tellOthers();
    if (change.kind === 'endpoint') {
      if (change.op === 'gone' || change.value.state !== 'attached')
        this.#options.flows.endpointGone((change.value ?? change.previous).id);
      const touched =
        change.op === 'put'
          ? this.#membership.putEndpoint(change.value)
          : this.#membership.removeEndpoint(change.previous.id);
      return this.#touch(touched);
    }
    if (change.op === 'put') return this.#put(change.value);
    this.#membership.removeService(change.previous);
    this.#withdraw(change.previous);
    this.#setTable();
  }

  #put(service: Service): void {
    const before = this.#membership.get(serviceId(service));
    if (before !== undefined) this.#states.follow(before, service);
    this.#touch([this.#membership.putService(service)]);
  }

  #followOwn(id: string): void {
    const record = this.#options.own.get(id)?.record;
    if (record?.state !== 'attached') this.#options.flows.endpointGone(id);
    if (record === undefined) this.#touch(this.#membership.removeEndpoint(id));
    else if (this.#carried.has(record.network)) this.#touch(this.#membership.putEndpoint(record));
    if (record === undefined || !this.#carried.has(record.network)) this.#tellOthers();
  }

  #followDown(hosts: ReadonlySet<string>): void {
    this.#touch(this.#states.followDown(hosts));
    this.#tellOthers();
  }

  /** Networks without links of this host's own (macvlan) have services by name alone: those are looked at again. */
  #tellOthers(): void {
    if (this.#isTelling) return;
    this.#isTelling = true;
    setImmediate(() => {
      this.#isTelling = false;
      if (this.#isClosed) return;
      for (const { id: network } of this.#options.state.networks()) {
        if (this.#carried.has(network)) continue;
        for (const { name, mode } of this.#options.state.servicesOf(network)) {
          if (mode === 'dnsrr') for (const listener of this.#listeners) listener(`${network}/${name}`);
        }
      }
    });
  }

  /** Changes that come together are compiled once. */
  #touch(services: Iterable<string>): void {
    for (const id of services) this.#dirty.add(id);
    if (this.#isDue || this.#isClosed || this.#dirty.size === 0) return;
    this.#isDue = true;
    setImmediate(() => {
      if (this.#isDue && !this.#isClosed) this.#compile();
    });
  }

  #compile(): void {
    this.#isDue = false;
    const { ruleSet, setDesired, host, flows } = this.#options;
    const services = [...this.#dirty];
    this.#dirty.clear();
    for (const id of services) {
      const service = this.#membership.get(id);
      if (service === undefined) continue;
      const ready = this.#states.readyOf(id);
      this.#heldPorts.want(service);
      ruleSet.setElements(owners.service(id), serviceElements(this.#heldPorts.inForce(service), ready, host));
      setDesired(owners.service(id), addressObjects(service));
      flows.follow(
        id,
        service,
        this.#membership.membersOf(id).map((each) => ({
          id: each.id,
          addresses: each.addresses,
          state: this.#states.stateOf(service, each),
        })),
      );
      if (service.mode === 'vip')
        for (const { id: endpoint } of this.#membership.membersOf(id)) this.#hairpin(endpoint);
      for (const listener of this.#listeners) listener(id);
    }
    this.#setTable();
  }

  #hairpin(endpoint: string): void {
    const network = this.#options.own.get(endpoint)?.record.network;
    if (network === undefined || this.#hairpins.has(endpoint)) return;
    this.#hairpins.add(endpoint);
    this.#options.refresh({ network, endpoint });
  }

  #withdraw(service: Service): void {
    const id = serviceId(service);
    this.#dirty.delete(id);
    this.#states.forget(id);
    this.#heldPorts.forget(service);
    this.#options.ruleSet.setElements(owners.service(id), []);
    this.#options.setDesired(owners.service(id), []);
    this.#options.flows.forget(id);
    for (const listener of this.#listeners) listener(id);
  }

  /** The table is there while a network with a virtual address is carried, and those networks' bridges show their frames. */
  #setTable(): void {
    const wanted = new Set<string>();
    for (const id of this.#membership.ids()) {
      const service = this.#membership.get(id);
      if (service?.mode === 'vip') wanted.add(service.network);
    }
    const hasTable = wanted.size > 0;
    if (hasTable !== this.#hasTable) {
      this.#hasTable = hasTable;
      this.#options.ruleSet.setTable(hasTable ? serviceTable : null);
    }
    for (const network of new Set([...wanted, ...this.#filtered])) {
      if (wanted.has(network) === this.#filtered.has(network)) continue;
      if (wanted.has(network)) this.#filtered.add(network);
      else this.#filtered.delete(network);
      if (this.#carried.has(network)) this.#options.refresh({ network });
    }
    for (const endpoint of this.#hairpins) {
      const record = this.#options.own.get(endpoint)?.record;
      const isBackend = [...this.#membership.servicesOf(endpoint)].some(
        (id) => this.#membership.get(id)?.mode === 'vip',
      );
      if (isBackend && record !== undefined) continue;
      this.#hairpins.delete(endpoint);
      if (record !== undefined) this.#options.refresh({ network: record.network, endpoint });
    }
  }
}
