import { TsnetError } from '../core/errors.js';
import type { Block, Network } from '../core/model.js';
import { nextAddress, serviceBlocks, serviceOwner, type ServicePlace } from '../core/service/address.js';
import { requestBlock } from './blocks.js';
import type { ControllerContext } from './context.js';

/** An address for a service, and the block that it lies in. */
export interface ChosenAddress {
  readonly place: ServicePlace;
  readonly address: string;
  readonly block: Block;
}

/** Who holds an address, as the store has it, for people. */
export function holderText(holder: string): string {
  const [kind, name] = holder.split(':');
  if (name === undefined) return `endpoint ${holder}`;
  return kind === 'host' ? `host ${name} itself` : `service ${name}`;
}

/**
 * A free address for a service, or the one asked for, in a block of the services.
 * Errors: ERR_ADDRESS_EXHAUSTED and those of `requestBlock`.
 */
export async function chooseAddress(
  context: ControllerContext,
  wanted: { readonly network: Network; readonly place: ServicePlace; readonly refused: ReadonlySet<string> },
): Promise<ChosenAddress> {
  const { network, place, refused } = wanted;
  const { grid, subnet, address } = place;
  const { tables } = context.mirror;
  const request = { network: network.id, subnet };
  if (address !== undefined) {
    const { block } = await requestBlock(context, serviceOwner, { ...request, address });
    return { place, address, block };
  }
  const isV6 = grid.prefix.family === 6;
  const services = [...tables.service.group(network.id).values()].map(({ value }) => value);
  const ofFamily = services.flatMap(({ addresses, createdAt }) =>
    addresses.filter((one) => one.includes(':') === isV6).map((one) => ({ one, createdAt })),
  );
  const newest = ofFamily.reduce((a, b) => (b.createdAt >= a.createdAt ? b : a), { one: '', createdAt: '' }).one;
  const after = newest === '' ? undefined : newest;
  const taken = new Set(ofFamily.map(({ one }) => one));
  const isTaken = (one: string): boolean => taken.has(one) || refused.has(one);
  const blocks = [...tables.block.group(network.id).values()].map(({ value }) => value);
  for (const block of serviceBlocks(grid, blocks, after)) {
    const free = nextAddress(grid, block, isTaken, after);
    if (free !== null) return { place, address: free, block };
  }
  const { block } = await requestBlock(context, serviceOwner, request);
  const free = nextAddress(grid, block, isTaken);
  if (free !== null) return { place, address: free, block };
  throw new TsnetError('ERR_ADDRESS_EXHAUSTED', `subnet ${subnet} of network "${network.name}" has no address left`, {
    details: { network: network.name, subnet },
  });
}
