import { toTsnetError } from '../../core/errors.js';
import type { Block, Network } from '../../core/model.js';
import type { Logger } from '../../lib/log.js';
import type { Journal } from '../journal/journal.js';
import type { BlockReturns } from './block-returns.js';
import { usedAddresses, type Pools } from './pools.js';

export interface BlockSweepOptions {
  readonly journal: Journal;
  readonly state: { network(id: string): Network | undefined };
  readonly pools: Pools;
  readonly returns: BlockReturns;
  readonly log: Logger;
  readonly quarantineMs: number;
  readonly nowMs: () => number;
}

const keyOf = ({ network, cidr }: Pick<Block, 'network' | 'cidr'>): string => `${network}/${cidr}`;

/** Finds blocks that can be returned: idle ones, those of networks that are gone, and those that nobody here asked for. */
export class BlockSweep {
  readonly #options: BlockSweepOptions;
  /** Since when a block has been idle, by network/CIDR. */
  readonly #idleSinceMs = new Map<string, number>();
  /** Blocks that the store says are ours and the journal does not know, and since when. */
  readonly #unknown = new Map<string, { readonly block: Block; readonly sinceMs: number }>();

  constructor(options: BlockSweepOptions) {
    this.#options = options;
  }

  /** Takes note of a block that the store says is ours and the journal does not know: it goes back after a while. */
  noteUnknown(block: Block): void {
    const sinceMs = this.#unknown.get(keyOf(block))?.sinceMs ?? this.#options.nowMs();
    this.#unknown.set(keyOf(block), { block, sinceMs });
  }

  /** The journal knows a block by now, or the store does not have it as ours any more. */
  forgetUnknown(block: Pick<Block, 'network' | 'cidr'>): void {
    this.#unknown.delete(keyOf(block));
  }

  /** All blocks that the store has as ours. */
  keepUnknown(blocks: readonly Block[]): void {
    const named = new Set(blocks.map(keyOf));
    for (const key of this.#unknown.keys()) if (!named.has(key)) this.#unknown.delete(key);
  }

  run(): void {
    this.#returnIdle();
    this.#returnUnknown();
    this.#returnOrphans();
  }

  /** Gives a block back; one that cannot be is kept. */
  giveBack(block: Block): void {
    const { returns, pools, log } = this.#options;
    try {
      returns.add(block);
      pools.ofBlock(block.network, block.cidr)?.pool.removeBlock(block.cidr);
    } catch (error) {
      const { code, message } = toTsnetError(error);
      log.warn({ code }, `block ${block.cidr} not returned: ${message}`);
    }
  }

  /** What has been idle for a quarantine; of a network that is not in use here everything, else what it does not need. */
  #returnIdle(): void {
    const { journal, pools, nowMs, quarantineMs } = this.#options;
    for (const network of new Set([...journal.addresses.blocks()].map((block) => block.network))) pools.of(network);
    const now = nowMs();
    const idle = new Set<string>();
    for (const { network, pool } of pools.all()) {
      const { used, quarantined } = pool.counts(now);
      const unused = used === 0 && quarantined === 0 ? pool.held : [];
      for (const block of this.#isInUse(network.id) ? pool.idleBlocks(now) : unused) {
        const key = keyOf(block);
        idle.add(key);
        const sinceMs = this.#idleSinceMs.get(key) ?? now;
        this.#idleSinceMs.set(key, sinceMs);
        if (now - sinceMs < quarantineMs) continue;
        this.#idleSinceMs.delete(key);
        this.giveBack(block);
      }
    }
    for (const key of this.#idleSinceMs.keys()) if (!idle.has(key)) this.#idleSinceMs.delete(key);
  }

  #returnUnknown(): void {
    const { journal, returns, nowMs, quarantineMs } = this.#options;
    for (const [key, { block, sinceMs }] of this.#unknown) {
      if (nowMs() - sinceMs < quarantineMs) continue;
      this.#unknown.delete(key);
      if (journal.addresses.block(block.network, block.cidr) === undefined) returns.add(block);
    }
  }

  /** Blocks of networks that are gone go back as well. */
  #returnOrphans(): void {
    const { journal, state, returns, pools } = this.#options;
    for (const block of [...journal.addresses.blocks()]) {
      if (state.network(block.network) !== undefined || this.#isInUse(block.network)) continue;
      returns.add(block);
      pools.forget(block.network);
    }
  }

  #isInUse(network: string): boolean {
    const { journal } = this.#options;
    return journal.carrier(network) !== undefined || usedAddresses(journal, network).length > 0;
  }
}
