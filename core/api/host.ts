/**
 * Hosts, at the controller; agents relay.
 *
 *   GET    /v1/hosts                                    [any]    HostView[]
 *   DELETE /v1/hosts/:host?force=                       [admin]  HostRemoval
 *   PUT    /v1/hosts/:host           HostRegister       [host]   HostRegistered
 *   POST   /v1/hosts/:host/token     {}                 [admin]  HostToken
 *   GET    /v1/hosts/:host/records                      [host]   HostRecords
 *
 * Who may: [any] principal; [manage] = admin, or a host while the setting hostsManageNetworks is on; [host] = the one named,
 * or admin on its behalf; [admin].
 */
import type { Block, Carrier, ClusterSettings, Endpoint, Host, HostState, Network } from '../model.js';

export interface HostView {
  readonly name: string;
  readonly vtep: string;
  readonly state: HostState;
  readonly lastSeen: string;
  readonly underlayMtu: number;
  readonly version: string;
}

/** A token that is good for one host's name alone. It is told once; the store knows its hash. */
export interface HostToken {
  readonly host: string;
  readonly token: string;
}

/** All that the store has of a host, for an agent that lost its journal. */
export interface HostRecords {
  readonly host: Host;
  readonly endpoints: readonly Endpoint[];
  readonly carriers: readonly Carrier[];
  readonly blocks: readonly Block[];
  /** Those that the others speak of. */
  readonly networks: readonly Network[];
}

export interface HostRemoval {
  readonly name: string;
  readonly blocks: number;
  readonly endpoints: number;
}

export interface HostRegister {
  readonly vtep: string;
  readonly underlayMtu: number;
  readonly bootId: string;
  readonly instance: string;
  readonly version: string;
}

export interface HostRegistered {
  readonly host: Host;
  readonly settings: ClusterSettings;
  readonly epoch: string;
}
