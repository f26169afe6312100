import type { Family } from '../addr.js';
import type { KernelObject, MacvlanLink } from '../kernel.js';
import type { Carrier, DriverName, Endpoint, Network } from '../model.js';
import type { FeatureTable } from './feature.js';

/** What this host is in the network concerned. */
export interface SelfContext {
  readonly host: string;
  /** Underlay address that outer packets leave from. */
  readonly vtep: string;
  /** The host's own addresses in the network, without prefix length, one per subnet at most; empty until allocated. */
  readonly addresses: readonly string[];
}

/** All that a driver may look at besides the carrier or endpoint in question. */
export interface DriverContext {
  readonly network: Network;
  readonly self: SelfContext;
  /** UDP port of every VXLAN device of the cluster. */
  readonly vxlanPort: number;
  /** Networks that this one routes to; absent: none. */
  readonly joined?: readonly Network[];
}

/** A veth pair: one end is a port of the bridge, the other the sandbox's interface. */
export interface VethPlan {
  readonly kind: 'veth';
  /** The host's end. */
  readonly name: string;
  readonly alias: string;
  readonly mac: string;
  readonly master: string;
  readonly mtu: number;
  readonly peer: { readonly ifname: string; readonly alias: string; readonly mac: string };
}

/** A macvlan link, made on its parent and moved into the sandbox. */
export interface MacvlanPlan {
  readonly kind: 'macvlan';
  /** The name while the link is in the host namespace, where the sandbox's would collide. */
  readonly name: string;
  readonly alias: string;
  readonly ifname: string;
  readonly mac: string;
  readonly mtu: number;
  readonly parent: string;
  readonly mode: MacvlanLink['mode'];
}

export interface SandboxAddr {
  /** With the prefix length of its subnet: what is on-link follows from it. */
  readonly address: string;
  /** IPv6: usable at once. The allocation has made it unique, and detection would hold it back for a second. */
  readonly nodad: boolean;
}

export interface SandboxRoute {
  /** CIDR; `0.0.0.0/0` and `::/0` are the default routes. */
  readonly dst: string;
  /** Null for an on-link route. */
  readonly gateway: string | null;
  /** Absent: the kernel's own (0 for IPv4, 1024 for IPv6). */
  readonly metric?: number;
}

/** Everything inside the sandbox, in the order of application: link, sysctls, addresses, routes. */
export interface SandboxPlan {
  readonly link: VethPlan | MacvlanPlan;
  readonly addrs: readonly SandboxAddr[];
  /** Whether one of them is IPv6; else the interface has no IPv6 address at all. */
  readonly hasIpv6: boolean;
  readonly routes: readonly SandboxRoute[];
  /** Path below /proc/sys and value, written once the interface is there under its final name. */
  readonly sysctls: readonly (readonly [path: string, value: string])[];
}

export interface SandboxOptions {
  /** Families whose default route goes through this network. */
  readonly defaultRouteFamilies: readonly Family[];
  /** False where the kernel has no /proc/sys/net/ipv6, so that there is nothing to set there; default true. */
  readonly kernelHasIpv6?: boolean;
}

/**
 * A way of realising networks: pure functions from records to kernel objects of the host namespace.
 * Each call answers for one record alone, so that a change of one costs one call.
 */
export interface Driver {
  readonly name: DriverName;
  readonly features: FeatureTable;
  /** What the network needs on a host that carries it, before any endpoint. */
  networkObjects(ctx: DriverContext): readonly KernelObject[];
  /** What a host needs so as to reach another host that carries the network; nothing for itself. */
  carrierObjects(ctx: DriverContext, carrier: Carrier): readonly KernelObject[];
  /**
   * What an endpoint needs, on its own host or on another.
   *
   * @param vtep the VTEP of the endpoint's host; null while that is unknown.
   */
  endpointObjects(ctx: DriverContext, endpoint: Endpoint, vtep: string | null): readonly KernelObject[];
  /** What is to be inside the endpoint's sandbox. */
  sandbox(ctx: DriverContext, endpoint: Endpoint, options: SandboxOptions): SandboxPlan;
}
