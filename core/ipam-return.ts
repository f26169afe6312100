import { baseAddr, containsPrefix, formatAddr, formatPrefix, parsePrefix } from './addr.js';
import type { Prefix } from './addr.js';
import { TsnetError } from './errors.js';
import { blockContaining, isCarvedBlock, isGridBlock } from './grid.js';
import type { Grid } from './grid.js';
import { newGenerations } from './ipam.js';
import type { BlockChange, BlockState } from './ipam.js';
import type { Block } from './model.js';

/** How blocks go back to where they came from, when a host returns one and when a host is removed. */

/** The grid that a prefix lies on; undefined for a block of no subnet of the network. */
export function gridOf(grids: readonly Grid[], prefix: Prefix): Grid | undefined {
  return grids.find((grid) => containsPrefix(grid.prefix, prefix));
}

/** Records as they will be, with what changed since. */
class Draft {
  private readonly records = new Map<string, Block>();
  private readonly before = new Map<string, Block>();
  private readonly touched = new Set<string>();
  private readonly generations: ReturnType<typeof newGenerations>;

  constructor(state: BlockState) {
    this.generations = newGenerations(state);
    for (const block of state.blocks) {
      this.records.set(block.cidr, block);
      this.before.set(block.cidr, block);
    }
  }

  get(cidr: string): Block | undefined {
    return this.records.get(cidr);
  }

  /** A grid block that ends up with neither owner nor carvings needs no record. */
  put(block: Block): void {
    this.touched.add(block.cidr);
    if (block.host === null && block.carved.length === 0) this.records.delete(block.cidr);
    else this.records.set(block.cidr, block);
  }

  delete(cidr: string): void {
    this.touched.add(cidr);
    this.records.delete(cidr);
  }

  change(): BlockChange {
    const put: Block[] = [];
    const remove: Block[] = [];
    for (const cidr of this.touched) {
      const record = this.records.get(cidr);
      const old = this.before.get(cidr);
      if (record !== undefined) put.push({ ...record, generation: this.generations.next() });
      else if (old !== undefined) remove.push(old);
    }
    return { put, remove, nextGeneration: this.generations.peek() };
  }
}

/** Takes a host's block out of a draft: a grid block loses its owner, a single goes back to its grid block. */
function giveBack(draft: Draft, grids: readonly Grid[], block: Block): void {
  const prefix = parsePrefix(block.cidr);
  const grid = gridOf(grids, prefix);
  if (grid === undefined || !isCarvedBlock(grid, prefix)) {
    draft.put({ ...block, host: null });
    return;
  }
  draft.delete(block.cidr);
  const address = formatAddr(baseAddr(prefix));
  const whole = draft.get(formatPrefix(blockContaining(grid.prefix, baseAddr(prefix))));
  if (whole?.carved.includes(address) !== true) return;
  draft.put({ ...whole, carved: whole.carved.filter((other) => other !== address) });
}

export interface ReleaseQuestion extends BlockState {
  /** One of each subnet of the network. */
  readonly grids: readonly Grid[];
  readonly host: string;
  readonly cidr: string;
  /** Of the record that the host had when it found the block idle. */
  readonly generation: number;
}

/**
 * Takes a block back from its host. Addresses carved out of it stay with their hosts; a single goes back
 * to its grid block's owner, or to nobody's. Returning what one does not hold changes nothing, so a
 * repeated request is harmless.
 *
 * Errors: ERR_STALE_GENERATION when the record has changed since, so that a late repetition never takes
 * away a block that was granted to the same host anew.
 */
export function planRelease(question: ReleaseQuestion): BlockChange {
  const { grids, host, cidr, generation } = question;
  const draft = new Draft(question);
  const block = draft.get(cidr);
  if (block === undefined || block.host !== host) return { ...draft.change(), nextGeneration: question.nextGeneration };
  if (generation < block.generation) {
    throw new TsnetError(
      'ERR_STALE_GENERATION',
      `generation: ${generation} of block ${cidr} is older than ${block.generation}`,
      {
        details: { field: 'generation', value: generation, current: block.generation, cidr },
      },
    );
  }
  giveBack(draft, grids, block);
  return draft.change();
}

export interface HostRemovalQuestion extends BlockState {
  readonly grids: readonly Grid[];
  readonly host: string;
  /** Blocks to take back in one plan; each changes two records at most. */
  readonly limit?: number;
}

export interface HostRemovalPlan extends BlockChange {
  /** Blocks of the host that are taken back by this plan. */
  readonly returned: number;
  /** Whether the host holds further ones: commit this plan, then plan again. */
  readonly hasMore: boolean;
}

/** Takes every block of a host back, in portions that fit one transaction. */
export function planHostRemoval(question: HostRemovalQuestion): HostRemovalPlan {
  const { grids, host, limit = 40 } = question;
  const held = question.blocks.filter((block) => block.host === host);
  const draft = new Draft(question);
  for (const { cidr } of held.slice(0, limit)) {
    const block = draft.get(cidr);
    if (block !== undefined) giveBack(draft, grids, block);
  }
  return { ...draft.change(), returned: Math.min(limit, held.length), hasMore: held.length > limit };
}

/** Reports whether a prefix can be a block record of one of the subnets. */
export function isBlockOf(grids: readonly Grid[], prefix: Prefix): boolean {
  const grid = gridOf(grids, prefix);
  return grid !== undefined && (isGridBlock(grid, prefix) || isCarvedBlock(grid, prefix));
}
