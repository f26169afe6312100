/**
 * Policies, at the controller; agents relay.
 *
 *   GET    /v1/policies                                 [any]    PolicyView[]
 *   POST   /v1/policies              PolicyBody         [manage] PolicyView
 *   GET    /v1/policies/:name                           [any]    PolicyView
 *   PUT    /v1/policies/:name        PolicyBody         [manage] PolicyView
 *   DELETE /v1/policies/:name                           [manage] 204
 *   POST   /v1/policies/explain      PolicyQuestion     [any]    PolicyAnswer
 *
 * Who may: [any] principal; [manage] = admin, or a host while the setting hostsManageNetworks is on; [host] = the one named,
 * or admin on its behalf; [admin].
 */
import type { Policy, PolicyProtocol } from '../model.js';

/** A policy as its author says it. */
export type PolicyBody = Omit<Policy, 'v' | 'generation' | 'createdAt'>;

export interface PolicyView extends PolicyBody {
  readonly createdAt: string;
  readonly generation: number;
  /** Endpoints selected now, of all hosts. */
  readonly selected: number;
  /** What may not be meant: it selects nothing, or names a network that does not exist. */
  readonly warnings: readonly string[];
}

export interface PolicyQuestion {
  /** Name, alias, id or address of an endpoint; or any address. */
  readonly from: string;
  readonly to: string;
  readonly protocol: PolicyProtocol;
  /** 0 for icmp. */
  readonly port: number;
}

/** What one end says to a connection. */
export interface PolicyVerdict {
  readonly allowed: boolean;
  /** Policies that select the end in this direction; none: everything is allowed. */
  readonly policies: readonly string[];
  /** The rule that allows it, `NAME ingress[0]`. */
  readonly rule: string | null;
  readonly reason: string;
}

/** One pair of addresses that the question stands for. */
export interface PolicyAnswer {
  readonly from: string;
  readonly to: string;
  readonly allowed: boolean;
  readonly egress: PolicyVerdict;
  readonly ingress: PolicyVerdict;
}
