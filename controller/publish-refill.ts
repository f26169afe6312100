import { canonicalPrefix, overlaps, parsePrefix } from '../core/addr.js';
import { TsnetError } from '../core/errors.js';
import { newGrid } from '../core/grid.js';
import { planRefill } from '../core/ipam-refill.js';
import type { Block, Network } from '../core/model.js';
import { parseNetworkName } from '../core/name.js';
import { isVni } from '../core/vni.js';
import type { Txn } from '../lib/etcd/txn.js';
import { networkUnknown } from './context.js';
import { requireHost } from './hosts.js';
import { getNextGeneration, listBlocks, putBlockChange } from './store/blocks.js';
import {
  getNetwork,
  isRemoved,
  listNetworks,
  loadNetworkKeys,
  putNewNetwork,
  touchSubnetsGuard,
} from './store/networks.js';

/**
 * Takes a network out of a host's journal into a store that has lost it. One that the store knows stays as it is.
 * Errors: ERR_FORBIDDEN where hosts may not manage networks; ERR_NETWORK_UNKNOWN for one that was removed;
 * ERR_NETWORK_NAME_IN_USE, ERR_SUBNET_OVERLAP, ERR_INVALID_REQUEST.
 */
export async function refillNetwork(txn: Txn, network: Network, mayManage: boolean): Promise<void> {
  if ((await getNetwork(txn, network.id)) !== undefined) return;
  if (!mayManage) throw new TsnetError('ERR_FORBIDDEN', `network: hosts may not bring back network "${network.name}"`);
  if (await isRemoved(txn, network.id)) throw networkUnknown(network.name);
  parseNetworkName(network.name);
  checkVni(network);
  await touchSubnetsGuard(txn);
  const held = await loadNetworkKeys(txn, network);
  if (held.name !== undefined) {
    throw new TsnetError(
      'ERR_NETWORK_NAME_IN_USE',
      `name: "${network.name}" is the name of network ${held.name}, not of ${network.id}`,
      {
        details: { field: 'name', value: network.name },
      },
    );
  }
  if (held.vni !== undefined) {
    throw new TsnetError('ERR_VNI_CONFLICT', `vni: ${String(network.vni)} is that of network ${held.vni}`, {
      details: { field: 'vni', value: network.vni ?? 0 },
    });
  }
  for (const other of await listNetworks(txn)) refuseOverlap(network, other);
  putNewNetwork(txn, network);
}

/** Takes a block out of a host's journal. Errors: ERR_NETWORK_UNKNOWN, ERR_HOST_UNKNOWN, and those of `planRefill`. */
export async function refillBlock(txn: Txn, host: string, block: Block): Promise<void> {
  await requireHost(txn, host);
  const network = await getNetwork(txn, block.network);
  if (network === undefined) throw networkUnknown(block.network);
  const state = {
    network,
    nextGeneration: await getNextGeneration(txn, network.id),
    blocks: await listBlocks(txn, network.id),
  };
  const published = { ...block, cidr: canonicalPrefix(block.cidr, 'cidr') };
  const change = planRefill({ ...state, grids: network.subnets.map(newGrid), host, published });
  if (change.put.length + change.remove.length > 0) putBlockChange(txn, network.id, change);
}

function checkVni(network: Network): void {
  const isRight = network.driver === 'overlay' ? network.vni !== null && isVni(network.vni) : network.vni === null;
  if (!isRight)
    throw new TsnetError('ERR_INVALID_REQUEST', `vni: ${String(network.vni)} is none for driver ${network.driver}`);
}

function refuseOverlap(network: Network, other: Network): void {
  for (const { subnet } of network.subnets) {
    const taken = other.subnets.find((one) => overlaps(parsePrefix(one.subnet), parsePrefix(subnet)));
    if (taken === undefined) continue;
    throw new TsnetError(
      'ERR_SUBNET_OVERLAP',
      `subnet: ${subnet} overlaps ${taken.subnet} of network "${other.name}"`,
      {
        details: { field: 'subnet', value: subnet, other: taken.subnet },
      },
    );
  }
}
