import { containsAddr, containsPrefix, parseAddr, parsePrefix } from '../../core/addr.js';
import { newGrid, type Grid } from '../../core/grid.js';
import type { Block, Network } from '../../core/model.js';
import { AddressPool } from '../../core/pool.js';
import type { Journal } from '../journal/journal.js';

/** The addresses of one subnet that this host gives out. */
export interface SubnetPool {
  readonly network: Network;
  /** As the network's record writes it. */
  readonly subnet: string;
  readonly grid: Grid;
  readonly pool: AddressPool;
  /** The request for more addresses that is under way; whoever needs some waits for it. */
  refill: Promise<void> | undefined;
  /** A request ahead of need that is under way. */
  ahead: Promise<void> | undefined;
  /** No request ahead of need before this time. */
  aheadAfterMs: number;
}

/** Both clocks, in milliseconds; nobody sets either. */
export interface Clocks {
  readonly monoMs: () => number;
  /** Since the machine's start, so that it goes on over a restart of the agent. */
  readonly uptimeMs: () => number;
}

export interface PoolsOptions {
  readonly journal: Journal;
  readonly network: (id: string) => Network | undefined;
  readonly quarantineMs: number;
  readonly clocks: Clocks;
}

/** The pools of each network, made from the journal when the network is first asked for. */
export class Pools {
  readonly #options: PoolsOptions;
  readonly #networks = new Map<string, SubnetPool[]>();

  constructor(options: PoolsOptions) {
    this.#options = options;
  }

  /** One pool a subnet, in their order. */
  ensure(network: Network): readonly SubnetPool[] {
    const known = this.#networks.get(network.id);
    if (known !== undefined && known.length === network.subnets.length) return known;
    const added = network.subnets
      .slice(known?.length ?? 0)
      .map((subnet) => this.#newPool(network, newGrid(subnet), subnet.subnet));
    const all = [...(known ?? []), ...added];
    this.#networks.set(network.id, all);
    this.#restore(network.id, added);
    return all;
  }

  /** The pools of a network; none while its record is not known. */
  of(network: string): readonly SubnetPool[] {
    const record = this.#options.network(network);
    return record === undefined ? (this.#networks.get(network) ?? []) : this.ensure(record);
  }

  /** The pool that a block belongs to. */
  ofBlock(network: string, cidr: string): SubnetPool | undefined {
    const prefix = parsePrefix(cidr, 'cidr');
    return this.of(network).find(({ grid }) => containsPrefix(grid.prefix, prefix));
  }

  /** The pool that an address belongs to. */
  ofAddress(network: string, address: string): SubnetPool | undefined {
    const addr = parseAddr(address);
    return this.of(network).find(({ grid }) => containsAddr(grid.prefix, addr));
  }

  *all(): IterableIterator<SubnetPool> {
    for (const pools of this.#networks.values()) yield* pools;
  }

  forget(network: string): void {
    this.#networks.delete(network);
  }

  #newPool(network: Network, grid: Grid, subnet: string): SubnetPool {
    return {
      network,
      subnet,
      grid,
      pool: new AddressPool(grid, this.#options.quarantineMs),
      refill: undefined,
      ahead: undefined,
      aheadAfterMs: 0,
    };
  }

  /** Brings what the journal says of a network into new pools: blocks, addresses in use, given up, and at rest. */
  #restore(network: string, pools: readonly SubnetPool[]): void {
    const { journal, clocks, quarantineMs } = this.#options;
    const nowMs = clocks.monoMs();
    const poolOf = (address: string): AddressPool | undefined => {
      const addr = parseAddr(address);
      return pools.find(({ grid }) => containsAddr(grid.prefix, addr))?.pool;
    };
    for (const block of journal.addresses.blocks()) if (block.network === network) restoreBlock(pools, block);
    for (const { address, leftMs } of this.#resting(network)) {
      const pool = poolOf(address);
      if (pool !== undefined && takeQuietly(pool, address)) pool.release(address, nowMs + leftMs - quarantineMs);
    }
    for (const address of usedAddresses(journal, network)) {
      const pool = poolOf(address);
      if (pool !== undefined) takeQuietly(pool, address);
    }
    for (const { carve, address } of journal.addresses.carves()) {
      if (carve.network === network && address !== null) poolOf(address)?.restoreOffer(address, carve.id);
    }
  }

  /**
   * What still rests in a network, by the end of its rest. A rest that ends later than one begun now is of an earlier boot,
   * whose uptime says nothing: it begins anew. One that seems over is over, since the machine has been up for longer than that.
   */
  #resting(network: string): { readonly address: string; readonly leftMs: number }[] {
    const { journal, clocks, quarantineMs } = this.#options;
    const uptimeMs = clocks.uptimeMs();
    const mostMs = uptimeMs + quarantineMs;
    const entries = [...journal.addresses.resting()].filter((entry) => entry.network === network);
    const older = entries.filter(({ untilMs }) => untilMs > mostMs).map((entry) => ({ ...entry, untilMs: mostMs }));
    try {
      if (older.length > 0) journal.addresses.putResting(older, uptimeMs);
    } catch {
      // No room on the disk: they rest once more after the next start.
    }
    return entries
      .map(({ address, untilMs }) => ({ address, leftMs: Math.min(untilMs, mostMs) - uptimeMs }))
      .filter(({ leftMs }) => leftMs > 0)
      .sort((a, b) => a.leftMs - b.leftMs);
  }
}

/** The addresses of a network that this host uses, endpoints' and its own. */
export function usedAddresses(journal: Journal, network: string): string[] {
  const own = [...journal.addresses.hostAddresses()]
    .filter((entry) => entry.network === network)
    .map(({ address }) => address);
  return [...own, ...journal.endpointsOf(network).flatMap(({ record }) => record.addresses)];
}

function restoreBlock(pools: readonly SubnetPool[], block: Block): void {
  const prefix = parsePrefix(block.cidr);
  pools.find(({ grid }) => containsPrefix(grid.prefix, prefix))?.pool.addBlock(block);
}

/** Takes an address that the journal says is in use; false when no block here has it. */
export function takeQuietly(pool: AddressPool, address: string): boolean {
  try {
    return pool.allocateFixed(address);
  } catch {
    // In use already (two records of one address), or not one that the subnet gives any more: nothing to keep.
    return false;
  }
}
