/**
 * The stream that a host hears a controller by.
 *
 *   POST   /v1/hosts/:host/watch     WatchRequest       [host]   NDJSON of WatchLine
 *   POST   /v1/hosts/:host/interest  InterestChange     [host]   204
 *
 * Who may: [any] principal; [manage] = admin, or a host while the setting hostsManageNetworks is on; [host] = the one named,
 * or admin on its behalf; [admin].
 */
import type { Block, Carrier, Carve, ClusterSettings, Cursor, Endpoint, Network, Policy, Service } from '../model.js';

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
