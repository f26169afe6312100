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
  for (const key of carrierClaims(carrier)) txn.put(key, hostHolder(carrier.host));
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
  for (const key of carrierClaims(carrier)) txn.delete(key);
}

/** The keys that say what addresses a host has in a network; their value is `hostHolder`'s. */
export function carrierClaims({ network, addresses }: Carrier): string[] {
  return addresses.map((address) => addressKey(network, address));
}
