import { baseAddr, formatAddr, formatPrefix, parsePrefix } from './addr.js';
import { TsnetError } from './errors.js';
import { blockContaining, isCarvedBlock, isReserved } from './grid.js';
import type { Grid } from './grid.js';
import { gridOf, isBlockOf } from './ipam-return.js';
import { indexBlocks, newGenerations } from './ipam.js';
import type { BlockChange, BlockState } from './ipam.js';
import type { Block } from './model.js';

/** How a store that was emptied, or restored from an old backup, learns again which host holds what. */

export interface RefillQuestion extends BlockState {
  readonly grids: readonly Grid[];
  /** The host that publishes. */
  readonly host: string;
  /** A block that it holds according to its journal. */
  readonly published: Block;
}

function fenced({ network, published }: RefillQuestion, holder: string): TsnetError {
  const message = `block ${published.cidr} of network ${JSON.stringify(network.name)} is held by ${holder} by now`;
  return new TsnetError('ERR_BLOCK_FENCED', message, {
    details: { network: network.name, cidr: published.cidr, generation: published.generation, holder },
  });
}

/** Checks that a published block is one that the host could hold. */
function checkPublished({ grids, host, network, published }: RefillQuestion): Grid {
  const prefix = parsePrefix(published.cidr, 'cidr');
  const grid = gridOf(grids, prefix);
  const details = { field: 'cidr', value: published.cidr, network: network.name };
  if (grid === undefined || !isBlockOf(grids, prefix)) {
    throw new TsnetError(
      'ERR_BLOCK_FENCED',
      `cidr: ${published.cidr} is no block of network ${JSON.stringify(network.name)}`,
      {
        details,
      },
    );
  }
  if (published.host !== host) {
    throw new TsnetError(
      'ERR_FORBIDDEN',
      `host: a block of ${published.host ?? 'nobody'} is not ${host}'s to publish`,
      { details },
    );
  }
  if (isCarvedBlock(grid, prefix) && isReserved(grid, baseAddr(prefix))) {
    throw new TsnetError('ERR_ADDRESS_RESERVED', `cidr: ${published.cidr} is a reserved address`, { details });
  }
  return grid;
}

function refillSingle(question: RefillQuestion, grid: Grid): readonly Block[] {
  const { blocks, published } = question;
  const addr = baseAddr(parsePrefix(published.cidr));
  const address = formatAddr(addr);
  const cidr = formatPrefix(blockContaining(grid.prefix, addr));
  const whole = indexBlocks(grid, blocks).byCidr.get(cidr);
  if (whole === undefined || whole.carved.includes(address)) return [published];
  if (whole.host !== null && whole.generation > published.generation) throw fenced(question, `host ${whole.host}`);
  const carved = [...whole.carved, address];
  return [published, { ...whole, generation: whole.generation + 1, carved }];
}

function refillGridBlock({ blocks, published }: RefillQuestion, grid: Grid): readonly Block[] {
  const carved = [...new Set([...published.carved, ...indexBlocks(grid, blocks).carvedIn(published.cidr)])];
  if (carved.length === published.carved.length) return [published];
  return [{ ...published, generation: published.generation + 1, carved }];
}

/**
 * Decides on a block that a host says it holds. Where the store knows nothing newer, the host's word
 * goes in with the host's generation; a record of another host with the same or a larger generation
 * fences it. Addresses that others hold in it are added to its carvings, whatever came first; a grid
 * block then goes up by one generation and not to the counter's, lest a single that is still on its way
 * look older than the owner's record.
 *
 * Errors: ERR_BLOCK_FENCED, ERR_FORBIDDEN, ERR_ADDRESS_RESERVED, ERR_INVALID_CIDR.
 */
export function planRefill(question: RefillQuestion): BlockChange {
  const { blocks, host, published } = question;
  const grid = checkPublished(question);
  const record = blocks.find(({ cidr }) => cidr === published.cidr);
  const generations = newGenerations({ ...question, blocks: [...blocks, published] });
  if (record !== undefined && record.host !== null && record.generation >= published.generation) {
    if (record.host !== host) throw fenced(question, `host ${record.host}`);
    return { put: [], remove: [], nextGeneration: generations.peek() };
  }
  const isSingle = isCarvedBlock(grid, parsePrefix(published.cidr));
  if (record !== undefined && record.host === null && record.generation >= published.generation) {
    throw fenced(question, 'nobody');
  }
  const put = isSingle ? refillSingle(question, grid) : refillGridBlock(question, grid);
  const nextGeneration = Math.max(generations.peek(), ...put.map(({ generation }) => generation + 1));
  return { put, remove: [], nextGeneration };
}
