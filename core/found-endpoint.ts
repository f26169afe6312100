import type { Endpoint } from './model.js';

/** What names and services look at of an endpoint: where it is, and what it is found by. */
export type FoundEndpoint = Pick<
  Endpoint,
  'id' | 'network' | 'host' | 'addresses' | 'name' | 'aliases' | 'labels' | 'callerId' | 'state'
>;

/** Reports whether an endpoint has an interface: a reserved one answers nothing yet, a detaching one no longer. */
export function isListed(endpoint: Pick<Endpoint, 'state'>): boolean {
  return endpoint.state === 'attached' || endpoint.state === 'linked';
}
