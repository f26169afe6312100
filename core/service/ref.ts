import type { Network, Service } from '../model.js';

interface Placed {
  readonly service: Pick<Service, 'name'>;
  readonly network: Pick<Network, 'name'>;
}

/** The services that NAME.NETWORK or NAME means, without regard to case: one, unless several networks have it or none. */
export function servicesMeant<P extends Placed>(all: Iterable<P>, ref: string): P[] {
  const wanted = ref.toLowerCase();
  const placed = [...all];
  const exact = placed.filter(({ service, network }) => `${service.name}.${network.name}`.toLowerCase() === wanted);
  return exact.length > 0 ? exact : placed.filter(({ service }) => service.name.toLowerCase() === wanted);
}
