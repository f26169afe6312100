import type { Service } from '../../core/model.js';
import { isSelectedBy, selectionKeys, serviceKeys, type BackendEndpoint } from '../../core/service/backend.js';
import { addTo, dropFrom } from '../../core/set-map.js';

/** What a service is called on this host: NETWORK/NAME, by the network's id. */
export const serviceId = ({ network, name }: Pick<Service, 'network' | 'name'>): string => `${network}/${name}`;

interface Member {
  readonly endpoint: BackendEndpoint;
  readonly services: ReadonlySet<string>;
}

/**
 * Which endpoints each service is for. A change of an endpoint costs what its own labels and names cost, however many
 * services there are.
 */
export class Membership {
  readonly #services = new Map<string, { readonly service: Service; readonly members: Map<string, BackendEndpoint> }>();
  readonly #byKey = new Map<string, Set<string>>();
  readonly #endpoints = new Map<string, Member>();

  get(id: string): Service | undefined {
    return this.#services.get(id)?.service;
  }

  ids(): IterableIterator<string> {
    return this.#services.keys();
  }

  /** The endpoints that a service selects, in whatever state. */
  membersOf(id: string): BackendEndpoint[] {
    return [...(this.#services.get(id)?.members.values() ?? [])];
  }

  /** The services that select an endpoint. */
  servicesOf(endpoint: string): ReadonlySet<string> {
    return this.#endpoints.get(endpoint)?.services ?? new Set();
  }

  /** The services that select an endpoint of this host. */
  idsOnHosts(isOn: (host: string) => boolean): Set<string> {
    const ids = new Set<string>();
    for (const { endpoint, services } of this.#endpoints.values()) {
      if (isOn(endpoint.host)) for (const id of services) ids.add(id);
    }
    return ids;
  }

  /** Takes a service in, or its new version. Returns its id. */
  putService(service: Service): string {
    const id = serviceId(service);
    const before = this.#services.get(id);
    if (before !== undefined && isSameSelection(before.service, service)) {
      this.#services.set(id, { service, members: before.members });
      return id;
    }
    if (before !== undefined) this.removeService(service);
    const members = new Map<string, BackendEndpoint>();
    this.#services.set(id, { service, members });
    for (const key of serviceKeys(service)) addTo(this.#byKey, `${service.network} ${key}`, id);
    for (const [endpointId, member] of this.#endpoints) {
      if (!isSelectedBy(service, member.endpoint)) continue;
      members.set(endpointId, member.endpoint);
      this.#endpoints.set(endpointId, { ...member, services: new Set([...member.services, id]) });
    }
    return id;
  }

  removeService(gone: Pick<Service, 'network' | 'name'>): string {
    const id = serviceId(gone);
    const held = this.#services.get(id);
    if (held === undefined) return id;
    this.#services.delete(id);
    for (const key of serviceKeys(held.service)) dropFrom(this.#byKey, `${gone.network} ${key}`, id);
    for (const endpointId of held.members.keys()) {
      const member = this.#endpoints.get(endpointId);
      if (member === undefined) continue;
      this.#endpoints.set(endpointId, {
        ...member,
        services: new Set([...member.services].filter((one) => one !== id)),
      });
    }
    return id;
  }

  /** Takes an endpoint in, or its new version. Returns the services that it is of now, or was of. */
  putEndpoint(endpoint: BackendEndpoint): Set<string> {
    const before = this.servicesOf(endpoint.id);
    const now = new Set<string>();
    for (const key of selectionKeys(endpoint)) {
      for (const id of this.#byKey.get(`${endpoint.network} ${key}`) ?? []) {
        const held = this.#services.get(id);
        if (held === undefined || !isSelectedBy(held.service, endpoint)) continue;
        held.members.set(endpoint.id, endpoint);
        now.add(id);
      }
    }
    for (const id of before) if (!now.has(id)) this.#services.get(id)?.members.delete(endpoint.id);
    this.#endpoints.set(endpoint.id, { endpoint, services: now });
    return new Set([...before, ...now]);
  }

  removeEndpoint(id: string): ReadonlySet<string> {
    const services = this.servicesOf(id);
    for (const service of services) this.#services.get(service)?.members.delete(id);
    this.#endpoints.delete(id);
    return services;
  }

  /** Forgets a network; returns the services that it had. */
  drop(network: string): Service[] {
    const gone = [...this.#services.values()].map(({ service }) => service).filter((one) => one.network === network);
    for (const service of gone) this.removeService(service);
    for (const [id, { endpoint }] of this.#endpoints) if (endpoint.network === network) this.#endpoints.delete(id);
    return gone;
  }
}

function isSameSelection(a: Service, b: Service): boolean {
  return JSON.stringify([a.selector, a.backends]) === JSON.stringify([b.selector, b.backends]);
}
