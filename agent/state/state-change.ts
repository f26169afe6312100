import type { StateKind, StateRecords } from './records.js';

type ChangeOf<K extends StateKind> =
  | {
      readonly op: 'put';
      readonly kind: K;
      readonly key: string;
      readonly value: StateRecords[K];
      readonly previous: StateRecords[K] | null;
    }
  | {
      readonly op: 'gone';
      readonly kind: K;
      readonly key: string;
      readonly value: null;
      readonly previous: StateRecords[K];
    };

/** A change of what is known of the cluster; keys are those of the cache: `endpoint/NETWORK/ID`. */
export type StateChange = { [K in StateKind]: ChangeOf<K> }[StateKind];
