import type { NftElement, NftTable } from '../../lib/nft/table.js';

/**
 * What the kernel takes for an element of a set with ranges of several parts to go, for each that is in the set: it
 * walks them all, and holds everybody's changes meanwhile (nft_pipapo_remove; 3 to 5 µs, Linux 6.18).
 */
const removalUs = 4;
/** What a load of the whole table takes, beside for each of its elements. */
const loadUs = 100_000;
const loadElementUs = 50;

/** How many elements there are: in one set, or in all. */
export type CountElements = (set?: string) => number;

/** Reports whether a table is quicker loaded anew than some of its elements removed one by one. */
export function isQuickerLoaded(table: NftTable, gone: readonly NftElement[], count: CountElements): boolean {
  const slow = new Map<string, number>();
  for (const { name, key, interval } of table.sets) if (interval === true && key.length > 1) slow.set(name, 0);
  for (const { set } of gone) {
    const removed = slow.get(set);
    if (removed !== undefined) slow.set(set, removed + 1);
  }
  let totalUs = 0;
  for (const [set, removed] of slow) if (removed > 1) totalUs += removed * (count(set) + removed) * removalUs;
  return totalUs > loadUs && totalUs > loadUs + count() * loadElementUs;
}
