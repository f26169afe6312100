/**
 * What a host asks of a controller and tells it.
 *
 *   POST   /v1/hosts/:host/blocks    BlockRequest       [host]   BlockGrant
 *   POST   /v1/hosts/:host/blocks/release  BlockRelease [host]   204
 *   POST   /v1/hosts/:host/carves/:id      CarveAnswer  [host]   204
 *   POST   /v1/hosts/:host/publish   Publication        [host]   PublicationResult
 *
 * Who may: [any] principal; [manage] = admin, or a host while the setting hostsManageNetworks is on; [host] = the one named,
 * or admin on its behalf; [admin].
 */
import type { Block, Carrier, Endpoint, Network, Service } from '../model.js';

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
