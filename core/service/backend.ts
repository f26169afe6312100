import type { FoundEndpoint } from '../found-endpoint.js';
import type { Endpoint, Service } from '../model.js';

/** What services look at of an endpoint. */
export type BackendEndpoint = FoundEndpoint & Pick<Endpoint, 'passing' | 'draining'>;

export type BackendState = 'ready' | 'failing' | 'draining' | 'down';

/** Reports whether a reference means an endpoint: its id, its caller's id, or in any case its name or an alias. */
export function isNamed(endpoint: BackendEndpoint, ref: string): boolean {
  const { id, callerId, name, aliases } = endpoint;
  const asName = ref.toLowerCase();
  return id === ref || callerId === ref || name === asName || aliases.includes(asName);
}

/** Reports whether a service is for an endpoint, in whatever state it is. */
export function isSelectedBy(service: Service, endpoint: BackendEndpoint): boolean {
  if (service.network !== endpoint.network) return false;
  const { selector, backends = [] } = service;
  if (selector === undefined) return backends.some((ref) => isNamed(endpoint, ref));
  return Object.entries(selector).every(
    ([key, value]) => Object.hasOwn(endpoint.labels, key) && endpoint.labels[key] === value,
  );
}

/** Whether a selected endpoint gets new connections. Without a health check an attached endpoint is healthy. */
export function backendState(
  service: Service,
  endpoint: BackendEndpoint,
  downHosts: ReadonlySet<string>,
): BackendState {
  if (endpoint.state !== 'attached' || downHosts.has(endpoint.host)) return 'down';
  if (endpoint.draining === true || service.draining.includes(endpoint.id)) return 'draining';
  return service.health === undefined || endpoint.passing?.includes(service.name) === true ? 'ready' : 'failing';
}

/** What is found by it is looked at once more. */
const refKey = (ref: string): string => `ref ${ref.toLowerCase()}`;

/** Keys by which the services that may select an endpoint are found, whatever the number of services. */
export function selectionKeys(endpoint: BackendEndpoint): string[] {
  const { id, callerId, name, aliases, labels } = endpoint;
  const refs = [id, callerId, ...(name === null ? [] : [name]), ...aliases];
  return [...refs.map(refKey), ...Object.entries(labels).map(([key, value]) => `label ${key}=${value}`)];
}

/** The keys under which a service is found: one of its labels is enough, all of its backends are needed. */
export function serviceKeys({ selector, backends = [] }: Service): string[] {
  const [label] = Object.entries(selector ?? {});
  return label === undefined ? backends.map(refKey) : [`label ${label[0]}=${label[1]}`];
}

/** Up to so many backends each has the same number of slots: one. */
export const mostExact = 32;
/** Slots beyond that: shares differ by a thirtieth at most. */
export const manySlots = 1024;
/** Slots of a service whose clients keep their backend. */
export const stickySlots = 256;

/** How many slots a service has for so many backends. */
export function slotCount(service: Pick<Service, 'affinity'>, backends: number): number {
  if (service.affinity === 'client-ip') return backends > mostExact ? manySlots : stickySlots;
  return backends > mostExact ? manySlots : backends;
}

interface Weighed<B> {
  readonly backend: B;
  readonly hash: number;
}

/**
 * Which backend a slot leads to. With affinity each slot goes to the backend that weighs most in it, so that a backend
 * that comes or goes moves its own share only (rendezvous hashing), and each host says the same.
 */
export function slotsOf<B extends Pick<Endpoint, 'id'>>(
  service: Pick<Service, 'affinity'>,
  backends: readonly B[],
): B[] {
  const sorted = [...backends].sort((a, b) => (a.id < b.id ? -1 : 1));
  if (sorted.length === 0) return [];
  const count = slotCount(service, sorted.length);
  const weighed = sorted.map((backend) => ({ backend, hash: hash32(backend.id) }));
  const slots: B[] = [];
  for (let slot = 0; slot < count; slot++) {
    const backend = service.affinity === 'client-ip' ? heaviest(slot, weighed) : sorted[slot % sorted.length];
    if (backend !== undefined) slots.push(backend);
  }
  return slots;
}

/** A hash of 32 bits; good for spreading. Source: FNV-1a, draft-eastlake-fnv §2. */
function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  return hash;
}

/** Mixes the bits of a number of 32 bits, so that near ones come far apart. */
function mix32(value: number): number {
  const a = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  const b = Math.imul(a ^ (a >>> 13), 0xc2b2ae35);
  return (b ^ (b >>> 16)) >>> 0;
}

function heaviest<B extends Pick<Endpoint, 'id'>>(slot: number, backends: readonly Weighed<B>[]): B | undefined {
  let best: { readonly backend: B; readonly weight: number } | undefined;
  for (const { backend, hash } of backends) {
    const weight = mix32(hash ^ Math.imul(slot + 1, 0x9e3779b1));
    if (best === undefined || weight > best.weight) best = { backend, weight };
  }
  return best?.backend;
}
