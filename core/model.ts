/**
 * The records of tsnet, as they stand in the store, on the wire and in the journal.
 * Plain JSON values: addresses, subnets and MACs are canonical text, times are ISO 8601 strings.
 */

export type DriverName = 'overlay' | 'bridge' | 'macvlan';
export type Labels = Readonly<Record<string, string>>;

/** Every stored record carries these. */
export interface RecordBase {
  /** Schema version of the value. */
  readonly v: 1;
  /** Grows with every change; an older one never overwrites a newer. */
  readonly generation: number;
}

/** One subnet of a network, either family. */
export interface Subnet {
  /** CIDR, canonical: `10.64.0.0/20`, `fd12:3456::/64`. */
  readonly subnet: string;
  /** The gateway's address, the same on every host; null where there is none (macvlan without a router). */
  readonly gateway: string | null;
  /** Addresses are handed out from this part only. */
  readonly range?: string;
}

export interface Network extends RecordBase {
  /** Eight lower-case hexadecimal digits; link names are made of it (tsb-ID, tsx-ID). */
  readonly id: string;
  readonly name: string;
  readonly driver: DriverName;
  readonly subnets: readonly Subnet[];
  /** VXLAN network identifier, 2^23 and up; null for drivers without one. */
  readonly vni: number | null;
  /** MTU inside the network, bytes. */
  readonly mtu: number;
  readonly internal: boolean;
  readonly labels: Labels;
  readonly options: Readonly<Record<string, string>>;
  /** Ids of networks that this one and theirs route to each other; each says so of the other. Absent: none. */
  readonly joined?: readonly string[];
  readonly createdAt: string;
}

/** A machine with an agent. Persistent; whether it lives is another key, bound to a lease. */
export interface Host extends RecordBase {
  readonly name: string;
  /** Underlay address that carries VXLAN. */
  readonly vtep: string;
  /** MTU of the underlay interface, bytes. */
  readonly underlayMtu: number;
  readonly bootId: string;
  /** Random per data directory: tells two agents with one host name apart. */
  readonly instance: string;
  readonly version: string;
  /** etcd lease (decimal text) that the host's liveness key is bound to; any controller may keep it alive. */
  readonly leaseId: string;
  /** When a controller last put the record or saw the host's stream open or close. */
  readonly lastSeen: string;
}

/** `unknown`: absent, but controllers or store have not been up for a full liveness bound. */
export type HostState = 'up' | 'down' | 'unknown';

/** A part of a subnet that one host allocates from without asking anyone. */
export interface Block extends RecordBase {
  /** Network id. */
  readonly network: string;
  /** CIDR on the subnet's grid, or a single address (/32, /128) carved out of a grid block. */
  readonly cidr: string;
  /** Owner; null for a grid block that nobody owns but that has addresses carved out. */
  readonly host: string | null;
  /** Single addresses inside this grid block that belong to other hosts. */
  readonly carved: readonly string[];
}

/** A request that a block's owner gives up one address of it for another host. */
export interface Carve extends RecordBase {
  readonly id: string;
  readonly network: string;
  /** The grid block concerned. */
  readonly cidr: string;
  /** The address wanted; null for any free one. */
  readonly address: string | null;
  readonly owner: string;
  readonly requester: string;
}

/** That a host carries a network: remote hosts flood to it and know its own address there. */
export interface Carrier extends RecordBase {
  readonly network: string;
  readonly host: string;
  readonly vtep: string;
  /** The host's own addresses in the network, without prefix length. */
  readonly addresses: readonly string[];
  /** MAC of the host's bridge. */
  readonly mac: string;
  /** Ports that services publish and that this host does not have for them; absent: none. */
  readonly held?: readonly HeldPort[];
}

export type PortProtocol = 'tcp' | 'udp' | 'sctp';

/** A port, or a range of ports, of the host that leads to an endpoint. Both ranges have one length. */
export interface PortMapping {
  /** The one address of the host that is listened on; null: all of them, of both families, loopback included. */
  readonly hostAddress: string | null;
  readonly hostPort: number;
  /** Last of the range; a single port's is the port itself. */
  readonly hostPortEnd: number;
  readonly port: number;
  readonly portEnd: number;
  readonly protocol: PortProtocol;
}

/** Limits of an endpoint's traffic, as its sandbox sees it: ingress is what comes in. Absent: not limited. */
export interface Bandwidth {
  /** Bits per second. */
  readonly ingressRateBps?: number;
  /** What may come at once beyond the rate. Default: what the rate brings in 20 ms, at least 64 KiB. */
  readonly ingressBurstBytes?: number;
  /** Bits per second. */
  readonly egressRateBps?: number;
  readonly egressBurstBytes?: number;
}

export type EndpointState = 'reserved' | 'linked' | 'attached' | 'detaching';

/** One interface of one sandbox on one network. */
export interface Endpoint extends RecordBase {
  /** Sixteen lower-case hexadecimal digits. */
  readonly id: string;
  /** Network id. */
  readonly network: string;
  readonly host: string;
  /** Without prefix length, in the order of the network's subnets. */
  readonly addresses: readonly string[];
  readonly mac: string;
  readonly ifname: string;
  /** Primary name; null when none was given. */
  readonly name: string | null;
  readonly aliases: readonly string[];
  readonly labels: Labels;
  readonly state: EndpointState;
  /** The caller's key is (network, callerId, ifname). */
  readonly callerId: string;
  /** Where the sandbox is, as the caller said it: `pid:N` or `netns:PATH`; null while reserved. */
  readonly sandbox: string | null;
  /** Published ports; absent: none. */
  readonly ports?: readonly PortMapping[];
  /** Absent: not limited. */
  readonly bandwidth?: Bandwidth;
  /** Services of the network whose health check it passes; absent: none. */
  readonly passing?: readonly string[];
  /** Services lead no new connections to it; absent: no. */
  readonly draining?: boolean;
  readonly createdAt: string;
}

/** A condition on one label. */
export interface LabelRequirement {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  /** For In and NotIn. */
  readonly values?: readonly string[];
}

/** Which labels; all conditions must hold, and none means everything. */
export interface LabelSelector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly LabelRequirement[];
}

/** The other end of a permitted connection: endpoints, networks or addresses. */
export interface PolicyPeer {
  /** Endpoints with these labels; with `networks`, those of them on one of these networks. */
  readonly endpoints?: LabelSelector;
  /** Names or ids. Without `endpoints`: every address of their subnets. */
  readonly networks?: readonly string[];
  readonly cidr?: string;
  /** Parts of `cidr` that are not meant. */
  readonly except?: readonly string[];
}

export type PolicyProtocol = PortProtocol | 'icmp';

/** Ports of the end that is connected to. */
export interface PolicyPort {
  /** Default: tcp. icmp stands for both families'. */
  readonly protocol?: PolicyProtocol;
  /** Absent: all. */
  readonly port?: number;
  /** Last of a range. */
  readonly endPort?: number;
}

/** Permits connections of any of the peers to any of the ports; no peers: anyone, no ports: all. */
export interface PolicyRule {
  readonly peers?: readonly PolicyPeer[];
  readonly ports?: readonly PolicyPort[];
}

/** What selected endpoints may be reached by, and may reach: once selected in a direction, only what a rule permits. */
export interface Policy extends RecordBase {
  readonly name: string;
  /** Only endpoints of these networks, by name or id; absent: of any. */
  readonly networks?: readonly string[];
  readonly selects: LabelSelector;
  /** Absent: incoming connections are not this policy's business; empty: none is permitted by it. */
  readonly ingress?: readonly PolicyRule[];
  readonly egress?: readonly PolicyRule[];
  readonly createdAt: string;
}

export type ServiceMode = 'vip' | 'dnsrr';
export type ServiceAffinity = 'none' | 'client-ip';

/** A port of a service, and the port of its backends that it leads to. */
export interface ServicePort {
  readonly port: number;
  readonly target: number;
  readonly protocol: PortProtocol;
}

/** A port of every host of the network that leads to a port of the service. */
export interface ServicePublish {
  readonly hostPort: number;
  readonly port: number;
  readonly protocol: PortProtocol;
}

/** A published port that something else on a host has: there it does not lead to the service. */
export interface HeldPort {
  readonly hostPort: number;
  readonly protocol: PortProtocol;
  /** What has it, for people. */
  readonly holder: string;
}

/** How backends are checked, on the target of the service's first TCP port. */
export interface ServiceHealth {
  readonly type: 'tcp' | 'http';
  /** For http: what is asked for. */
  readonly path?: string;
}

/** One name, and with mode vip one address of each family, for several endpoints of a network. */
export interface Service extends RecordBase {
  /** Unique in the network; a DNS name there. */
  readonly name: string;
  /** Network id. */
  readonly network: string;
  readonly mode: ServiceMode;
  /** Virtual addresses, in the order of the network's subnets; none with mode dnsrr. */
  readonly addresses: readonly string[];
  readonly ports: readonly ServicePort[];
  /** Endpoints with all of these labels are backends. */
  readonly selector?: Labels;
  /** Endpoints with one of these names, aliases, ids or callers' ids are backends. */
  readonly backends?: readonly string[];
  readonly affinity: ServiceAffinity;
  /** Absent: backends count as healthy. */
  readonly health?: ServiceHealth;
  readonly publish?: readonly ServicePublish[];
  /** How long connections to a draining backend may go on, ms. */
  readonly drainMs: number;
  /** Ids of endpoints that get no new connections. */
  readonly draining: readonly string[];
  readonly createdAt: string;
}

/** Settings that hold for the whole cluster, kept in the store, sent to every agent. */
export interface ClusterSettings extends RecordBase {
  /** UDP port of every VXLAN device. */
  readonly vxlanPort: number;
  /** A host is down this long after its last sign of life. */
  readonly livenessMs: number;
  /** Whether `host:NAME` principals may manage networks. */
  readonly hostsManageNetworks: boolean;
  /** Addresses and ports of controllers and their store, which no sandbox may reach. */
  readonly guarded?: readonly { readonly address: string; readonly port: number }[];
}

/** Where a watcher stands: revisions of another epoch mean nothing. */
export interface Cursor {
  readonly epoch: string;
  readonly revision: number;
}
