import { hostKey, livenessKey } from '../../core/keys.js';
import type { Host, RecordBase } from '../../core/model.js';
import type { Txn } from '../../lib/etcd/txn.js';
import { decodeRecord, encodeRecord } from './record.js';

/** That a host's agent lives; gone with its lease. */
export interface Liveness extends RecordBase {
  readonly host: string;
  /** Which agent, where two have one host name. */
  readonly instance: string;
}

export async function getHost(txn: Txn, host: string): Promise<Host | undefined> {
  const kv = await txn.get(hostKey(host));
  return kv === undefined ? undefined : decodeRecord<Host>(kv);
}

export function putHost(txn: Txn, host: Host): void {
  txn.put(hostKey(host.name), encodeRecord(host));
}

export function deleteHost(txn: Txn, host: string): void {
  txn.delete(hostKey(host));
  txn.delete(livenessKey(host));
}

export async function getLiveness(txn: Txn, host: string): Promise<Liveness | undefined> {
  const kv = await txn.get(livenessKey(host));
  return kv === undefined ? undefined : decodeRecord<Liveness>(kv);
}

/** Errors: EtcdFault with reason `lease-missing` at commit when the lease is gone. */
export function putLiveness(txn: Txn, liveness: Liveness, leaseId: string): void {
  txn.put(livenessKey(liveness.host), encodeRecord(liveness), leaseId);
}
