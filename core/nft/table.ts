import type { TableChain } from './chain.js';
import { filterChains } from './filter-chains.js';
import { publishedChains } from './published-chains.js';
import { rawChains } from './raw-chains.js';
import { sourceChains } from './source-chains.js';
import { tableSets, type TableSet } from './table-sets.js';

/**
 * The table of a host: `inet tsnet`. Rules are few and never change with records; records are
 * elements of sets and maps, so that neither a packet nor a change pays for how many there are.
 *
 * The path of a packet from outside to a published port:
 *
 *     prerouting (nat)   an address of the host, port in one of the maps → the endpoint
 *     forward            translated by a published port → accepted, else dropped
 *     postrouting (nat)  source kept, or the host's own address in the network (see `toward-sandbox`)
 *
 * Marks: 0x1000 is set on packets of ours that were accepted, for the one rule in DOCKER-USER.
 */

/** Equal in shape to lib/nft's table. */
export interface Table {
  readonly family: 'inet';
  readonly name: 'tsnet';
  readonly sets: readonly TableSet[];
  readonly chains: readonly TableChain[];
}

export interface TableOptions {
  /** UDP port of every VXLAN device of the cluster. */
  readonly vxlanPort: number;
}

/** The whole table but for elements. */
export function newTable({ vxlanPort }: TableOptions): Table {
  return {
    family: 'inet',
    name: 'tsnet',
    sets: tableSets,
    chains: [...rawChains(vxlanPort), ...publishedChains, ...filterChains(vxlanPort), ...sourceChains],
  };
}
