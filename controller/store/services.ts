import { addressKey, publishedGuardKey, serviceKey, servicesPrefix } from '../../core/keys.js';
import type { Service } from '../../core/model.js';
import type { Txn } from '../../lib/etcd/txn.js';
import { decodeRecord, encodeRecord, type Guard } from './record.js';

export async function getService(txn: Txn, network: string, name: string): Promise<Service | undefined> {
  const kv = await txn.get(serviceKey(network, name));
  return kv === undefined ? undefined : decodeRecord<Service>(kv);
}

/** Every service of a network; a commit does not depend on it. */
export async function listServices(txn: Txn, network: string): Promise<readonly Service[]> {
  return (await txn.list(servicesPrefix(network))).map((kv) => decodeRecord<Service>(kv));
}

export function putService(txn: Txn, service: Service): void {
  txn.put(serviceKey(service.network, service.name), encodeRecord(service));
}

/**
 * Makes this transaction exclude every other one that publishes ports for a service. The revision at which the last one
 * did; 0: there is none before.
 */
export async function putPublishedGuard(txn: Txn): Promise<number> {
  const kv = await txn.get(publishedGuardKey);
  const generation = kv === undefined ? 0 : decodeRecord<Guard>(kv).generation;
  txn.put(publishedGuardKey, encodeRecord({ v: 1, generation: generation + 1 }));
  return kv?.modRevision ?? 0;
}

/** Stands for a service where it holds an address. */
export function serviceHolder({ name }: Pick<Service, 'name'>): string {
  return `service:${name}`;
}

/** Puts a service with its claims on addresses. */
export function putNewService(txn: Txn, service: Service): void {
  for (const address of service.addresses) txn.put(addressKey(service.network, address), serviceHolder(service));
  putService(txn, service);
}

export function deleteService(txn: Txn, service: Service): void {
  for (const address of service.addresses) txn.delete(addressKey(service.network, address));
  txn.delete(serviceKey(service.network, service.name));
}
