import { controllerKey, controllersPrefix, placesGuardKey } from '../../core/keys.js';
import type { ClusterSettings, RecordBase } from '../../core/model.js';
import type { Txn } from '../../lib/etcd/txn.js';
import { decodeRecord, encodeRecord, type Guard } from './record.js';

export type GuardedPlaces = NonNullable<ClusterSettings['guarded']>;

/** Where a controller listens, and its store. */
export interface ControllerPlaces extends RecordBase {
  readonly id: string;
  readonly places: GuardedPlaces;
}

/** Makes transactions that read or write places of controllers exclude each other. */
export async function guardPlaces(txn: Txn): Promise<void> {
  const kv = await txn.get(placesGuardKey);
  const generation = kv === undefined ? 1 : decodeRecord<Guard>(kv).generation + 1;
  txn.put(placesGuardKey, encodeRecord({ v: 1, generation }));
}

/** Only together with `guardPlaces`. */
export async function listControllerPlaces(txn: Txn): Promise<ControllerPlaces[]> {
  return (await txn.list(controllersPrefix)).map((kv) => decodeRecord<ControllerPlaces>(kv));
}

/** Errors: EtcdFault with reason `lease-missing` at commit when the lease is gone. */
export function putControllerPlaces(txn: Txn, own: Omit<ControllerPlaces, 'v' | 'generation'>, leaseId: string): void {
  txn.put(controllerKey(own.id), encodeRecord({ v: 1, generation: 1, ...own } as ControllerPlaces), leaseId);
}
