import { blockKey, blocksGuardKey, blocksPrefix } from '../../core/keys.js';
import type { BlockChange } from '../../core/ipam.js';
import type { Block } from '../../core/model.js';
import type { Txn } from '../../lib/etcd/txn.js';
import { decodeRecord, encodeRecord, type Guard } from './record.js';

export async function getBlock(txn: Txn, network: string, cidr: string): Promise<Block | undefined> {
  const kv = await txn.get(blockKey(network, cidr));
  return kv === undefined ? undefined : decodeRecord<Block>(kv);
}

/** Reads several blocks with one call, for `getBlock` to answer from. */
export async function loadBlocks(
  txn: Txn,
  wanted: readonly { readonly network: string; readonly cidr: string }[],
): Promise<void> {
  await txn.load(wanted.map(({ network, cidr }) => blockKey(network, cidr)));
}

/** Every block of a network; a commit does not depend on it unless the blocks guard is touched too. */
export async function listBlocks(txn: Txn, network: string): Promise<readonly Block[]> {
  return (await txn.list(blocksPrefix(network))).map((kv) => decodeRecord<Block>(kv));
}

/** The generation that the next grant in the network gets at least; the commit depends on it. */
export async function getNextGeneration(txn: Txn, network: string): Promise<number> {
  const kv = await txn.get(blocksGuardKey(network));
  return kv === undefined ? 1 : decodeRecord<Guard>(kv).generation;
}

/** Commits a plan, and makes this transaction exclude every other on the network's blocks. */
export function putBlockChange(txn: Txn, network: string, change: BlockChange): void {
  for (const block of change.remove) txn.delete(blockKey(network, block.cidr));
  for (const block of change.put) txn.put(blockKey(network, block.cidr), encodeRecord(block));
  // Unchanged or not: the new revision is what makes a concurrent plan fail.
  txn.put(blocksGuardKey(network), encodeRecord({ v: 1, generation: change.nextGeneration }));
}
