/**
 * What goes over the two HTTP interfaces: the controller's (`/v1/...`) and the agent's local one
 * (unix socket). Types only; `core/schema.ts` has the JSON Schemas that both sides check with.
 *
 * Controller routes (principal in brackets; every host route takes HOST = the principal's own name only):
 *
 *   GET    /v1/status                                   [any]    ControllerStatus
 *   GET    /v1/networks                                 [any]    NetworkView[]
 *   POST   /v1/networks              NetworkCreate      [manage] NetworkView
 *   GET    /v1/networks/:ref                            [any]    NetworkView          ref = name or id
 *   PATCH  /v1/networks/:ref         NetworkUpdate      [manage] NetworkView
 *   DELETE /v1/networks/:ref                            [manage] 204
 *   GET    /v1/policies                                 [any]    PolicyView[]
 *   POST   /v1/policies              PolicyBody         [manage] PolicyView
 *   GET    /v1/policies/:name                           [any]    PolicyView
 *   PUT    /v1/policies/:name        PolicyBody         [manage] PolicyView
 *   DELETE /v1/policies/:name                           [manage] 204
 *   POST   /v1/policies/explain      PolicyQuestion     [any]    PolicyAnswer
 *   GET    /v1/services?network=                        [any]    ServiceView[]
 *   POST   /v1/services              ServiceCreate      [manage] ServiceView
 *   GET    /v1/services/:ref                            [any]    ServiceView          ref = NAME or NAME.NETWORK
 *   PATCH  /v1/services/:ref         ServiceUpdate      [manage] ServiceView
 *   DELETE /v1/services/:ref                            [manage] 204
 *   GET    /v1/endpoints?network=&host=                 [any]    EndpointView[]
 *   GET    /v1/hosts                                    [any]    HostView[]
 *   DELETE /v1/hosts/:host?force=                       [admin]  HostRemoval
 *   PUT    /v1/hosts/:host           HostRegister       [host]   HostRegistered
 *   POST   /v1/hosts/:host/token     {}                 [admin]  HostToken
 *   GET    /v1/hosts/:host/records                      [host]   HostRecords
 *   POST   /v1/hosts/:host/blocks    BlockRequest       [host]   BlockGrant
 *   POST   /v1/hosts/:host/blocks/release  BlockRelease [host]   204
 *   POST   /v1/hosts/:host/carves/:id      CarveAnswer  [host]   204
 *   POST   /v1/hosts/:host/publish   Publication        [host]   PublicationResult
 *   POST   /v1/hosts/:host/watch     WatchRequest       [host]   NDJSON of WatchLine
 *   POST   /v1/hosts/:host/interest  InterestChange     [host]   204
 *
 * [manage] = admin, or a host while the setting hostsManageNetworks is on.
 *
 * Agent routes (unix socket, root only):
 *
 *   GET    /v1/agent/status                             AgentStatus
 *   POST   /v1/agent/attach          AttachRequest      EndpointView
 *   POST   /v1/agent/detach          DetachRequest      DetachResult
 *   POST   /v1/agent/reserve         AttachRequest without target    EndpointView      step 1 of attach
 *   POST   /v1/agent/link            StepRequest        EndpointView   step 2: into the sandbox, or the host namespace without target
 *   POST   /v1/agent/configure       StepRequest        EndpointView   step 3: addresses, routes, up
 *   GET    /v1/agent/endpoints                          EndpointView[]   this host's own
 *   GET    /v1/agent/ports                              PortView[]   what this host publishes
 *   GET    /v1/agent/dns                                DnsNameView[]   the names this host answers
 *   POST   /v1/agent/dns/query       DnsQueryRequest    DnsQueryView
 *   GET    /v1/agent/resolver?target=                   ResolverView    of a sandbox of this host
 *   PATCH  /v1/agent/endpoints/:ref  EndpointUpdate     EndpointView
 *   *      /v1/networks…, /v1/policies…, /v1/services…, /v1/endpoints, /v1/hosts…, /v1/status   relayed to a controller as this host
 */
import type {
  Bandwidth,
  Block,
  Carrier,
  Carve,
  ClusterSettings,
  Cursor,
  DriverName,
  Endpoint,
  HeldPort,
  Host,
  HostState,
  Labels,
  Network,
  Policy,
  PolicyProtocol,
  PortMapping,
  PortProtocol,
  Service,
  ServiceAffinity,
  ServiceHealth,
  ServiceMode,
  Subnet,
} from './model.js';

// ── networks ────────────────────────────────────────────────────────────────

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

export interface ServiceCreate {
  readonly name: string;
  /** Name or id. */
  readonly network: string;
  /** Default: vip. */
  readonly mode?: ServiceMode;
  /** Fixed virtual addresses, at most one of each subnet. */
  readonly addresses?: readonly string[];
  readonly ports: readonly {
    readonly port: number;
    /** Default: the port itself. */
    readonly target?: number;
    /** Default: tcp. */
    readonly protocol?: PortProtocol;
  }[];
  readonly selector?: Labels;
  readonly backends?: readonly string[];
  /** Default: none. */
  readonly affinity?: ServiceAffinity;
  readonly health?: ServiceHealth;
  /** `port` absent: the service's port of that number, or its only one. */
  readonly publish?: readonly { readonly hostPort: number; readonly port?: number }[];
  /** Default: 30 s. */
  readonly drainMs?: number;
}

/** Each field stands in place of the one before; name, mode and addresses stay. */
export interface ServiceUpdate extends Partial<
  Pick<ServiceCreate, 'ports' | 'selector' | 'backends' | 'affinity' | 'publish' | 'drainMs'>
> {
  /** Null: backends are not checked any longer. */
  readonly health?: ServiceHealth | null;
  /** Names, aliases, ids or callers' ids of backends. */
  readonly drain?: readonly string[];
  readonly undrain?: readonly string[];
  /** The generation that is changed; another one is refused. Default: whatever is there. */
  readonly generation?: number;
}

/** One endpoint that a service leads to, or would. */
export interface ServiceBackend {
  readonly endpoint: string;
  readonly name: string | null;
  readonly host: string;
  readonly addresses: readonly string[];
  readonly state: 'ready' | 'failing' | 'draining' | 'down';
}

export interface ServiceView extends Omit<Service, 'v' | 'draining'> {
  /** The network's name. */
  readonly network: string;
  readonly endpoints: readonly ServiceBackend[];
  /** Published ports that something else on a host has: there they do not lead to the service. Absent: none. */
  readonly held?: readonly (HeldPort & { readonly host: string })[];
}

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

export interface ControllerStatus {
  readonly version: string;
  readonly epoch: string;
  readonly revision: number;
  readonly store: 'ok' | 'unreachable';
  readonly networks: number;
  readonly hosts: number;
  readonly endpoints: number;
}

// ── host to controller ──────────────────────────────────────────────────────

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

export interface BlockRequest {
  readonly network: string;
  /** The subnet concerned, one of the network's. */
  readonly subnet: string;
  /** A fixed address; absent: any block (or, when none is left, any single address). */
  readonly address?: string;
  /** Asked before the last block is full: only a free block will do, nothing is taken from another host. */
  readonly ahead?: boolean;
}

export interface BlockGrant {
  readonly block: Block;
}

export interface BlockRelease {
  readonly network: string;
  readonly cidr: string;
  readonly generation: number;
}

export interface CarveAnswer {
  /** The address given up, or null when the owner uses it (or has none free). */
  readonly address: string | null;
  /** Who holds it, for the error the requester gets. */
  readonly holder?: string;
}

/**
 * A batch of what a host says of itself, at most 100 records. Idempotent; each record stands for
 * itself: one that is refused does not hold up the others.
 */
export interface Publication {
  readonly carriers?: readonly Carrier[];
  readonly carriersGone?: readonly { readonly network: string; readonly generation: number }[];
  readonly endpoints?: readonly Endpoint[];
  readonly endpointsGone?: readonly { readonly network: string; readonly id: string; readonly generation: number }[];
  /** Blocks held according to the journal: refills a store that lost them. */
  readonly blocks?: readonly Block[];
  /** Networks known according to the journal, for the same; only those the store has not. */
  readonly networks?: readonly Network[];
  /** Services known according to the cache, for the same; only those the store has not. */
  readonly services?: readonly Service[];
}

export interface PublicationResult {
  /** The records refused, by `kind/network/id`, each with its error body. */
  readonly refused: readonly { readonly key: string; readonly code: string; readonly message: string }[];
}

// ── watch stream ────────────────────────────────────────────────────────────

export interface WatchRequest {
  readonly instance: string;
  /** Absent, unknown or too old: full sets. Given, it stands for all of `interest`: add later what it does not cover. */
  readonly cursor?: Cursor;
  /** Network ids whose carriers, endpoints and own blocks are wanted. */
  readonly interest: readonly string[];
}

export interface InterestChange {
  readonly stream: string;
  readonly add?: readonly string[];
  readonly remove?: readonly string[];
}

/** A record with its kind, as it goes over the stream. */
export type Entry =
  | { readonly kind: 'network'; readonly value: Network }
  | { readonly kind: 'carrier'; readonly value: Carrier }
  | { readonly kind: 'endpoint'; readonly value: Endpoint }
  | { readonly kind: 'block'; readonly value: Block }
  | { readonly kind: 'carve'; readonly value: Carve }
  | { readonly kind: 'settings'; readonly value: ClusterSettings }
  | { readonly kind: 'policy'; readonly value: Policy }
  | { readonly kind: 'service'; readonly value: Service };

export type EntryKind = Entry['kind'];

/**
 * One line of the stream.
 *
 * `hello` comes first. A full set is `begin` … `put`s … `end`; whatever of its scope the receiver
 * holds and the set does not name is gone. `scope` is `*` (networks, policies, settings, own blocks and carves, and all
 * interests) or one network id (its carriers, endpoints and services). `put`/`gone` outside a set are
 * changes; `revision` is the etcd revision of the change and the cursor to resume at.
 * `beat` is the heartbeat and carries progress; the receiver answers each with an InterestChange that changes
 * nothing, which is its sign of life (one that never did is taken to live while its stream is open).
 * `bye` says why the controller ends the stream.
 */
export type WatchLine =
  | {
      readonly type: 'hello';
      readonly stream: string;
      readonly epoch: string;
      readonly revision: number;
      readonly beatMs: number;
      readonly resumed: boolean;
    }
  | { readonly type: 'begin'; readonly scope: string; readonly revision: number }
  | ({ readonly type: 'put'; readonly revision: number } & Entry)
  | {
      readonly type: 'gone';
      readonly revision: number;
      readonly kind: EntryKind;
      readonly network: string;
      readonly id: string;
      readonly generation: number;
    }
  | { readonly type: 'end'; readonly scope: string; readonly revision: number }
  | {
      readonly type: 'beat';
      readonly revision: number;
      /** All hosts that are down for sure; absent while the controller cannot tell. Sent at once when it changes. */
      readonly down?: readonly string[];
    }
  | { readonly type: 'bye'; readonly code: string; readonly message: string };

// ── agent's local interface ─────────────────────────────────────────────────

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

export interface AgentStatus {
  readonly version: string;
  readonly host: string;
  readonly vtep: string;
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

// ── names ───────────────────────────────────────────────────────────────────

export interface DnsQueryRequest {
  readonly name: string;
  /** Default: A and AAAA, or PTR for a reverse name. */
  readonly type?: string;
  /** Whoever asks: target, endpoint id, caller's id or name of an endpoint of this host. Default: all networks are seen. */
  readonly from?: string;
}

export interface DnsRecordView {
  readonly name: string;
  readonly type: string;
  readonly ttl: number;
  readonly value: string;
  /** Endpoint id. */
  readonly endpoint: string | null;
  readonly network: string | null;
  /** The endpoint's host. */
  readonly host: string | null;
  readonly generation: number | null;
}

export interface DnsQueryView {
  readonly name: string;
  /** `NOERROR`, `NODATA`, `NXDOMAIN`, `FORWARDED` or `REFUSED`. */
  readonly status: string;
  readonly reason: string;
  /** Where there is no record, the endpoints that have the name. */
  readonly records: readonly DnsRecordView[];
}

/** One name of one endpoint. */
export interface DnsNameView {
  readonly name: string;
  readonly network: string;
  readonly addresses: readonly string[];
  readonly host: string;
  readonly endpoint: string;
  readonly generation: number;
}

/** The settings of a resolver. Source: resolv.conf(5). */
export interface ResolverSettings {
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** An endpoint in full. */
export interface EndpointDetails extends EndpointView {
  /** What its sandbox is told about name servers, for all its networks; absent: another host's, or no name server. */
  readonly resolver?: ResolverSettings;
}

/** What a sandbox is told about name servers. */
export interface ResolverView extends ResolverSettings {
  /** As a resolv.conf. */
  readonly text: string;
}
