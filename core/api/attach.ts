/**
 * What the agent does with a sandbox, on its unix socket (root only).
 *
 *   POST   /v1/agent/attach          AttachRequest      EndpointView
 *   POST   /v1/agent/detach          DetachRequest      DetachResult
 *   POST   /v1/agent/reserve         AttachRequest without target    EndpointView      step 1 of attach
 *   POST   /v1/agent/link            StepRequest        EndpointView   step 2: into the sandbox, or the host namespace without target
 *   POST   /v1/agent/configure       StepRequest        EndpointView   step 3: addresses, routes, up
 *   PATCH  /v1/agent/endpoints/:ref  EndpointUpdate     EndpointView
 */
import type { Bandwidth, Labels } from '../model.js';
import type { PortRequest } from './port.js';

export interface AttachRequest {
  /** Network name or id. */
  readonly network: string;
  /** `pid:N` or `netns:PATH`. */
  readonly target: string;
  /** The caller's id; default: made of the sandbox's cookie, so that (network, target, ifname) finds it again. */
  readonly id?: string;
  /** Default: the first free of eth0, eth1, … in the sandbox. */
  readonly ifname?: string;
  readonly name?: string;
  readonly aliases?: readonly string[];
  /** At most one per subnet; subnets without one get an address from the host's block. */
  readonly addresses?: readonly string[];
  readonly mac?: string;
  readonly labels?: Labels;
  /** Default: true where the sandbox has no default route of that family yet. */
  readonly defaultRoute?: boolean;
  /** Ports of this host to publish. */
  readonly ports?: readonly PortRequest[];
  readonly bandwidth?: Bandwidth;
}

/** An attach of a running container. */
export interface ConnectRequest extends AttachRequest {
  /**
   * Writes the resolver settings into /etc/resolv.conf of the container, and puts back what was there when the endpoint is
   * detached; the target has to name a process. Default: false.
   */
  readonly setDns?: boolean;
}

export interface DetachRequest {
  readonly network: string;
  /** Either the target… */
  readonly target?: string;
  /** …or the caller's id of the attach. */
  readonly id?: string;
  /** Default: every interface of that sandbox (or id) on the network. */
  readonly ifname?: string;
  /**
   * Services lead no new connections to it from now on; those that it has may go on for so long at most, then it is
   * detached. A caller that goes away meanwhile takes this back. Default: at once.
   */
  readonly drainMs?: number;
}

export interface DetachResult {
  /** Endpoints removed; empty when there was none, which is no error. */
  readonly detached: readonly string[];
  /** What could not be put back as it was; absent: nothing. */
  readonly left?: readonly string[];
}

export interface StepRequest {
  /** Endpoint id. */
  readonly endpoint: string;
  readonly target?: string;
  readonly defaultRoute?: boolean;
}

export interface EndpointUpdate {
  readonly labels?: Readonly<Record<string, string | null>>;
  readonly aliases?: readonly string[];
  /** In place of all that it publishes; what stays is not interrupted. */
  readonly ports?: readonly PortRequest[];
  /** Whether services lead no new connections to it. */
  readonly draining?: boolean;
}
