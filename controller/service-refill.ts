import { canonicalAddr, containsAddr, formatPrefix, parseAddr } from '../core/addr.js';
import { TsnetError } from '../core/errors.js';
import { blockContaining, newGrid, singleCidr, type Grid } from '../core/grid.js';
import { addressInUse } from '../core/ipam.js';
import { planRefill } from '../core/ipam-refill.js';
import type { Block, Network, Service } from '../core/model.js';
import { serviceOwner } from '../core/service/address.js';
import { parseService } from '../core/service/parse.js';
import type { Txn } from '../lib/etcd/txn.js';
import { requestBlock } from './blocks.js';
import { networkUnknown, type ControllerContext } from './context.js';
import { claimPublished } from './service-ports.js';
import { getBlock, getNextGeneration, loadBlocks, putBlockChange } from './store/blocks.js';
import { getAddressHolder } from './store/endpoints.js';
import { getNetwork } from './store/networks.js';
import { getService, putNewService, serviceHolder } from './store/services.js';

interface AddressPlace {
  readonly address: string;
  readonly grid: Grid;
  readonly subnet: string;
  /** The block of the grid that it lies in, and the address as one of its own. */
  readonly whole: string;
  readonly single: string;
}

/**
 * Takes a service out of a host's cache into a store that has lost it, as it was: with its addresses, and who drains. One
 * that the store knows stays as it is.
 * Errors: ERR_FORBIDDEN where hosts may not manage networks; ERR_NETWORK_UNKNOWN, ERR_ADDRESS_IN_USE,
 * ERR_ADDRESS_HELD_ELSEWHERE, ERR_PORT_IN_USE and those of `parseService`.
 */
export async function refillService(
  context: ControllerContext,
  txn: Txn,
  asked: { readonly service: Service; readonly mayManage: boolean },
): Promise<void> {
  const { service, mayManage } = asked;
  if ((await getService(txn, service.network, service.name)) !== undefined) return;
  if (!mayManage) throw new TsnetError('ERR_FORBIDDEN', `service: hosts may not bring back service "${service.name}"`);
  const network = await getNetwork(txn, service.network);
  if (network === undefined) throw networkUnknown(service.network);
  const definition = parseService({ ...service, network: network.name }, network);
  const places = placesOf(network, service);
  await claimPublished(context, txn, definition);
  await loadBlocks(
    txn,
    places.flatMap(({ whole, single }) => [whole, single].map((cidr) => ({ network: network.id, cidr }))),
  );
  for (const place of places) await takeAddress(txn, { network, service, place });
  putNewService(txn, { ...service, addresses: places.map(({ address }) => address) });
}

/**
 * Asks hosts that have been given the block of a lost service's address since then for that address. What they do not
 * give is refused afterwards by `refillService`.
 */
export async function claimServiceAddresses(context: ControllerContext, services: readonly Service[]): Promise<void> {
  const { tables } = context.mirror;
  for (const service of services) {
    const network = tables.network.get('', service.network)?.value;
    if (network === undefined || tables.service.get(service.network, service.name) !== undefined) continue;
    try {
      for (const place of placesOf(network, service)) await claim(context, network, place);
    } catch (error) {
      context.log.warn({ service: service.name, error: String(error) }, 'address of a lost service not got back');
    }
  }
}

async function claim(
  context: ControllerContext,
  { id }: Network,
  { address, subnet, whole, single }: AddressPlace,
): Promise<void> {
  const { block } = context.mirror.tables;
  if (block.get(id, single) !== undefined || !isOfHost(block.get(id, whole)?.value, address)) return;
  await requestBlock(context, serviceOwner, { network: id, subnet, address });
}

const isOfHost = (block: Block | undefined, address: string): boolean =>
  block !== undefined && block.host !== null && block.host !== serviceOwner && !block.carved.includes(address);

function placesOf(network: Network, { addresses }: Service): AddressPlace[] {
  const subnets = network.subnets.map((subnet) => ({ grid: newGrid(subnet), subnet: subnet.subnet }));
  return addresses.map((text) => {
    const address = canonicalAddr(text, 'addresses');
    const addr = parseAddr(address);
    const found = subnets.find(({ grid }) => containsAddr(grid.prefix, addr));
    if (found !== undefined)
      return {
        ...found,
        address,
        whole: formatPrefix(blockContaining(found.grid.prefix, addr)),
        single: singleCidr(addr),
      };
    throw new TsnetError(
      'ERR_ADDRESS_OUTSIDE_SUBNET',
      `addresses: ${address} lies in no subnet of network "${network.name}"`,
      { details: { field: 'addresses', value: address } },
    );
  });
}

/**
 * Claims one address. Whose block it lay in is not known any more: the address alone is taken, so that the host that has
 * the block according to its journal can come after.
 */
async function takeAddress(
  txn: Txn,
  asked: { readonly network: Network; readonly service: Service; readonly place: AddressPlace },
): Promise<void> {
  const { network, service, place } = asked;
  const { address, grid, whole, single } = place;
  const holder = await getAddressHolder(txn, network.id, address);
  if (holder !== undefined && holder !== serviceHolder(service)) throw addressInUse(network, address, holder);
  const block = await getBlock(txn, network.id, whole);
  const own = whole === single ? undefined : await getBlock(txn, network.id, single);
  if (own?.host === serviceOwner) return;
  if (block?.host === serviceOwner && !block.carved.includes(address)) return;
  const other = own?.host ?? (isOfHost(block, address) ? block?.host : null) ?? null;
  if (other !== null)
    throw new TsnetError(
      'ERR_ADDRESS_HELD_ELSEWHERE',
      `addresses: ${address} of service "${service.name}" lies with host ${other} by now`,
      { details: { field: 'addresses', value: address, holder: other } },
    );
  const known = await getNextGeneration(txn, network.id);
  const nextGeneration = Math.max(known, (block?.generation ?? 0) + 1, (own?.generation ?? 0) + 1);
  const published: Block = {
    v: 1,
    generation: nextGeneration,
    network: network.id,
    cidr: single,
    host: serviceOwner,
    carved: [],
  };
  const blocks = [block, own].filter((each) => each !== undefined);
  const change = planRefill({ network, nextGeneration, blocks, grids: [grid], host: serviceOwner, published });
  putBlockChange(txn, network.id, change);
}
