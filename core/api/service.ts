/**
 * Services, at the controller; agents relay.
 *
 *   GET    /v1/services?network=                        [any]    ServiceView[]
 *   POST   /v1/services              ServiceCreate      [manage] ServiceView
 *   GET    /v1/services/:ref                            [any]    ServiceView          ref = NAME or NAME.NETWORK
 *   PATCH  /v1/services/:ref         ServiceUpdate      [manage] ServiceView
 *   DELETE /v1/services/:ref                            [manage] 204
 *
 * Who may: [any] principal; [manage] = admin, or a host while the setting hostsManageNetworks is on; [host] = the one named,
 * or admin on its behalf; [admin].
 */
import type { HeldPort, Labels, PortProtocol, Service, ServiceAffinity, ServiceHealth, ServiceMode } from '../model.js';

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
