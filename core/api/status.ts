/**
 * What controller and agent say of themselves.
 *
 *   GET    /v1/status                                   [any]    ControllerStatus
 *   GET    /v1/agent/status                                      AgentStatus
 */
import type { Cursor } from '../model.js';

export interface ControllerStatus {
  readonly version: string;
  readonly epoch: string;
  readonly revision: number;
  readonly store: 'ok' | 'unreachable';
  readonly networks: number;
  readonly hosts: number;
  readonly endpoints: number;
}

export interface AgentStatus {
  readonly version: string;
  readonly host: string;
  /** Null while this host has not had an underlay address yet. */
  readonly vtep: string | null;
  /** Null while no controller can be reached. */
  readonly controller: string | null;
  readonly cursor: Cursor | null;
  readonly endpoints: number;
  readonly networks: number;
  /** Records not yet acknowledged by a controller. */
  readonly unpublished: number;
  readonly reconcile: {
    readonly objects: number;
    readonly repairs: number;
    readonly failing: readonly { readonly object: string; readonly error: string }[];
  };
  /** The rule set of this host. */
  readonly firewall?: {
    /** Times that the table was loaded again because somebody else had changed it. */
    readonly repairs: number;
  };
  /** Things an operator should know of, each with a code of the error registry. */
  readonly warnings: readonly { readonly code: string; readonly message: string }[];
}
