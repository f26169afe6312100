/**
 * Networks, at the controller; agents relay (all of these interfaces: `/v1/…` over HTTP, JSON).
 *
 *   GET    /v1/networks                                 [any]    NetworkView[]
 *   POST   /v1/networks              NetworkCreate      [manage] NetworkView
 *   GET    /v1/networks/:ref                            [any]    NetworkView          ref = name or id
 *   PATCH  /v1/networks/:ref         NetworkUpdate      [manage] NetworkView
 *   DELETE /v1/networks/:ref                            [manage] 204
 *
 * Who may: [any] principal; [manage] = admin, or a host while the setting hostsManageNetworks is on; [host] = the one named,
 * or admin on its behalf; [admin].
 */
import type { DriverName, Labels, Subnet } from '../model.js';

export interface SubnetRequest {
  readonly subnet: string;
  readonly gateway?: string;
  readonly range?: string;
}

export interface NetworkCreate {
  readonly name: string;
  readonly driver?: DriverName;
  /** None: one IPv4 subnet from the pool (and one IPv6 with `ipv6`). */
  readonly subnets?: readonly SubnetRequest[];
  /** Adds an IPv6 subnet from the pool when no IPv6 subnet is given. */
  readonly ipv6?: boolean;
  readonly internal?: boolean;
  readonly mtu?: number;
  readonly labels?: Labels;
  readonly options?: Readonly<Record<string, string>>;
  /** Names or ids of networks that it and they shall route to each other. */
  readonly join?: readonly string[];
}

export interface NetworkUpdate {
  /** Set; a null value removes the label. */
  readonly labels?: Readonly<Record<string, string | null>>;
  readonly addSubnets?: readonly SubnetRequest[];
  /** Names or ids of networks. */
  readonly join?: readonly string[];
  readonly unjoin?: readonly string[];
}

/** What users see: exactly these keys come first in JSON output. */
export interface NetworkView {
  readonly id: string;
  readonly name: string;
  readonly driver: DriverName;
  readonly subnets: readonly Subnet[];
  readonly vni: number | null;
  readonly mtu: number;
  readonly internal: boolean;
  readonly labels: Labels;
  readonly options: Readonly<Record<string, string>>;
  /** Names of the networks joined to it; absent: none. */
  readonly joined?: readonly string[];
  readonly createdAt: string;
  readonly generation: number;
}
