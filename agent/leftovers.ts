import type { Datapath } from './datapath/datapath.js';
import type { Journal } from './journal/journal.js';
import type { Networks } from './networks.js';
import type { Reconciler } from './reconcile/reconciler.js';
import type { ClusterState } from './state/cluster-state.js';
import type { Withdrawals } from './withdrawals.js';

export interface LeftoversOptions {
  readonly datapath: Datapath;
  readonly state: ClusterState;
  readonly journal: Journal;
  readonly networks: Networks;
  readonly withdrawals: Withdrawals;
  readonly reconciler: Pick<Reconciler, 'prune'>;
}

/**
 * What is in the kernel from before a restart and nobody wants can go, but not before the cluster has said all: the cache
 * may have missed the last records, and while no controller can be reached the old entries are the best there are.
 */
export class Leftovers {
  readonly #options: LeftoversOptions;
  #isPruned = false;

  constructor(options: LeftoversOptions) {
    this.#options = options;
  }

  /** The cluster has said something more: removes what is left over once that was all. */
  review(): void {
    const { datapath, state, journal, networks, withdrawals, reconciler } = this.#options;
    if (this.#isPruned || ![...datapath.realised()].every((network) => state.isLoaded(network))) return;
    this.#isPruned = true;
    const ours = [...journal.carriers(), ...journal.endpoints()].map(({ record }) => record.network);
    for (const id of new Set(ours)) if (networks.known(id) === undefined) void withdrawals.networkGone(id);
    reconciler.prune();
  }
}
