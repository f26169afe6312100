import {
  addressesPrefix,
  blocksGuardKey,
  blocksPrefix,
  carriersPrefix,
  endpointsPrefix,
  macsPrefix,
  nameKey,
  networkKey,
  networksPrefix,
  removedKey,
  servicesPrefix,
  subnetsGuardKey,
  vniKey,
} from '../../core/keys.js';
import type { Network } from '../../core/model.js';
import type { Txn } from '../../lib/etcd/txn.js';
import { decodeRecord, encodeRecord, type Guard } from './record.js';

export async function getNetwork(txn: Txn, id: string): Promise<Network | undefined> {
  const kv = await txn.get(networkKey(id));
  return kv === undefined ? undefined : decodeRecord<Network>(kv);
}

/** The id behind a name. */
export async function getNetworkIdByName(txn: Txn, name: string): Promise<string | undefined> {
  return (await txn.get(nameKey(name)))?.value.toString('utf8');
}

/** Every network; a commit does not depend on it unless the subnets guard is touched too. */
export async function listNetworks(txn: Txn): Promise<readonly Network[]> {
  return (await txn.list(networksPrefix)).map((kv) => decodeRecord<Network>(kv));
}

/** Makes this transaction exclude every other one that adds or removes subnets or VNIs. */
export async function touchSubnetsGuard(txn: Txn): Promise<void> {
  const kv = await txn.get(subnetsGuardKey);
  const generation = kv === undefined ? 0 : decodeRecord<Guard>(kv).generation;
  txn.put(subnetsGuardKey, encodeRecord({ v: 1, generation: generation + 1 }));
}

/** Whether a network may be put under its name and VNI: nobody else is there. */
export async function loadNetworkKeys(
  txn: Txn,
  network: Pick<Network, 'id' | 'name' | 'vni'>,
): Promise<{ readonly name?: string; readonly vni?: string }> {
  const keys = [nameKey(network.name), ...(network.vni === null ? [] : [vniKey(network.vni)])];
  await txn.load(keys);
  const name = (await txn.get(nameKey(network.name)))?.value.toString('utf8');
  const vni = network.vni === null ? undefined : (await txn.get(vniKey(network.vni)))?.value.toString('utf8');
  return { ...(name === undefined ? {} : { name }), ...(vni === undefined ? {} : { vni }) };
}

export function putNewNetwork(txn: Txn, network: Network): void {
  putNetwork(txn, network);
  txn.put(nameKey(network.name), network.id);
  if (network.vni !== null) txn.put(vniKey(network.vni), network.id);
}

export function putNetwork(txn: Txn, network: Network): void {
  txn.put(networkKey(network.id), encodeRecord(network));
}

/** Removes a network with all that hangs on it; the commit fails when an endpoint has come meanwhile. */
export function deleteNetwork(txn: Txn, network: Network, tombstoneLease: string): void {
  txn.delete(networkKey(network.id));
  txn.delete(nameKey(network.name));
  if (network.vni !== null) txn.delete(vniKey(network.vni));
  txn.delete(blocksGuardKey(network.id));
  txn.expectEmpty(endpointsPrefix(network.id));
  txn.expectEmpty(servicesPrefix(network.id));
  for (const prefix of [blocksPrefix, carriersPrefix, addressesPrefix, macsPrefix])
    txn.deletePrefix(prefix(network.id));
  txn.put(
    removedKey(network.id),
    JSON.stringify({ v: 1, generation: network.generation + 1, name: network.name }),
    tombstoneLease,
  );
}

/** Whether a network of this id was removed not long ago. */
export async function isRemoved(txn: Txn, id: string): Promise<boolean> {
  return (await txn.get(removedKey(id))) !== undefined;
}
