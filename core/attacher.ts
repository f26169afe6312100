import type { AttachRequest } from './api/attach.js';
import type { NetworkCreate } from './api/network.js';
import type { Labels } from './model.js';

/**
 * What a front end for a runtime's own protocol (CNI and others) is handed by the agent: attach and detach with all
 * that such protocols tell back. Types only; the agent implements it, `bin/` brings the two together.
 */

/** What finds an attachment again, whatever has become of its sandbox. */
export interface AttachmentKey {
  /** Network name or id. */
  readonly network: string;
  /** The caller's id. */
  readonly id: string;
  readonly ifname: string;
}

/** A part of a subnet, bounds included. */
export interface AddressRange {
  /** CIDR. */
  readonly subnet: string;
  readonly start?: string;
  readonly end?: string;
}

/** An attach by a caller that has ids and interface names of its own. */
export interface AttacherRequest extends AttachRequest {
  readonly id: string;
  readonly ifname: string;
  /** One address of each of these sets of ranges; a subnet without one gets any address. */
  readonly ranges?: readonly (readonly AddressRange[])[];
}

/** A reservation: an attachment whose interface somebody else makes. */
export type ReserveRequest = Omit<AttacherRequest, 'target' | 'defaultRoute' | 'ports' | 'bandwidth'>;

/** An attachment, with everything that runtimes ask for. */
export interface Attached {
  /** Endpoint id. */
  readonly endpoint: string;
  /** Whether this call made it; false where it was there already. */
  readonly isNew: boolean;
  /** The sandbox's interface. */
  readonly link: { readonly name: string; readonly mac: string; readonly mtu: number };
  /** The host's end; null where there is none (macvlan, reservations). */
  readonly hostLink: { readonly name: string; readonly mac: string; readonly ifindex: number } | null;
  readonly bridge: { readonly name: string; readonly mac: string } | null;
  /** In the order of the network's subnets. */
  readonly addresses: readonly {
    /** With the prefix length of its subnet. */
    readonly address: string;
    /** Null where the network has no way out. */
    readonly gateway: string | null;
  }[];
  /** What the sandbox's interface was given, besides the routes that follow from its addresses. */
  readonly routes: readonly { readonly dst: string; readonly gateway: string | null }[];
  /** Name servers of the network; null where there are none. */
  readonly dns: { readonly nameservers: readonly string[]; readonly search: readonly string[] } | null;
  readonly labels: Labels;
}

/** An attachment found again. */
export interface AttachmentFound extends Attached {
  readonly isNew: false;
  /** Whether it is in the sandbox that was asked about. */
  readonly isInTarget: boolean;
}

/** An attachment of this host, and whether anybody may still use it. */
export interface AttachmentListed {
  readonly key: AttachmentKey;
  readonly labels: Labels;
  /** False for reservations, which have no sandbox. */
  readonly isSandboxAlive: boolean;
}

/** What the kernel has for an attachment. */
export interface SandboxState {
  readonly link: { readonly name: string; readonly mac: string; readonly mtu: number; readonly isUp: boolean } | null;
  /** On that interface, with prefix length. */
  readonly addresses: readonly string[];
  /** All of the sandbox's main table; a null gateway is an on-link route. */
  readonly routes: readonly { readonly dst: string; readonly gateway: string | null }[];
  /** Links of the host that are there, each with its bridge's name. */
  readonly hostLinks: readonly { readonly name: string; readonly mac: string; readonly master: string | null }[];
}

/** Whether attaches can be served. */
export type Readiness =
  | { readonly isReady: true }
  | {
      readonly isReady: false;
      /** Whether attachments that exist suffer as well. */
      readonly isImpaired: boolean;
      readonly reason: string;
    };

export interface Attacher {
  /**
   * Attaches; repeated for the same sandbox it returns what is there, for a new one it replaces the old.
   * Errors: those of the agent's attach.
   */
  attach(request: AttacherRequest): Promise<Attached>;
  /**
   * Detaches; what is not there is a success. When it resolves, the addresses and the interface's name are free.
   * Errors: ERR_KERNEL.
   */
  detach(key: AttachmentKey): Promise<void>;
  /** Reserves addresses for an interface that somebody else makes. `detach` gives them back. */
  reserve(request: ReserveRequest): Promise<Attached>;
  /** Finds an attachment or reservation; null where there is none. */
  find(key: AttachmentKey, target?: string): Promise<AttachmentFound | null>;
  /** Lists this host's attachments that have all of these labels. */
  list(labels: Labels): Promise<AttachmentListed[]>;
  /**
   * Reads from the kernel what there is of an attachment.
   * Errors: ERR_SANDBOX_MISSING, ERR_SANDBOX_IS_HOST, ERR_INVALID_TARGET.
   */
  inspect(at: {
    readonly target: string;
    readonly ifname: string;
    readonly hostLinks: readonly string[];
  }): Promise<SandboxState>;
  /** Makes a network unless there is one of that name. */
  ensureNetwork(network: NetworkCreate): Promise<void>;
  /** Answers at once from what is known here. */
  readiness(network: string): Promise<Readiness>;
}
