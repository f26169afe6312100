import type { ServiceCreate, ServiceUpdate } from '../api/service.js';
import type { Network, Service } from '../model.js';
import { parseService, type ServiceDefinition } from './parse.js';

/** Whether an update says what a service is, and not only who drains. */
export function isRedefined({
  drain: _drain,
  undrain: _undrain,
  generation: _generation,
  ...rest
}: ServiceUpdate): boolean {
  return Object.keys(rest).length > 0;
}

/**
 * What a service is after an update: each field that the update has takes the place of the one before. A selector ends
 * a list of backends, and the other way round.
 *
 * Errors: those of `parseService`.
 */
export function changeService(
  before: Service,
  update: ServiceUpdate,
  network: Pick<Network, 'id' | 'name' | 'driver' | 'internal'>,
): ServiceDefinition {
  const { ports, selector, backends, affinity, health, publish, drainMs } = update;
  const keepsSelection = selector === undefined && backends === undefined;
  const wanted = {
    name: before.name,
    network: network.name,
    mode: before.mode,
    ports: ports ?? before.ports,
    selector: keepsSelection ? before.selector : selector,
    backends: keepsSelection ? before.backends : backends,
    affinity: affinity ?? before.affinity,
    health: health === null ? undefined : (health ?? before.health),
    publish: publish ?? publishedBefore(before),
    drainMs: drainMs ?? before.drainMs,
  };
  const present = Object.entries(wanted).filter(([, value]) => value !== undefined);
  return parseService(Object.fromEntries(present) as unknown as ServiceCreate, network);
}

/** Each port of hosts once, as it is asked for: it goes for all protocols of the service's port. */
function publishedBefore({ publish = [] }: Service): NonNullable<ServiceCreate['publish']> {
  const pairs = new Map(publish.map(({ hostPort, port }) => [`${hostPort} ${port}`, { hostPort, port }]));
  return [...pairs.values()];
}
