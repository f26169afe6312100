/**
 * Endpoints as they are shown, at the controller and at the agent.
 *
 *   GET    /v1/endpoints?network=&host=                 [any]    EndpointView[]
 *   GET    /v1/agent/endpoints                                   EndpointView[]   this host's own
 *   GET    /v1/agent/endpoints/:ref                              EndpointDetails  of this host
 */
import type { Bandwidth, Endpoint, Labels, PortMapping } from '../model.js';
import type { ResolverSettings } from './dns.js';

export interface EndpointView {
  readonly id: string;
  readonly name: string | null;
  readonly aliases: readonly string[];
  /** Network name. */
  readonly network: string;
  readonly host: string;
  readonly addresses: readonly string[];
  readonly mac: string;
  readonly ifname: string;
  readonly sandbox: string | null;
  readonly generation: number;
  readonly state: Endpoint['state'];
  readonly labels: Labels;
  readonly callerId: string;
  /** Published ports; absent: none. */
  readonly ports?: readonly PortMapping[];
  /** Absent: not limited. */
  readonly bandwidth?: Bandwidth;
  /** Services lead no new connections to it; absent: no. */
  readonly draining?: boolean;
  readonly createdAt: string;
}

/** An endpoint in full. */
export interface EndpointDetails extends EndpointView {
  /** What its sandbox is told about name servers, for all its networks; absent: another host's, or no name server. */
  readonly resolver?: ResolverSettings;
}
