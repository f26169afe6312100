import type { HostState } from '../core/model.js';
import type { Mirror } from './mirror.js';

/**
 * What is known of a host. Absence means `down` only once this controller has heard the store for a whole
 * liveness bound without interruption: after an outage hosts need that long to be seen again.
 */
export function hostState(mirror: Mirror, host: string, livenessMs: number): HostState {
  if (!mirror.isConnected) return 'unknown';
  if (mirror.tables.liveness.get('', host) !== undefined) return 'up';
  return mirror.connectedMs < livenessMs ? 'unknown' : 'down';
}

/** All hosts that are down; undefined while nothing can be said of those that are absent. */
export function downHosts(mirror: Mirror, livenessMs: number): readonly string[] | undefined {
  if (!mirror.isConnected || mirror.connectedMs < livenessMs) return undefined;
  const names: string[] = [];
  for (const { value } of mirror.tables.host.all())
    if (mirror.tables.liveness.get('', value.name) === undefined) names.push(value.name);
  return names;
}
