/**
 * Published ports, at the agent.
 *
 *   GET    /v1/agent/ports                              PortView[]   what this host publishes
 */
import type { PortMapping, PortProtocol } from '../model.js';

/** A port, or a range of ports, to publish. */
export interface PortRequest {
  /** Absent or null: all addresses of the host, of both families. */
  readonly hostAddress?: string | null;
  /** 0 lets the agent choose; the answer says which. */
  readonly hostPort: number;
  /** Default: as long a range as that of `port`. */
  readonly hostPortEnd?: number;
  readonly port: number;
  /** Default: as long a range as that of `hostPort`. */
  readonly portEnd?: number;
  /** Default: tcp. */
  readonly protocol?: PortProtocol;
}

/** One published port or range of this host. */
export interface PortView extends PortMapping {
  /** Endpoint id. */
  readonly endpoint: string;
  readonly name: string | null;
  /** Network name. */
  readonly network: string;
  /** Where it leads: those of the endpoint's addresses that are reached by it. */
  readonly addresses: readonly string[];
}
