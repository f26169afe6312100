import { addressKey, carrierKey } from '../../core/keys.js';
import type { Carrier } from '../../core/model.js';
import type { Txn } from '../../lib/etcd/txn.js';
import { decodeRecord, encodeRecord } from './record.js';

export async function getCarrier(txn: Txn, network: string, host: string): Promise<Carrier | undefined> {
  const kv = await txn.get(carrierKey(network, host));
  return kv === undefined ? undefined : decodeRecord<Carrier>(kv);
}

/** Puts a carrier with its claims on the host's own addresses. */
export function putCarrier(txn: Txn, carrier: Carrier, before: Carrier | undefined): void {
  if (before !== undefined) deleteClaims(txn, before);
  for (const address of carrier.addresses) txn.put(addressKey(carrier.network, address), hostHolder(carrier.host));
  txn.put(carrierKey(carrier.network, carrier.host), encodeRecord(carrier));
}

export function deleteCarrier(txn: Txn, carrier: Carrier): void {
  deleteClaims(txn, carrier);
  txn.delete(carrierKey(carrier.network, carrier.host));
}

/** How a host's claim on an address is written. */
export function hostHolder(host: string): string {
  return `host:${host}`;
}

function deleteClaims(txn: Txn, carrier: Carrier): void {
  for (const address of carrier.addresses) txn.delete(addressKey(carrier.network, address));
}
