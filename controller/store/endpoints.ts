import { addressKey, endpointKey, endpointsPrefix, macKey } from '../../core/keys.js';
import type { Endpoint } from '../../core/model.js';
import type { Txn } from '../../lib/etcd/txn.js';
import { decodeRecord, encodeRecord } from './record.js';

export async function getEndpoint(txn: Txn, network: string, id: string): Promise<Endpoint | undefined> {
  const kv = await txn.get(endpointKey(network, id));
  return kv === undefined ? undefined : decodeRecord<Endpoint>(kv);
}

/** Every endpoint of a network; a commit does not depend on it. */
export async function listEndpoints(txn: Txn, network: string): Promise<readonly Endpoint[]> {
  return (await txn.list(endpointsPrefix(network))).map((kv) => decodeRecord<Endpoint>(kv));
}

/** Who holds an address: an endpoint's id, or `host:NAME` for a host's own address. */
export async function getAddressHolder(txn: Txn, network: string, address: string): Promise<string | undefined> {
  return (await txn.get(addressKey(network, address)))?.value.toString('utf8');
}

/** The endpoint that holds a MAC. */
export async function getMacHolder(txn: Txn, network: string, mac: string): Promise<string | undefined> {
  return (await txn.get(macKey(network, mac)))?.value.toString('utf8');
}

/** Puts an endpoint with its claims on addresses and MAC, and drops claims of its former record. */
export function putEndpoint(txn: Txn, endpoint: Endpoint, before: Endpoint | undefined): void {
  if (before !== undefined) deleteClaims(txn, before);
  for (const key of endpointClaims(endpoint)) txn.put(key, endpoint.id);
  txn.put(endpointKey(endpoint.network, endpoint.id), encodeRecord(endpoint));
}

export function deleteEndpoint(txn: Txn, endpoint: Endpoint): void {
  deleteClaims(txn, endpoint);
  txn.delete(endpointKey(endpoint.network, endpoint.id));
}

function deleteClaims(txn: Txn, endpoint: Endpoint): void {
  for (const key of endpointClaims(endpoint)) txn.delete(key);
}

/** The keys that say what an endpoint holds; their value is its id. */
export function endpointClaims({ network, addresses, mac }: Endpoint): string[] {
  return [...addresses.map((address) => addressKey(network, address)), macKey(network, mac)];
}
