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
