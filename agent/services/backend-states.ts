import type { Service } from '../../core/model.js';
import { backendState, type BackendEndpoint, type BackendState } from '../../core/service/backend.js';
import { FirstChecks } from './first-check.js';
import { serviceId, type Membership } from './membership.js';

export interface BackendStatesOptions {
  readonly membership: Membership;
  /** Hosts that are down at first. */
  readonly downHosts: ReadonlySet<string>;
  /** Backends of these services may be in another state. */
  readonly onChange: (services: Iterable<string>) => void;
}

/** What state a backend is in: by its record, by its host, and by a first health check that is still awaited. */
export class BackendStates {
  readonly #membership: Membership;
  readonly #firstChecks: FirstChecks;
  #downHosts: ReadonlySet<string>;

  constructor({ membership, downHosts, onChange }: BackendStatesOptions) {
    this.#membership = membership;
    this.#firstChecks = new FirstChecks((service) => onChange([service]));
    this.#downHosts = downHosts;
  }

  close(): void {
    this.#firstChecks.close();
  }

  /** Backends of a service that get new connections. */
  readyOf(id: string): BackendEndpoint[] {
    const service = this.#membership.get(id);
    if (service === undefined) return [];
    return this.#membership.membersOf(id).filter((endpoint) => this.stateOf(service, endpoint) === 'ready');
  }

  stateOf(service: Service, endpoint: BackendEndpoint): BackendState {
    const state = backendState(service, endpoint, this.#downHosts);
    const id = serviceId(service);
    if (state === 'ready') this.#firstChecks.passed(id, endpoint.id);
    return state === 'failing' && this.#firstChecks.isAwaited(id, endpoint) ? 'ready' : state;
  }

  /** A service is about to become another version of itself. */
  follow(before: Service, after: Service): void {
    const id = serviceId(before);
    this.#firstChecks.follow(id, { before, after }, this.readyOf(id));
  }

  /** A service is gone. */
  forget(id: string): void {
    this.#firstChecks.forget(id);
  }

  /** Other hosts are down now. Returns the services that have backends on those that went or came. */
  followDown(hosts: ReadonlySet<string>): Iterable<string> {
    const before = this.#downHosts;
    this.#downHosts = hosts;
    return this.#membership.idsOnHosts((host) => before.has(host) !== hosts.has(host));
  }
}
