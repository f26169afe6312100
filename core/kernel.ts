/**
 * Kernel objects of the host namespace as values: what a driver asks for (desired) and what a dump
 * says (observed) meet in these, keyed by `objectKey`. Objects refer to links by name.
 *
 * Each carries our mark in the kernel: links in their alias (`tsnet:…`), routes, neighbours and
 * addresses in their protocol number; whatever has no mark is never adopted, changed or removed.
 */

/** Protocol number of our routes (rtnetlink.h RTPROT_*, 84 is unassigned), neighbours (NDA_PROTOCOL) and addresses (IFA_PROTO). */
export const tsnetProtocol = 84;

export interface BridgeLink {
  readonly kind: 'bridge';
  readonly name: string;
  readonly alias: string;
  readonly mac: string;
  readonly mtu: number;
  /** Whether frames that it passes on go through the host's IP chains; absent: no. */
  readonly filtered?: boolean;
}

export interface VxlanLink {
  readonly kind: 'vxlan';
  readonly name: string;
  readonly alias: string;
  readonly mac: string;
  readonly mtu: number;
  readonly vni: number;
  /** VTEP address that outer packets leave from. */
  readonly local: string;
  readonly port: number;
  readonly master: string;
}

/** The host's own link into a macvlan network, so that it reaches its endpoints there. */
export interface MacvlanLink {
  readonly kind: 'macvlan';
  readonly name: string;
  readonly alias: string;
  readonly mac: string;
  readonly mtu: number;
  readonly parent: string;
  readonly mode: 'bridge' | 'private' | 'vepa';
}

export type KernelLink = BridgeLink | VxlanLink | MacvlanLink;

/** Settings of a bridge port (vxlan or the host end of a veth). */
export interface KernelPort {
  readonly kind: 'port';
  readonly link: string;
  readonly master: string;
  readonly learning: boolean;
  readonly neighSuppress: boolean;
  /** Frames may go back by the port they came from: where a published port leads its own endpoint back to itself. */
  readonly hairpin?: boolean;
}

/** `ip addr`; always without a prefix route of the kernel's: the route object states its source. */
export interface KernelAddr {
  readonly kind: 'addr';
  readonly link: string;
  /** With prefix length. */
  readonly address: string;
  /** IPv6: preferred lifetime 0, so that it is never chosen as a source. */
  readonly deprecated: boolean;
}

export interface KernelRoute {
  readonly kind: 'route';
  readonly dst: string;
  readonly link: string;
  /** Preferred source: decides what the host speaks from, whatever the order of addresses. */
  readonly source: string | null;
}

/** Permanent neighbour on a bridge: answers ARP/ND locally and spares the host asking. */
export interface KernelNeigh {
  readonly kind: 'neigh';
  readonly link: string;
  readonly address: string;
  readonly mac: string;
}

/** Forwarding entry of a bridge port (`master`): static. */
export interface KernelFdbPort {
  readonly kind: 'fdb-port';
  readonly link: string;
  readonly mac: string;
}

/** Forwarding entry of a VXLAN device (`self`): MAC → VTEP; the all-zero MAC lists who floods go to. */
export interface KernelFdbVtep {
  readonly kind: 'fdb-vtep';
  readonly link: string;
  readonly mac: string;
  readonly vtep: string;
}

export type KernelObject =
  KernelLink | KernelPort | KernelAddr | KernelRoute | KernelNeigh | KernelFdbPort | KernelFdbVtep;

/** The MAC whose VXLAN entries form the head-end replication list. */
export const floodMac = '00:00:00:00:00:00';

/**
 * Identity of an object: two objects with one key are one kernel object in two versions.
 * A flood entry is identified by its VTEP too, since one MAC has many.
 */
export function objectKey(object: KernelObject): string {
  switch (object.kind) {
    case 'bridge':
    case 'vxlan':
    case 'macvlan':
      return `link ${object.name}`;
    case 'port':
      return `port ${object.link}`;
    case 'addr':
      return `addr ${object.link} ${object.address}`;
    case 'route':
      return `route ${object.dst} ${object.link}`;
    case 'neigh':
      return `neigh ${object.link} ${object.address}`;
    case 'fdb-port':
      return `fdb-port ${object.link} ${object.mac}`;
    case 'fdb-vtep':
      return object.mac === floodMac
        ? `fdb-vtep ${object.link} ${object.mac} ${object.vtep}`
        : `fdb-vtep ${object.link} ${object.mac}`;
  }
}
