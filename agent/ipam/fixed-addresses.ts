import { containsAddr, formatAddr, parseAddr } from '../../core/addr.js';
import { TsnetError } from '../../core/errors.js';
import { parseFixedAddr } from '../../core/ipam.js';
import type { Network } from '../../core/model.js';
import type { SubnetPool } from './pools.js';

/**
 * Which of the addresses asked for stands for which subnet.
 * Errors: ERR_ADDRESS_OUTSIDE_SUBNET, ERR_ADDRESS_RESERVED, ERR_INVALID_ADDRESS, ERR_INVALID_REQUEST (two for one subnet).
 */
export function matchFixed(
  network: Network,
  pools: readonly SubnetPool[],
  fixed: readonly string[],
): ReadonlyMap<SubnetPool, string> {
  const wanted = new Map<SubnetPool, string>();
  for (const text of fixed) {
    const addr = parseAddr(text);
    const pool = pools.find(({ grid }) => containsAddr(grid.prefix, addr));
    if (pool === undefined) {
      const subnets = pools.map(({ subnet }) => subnet);
      throw new TsnetError(
        'ERR_ADDRESS_OUTSIDE_SUBNET',
        `address: ${formatAddr(addr)} lies outside the subnets of network ${JSON.stringify(network.name)}: ${subnets.join(', ')}`,
        {
          details: { field: 'address', value: formatAddr(addr), network: network.name, subnets },
        },
      );
    }
    if (wanted.has(pool)) {
      throw new TsnetError(
        'ERR_INVALID_REQUEST',
        `addresses: ${formatAddr(addr)} is the second one of subnet ${pool.subnet}`,
        {
          details: { field: 'addresses', value: formatAddr(addr), subnet: pool.subnet },
        },
      );
    }
    wanted.set(pool, formatAddr(parseFixedAddr(pool.grid, text)));
  }
  return wanted;
}
