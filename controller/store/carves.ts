import { carveAnswerKey, carveKey } from '../../core/keys.js';
import type { Carve, RecordBase } from '../../core/model.js';
import type { Txn } from '../../lib/etcd/txn.js';
import { decodeRecord, encodeRecord } from './record.js';

/** What an owner answered, for the controller that waits for it. */
export interface CarveReply extends RecordBase {
  readonly address: string | null;
  readonly holder: string | null;
}

export async function getCarve(txn: Txn, owner: string, id: string): Promise<Carve | undefined> {
  const kv = await txn.get(carveKey(owner, id));
  return kv === undefined ? undefined : decodeRecord<Carve>(kv);
}

/** The lease removes what a controller that died meanwhile leaves behind. */
export function putCarve(txn: Txn, carve: Carve, leaseId: string): void {
  txn.put(carveKey(carve.owner, carve.id), encodeRecord(carve), leaseId);
}

/** Puts an answer in the carve's place. */
export function putCarveReply(txn: Txn, carve: Carve, reply: CarveReply, leaseId: string): void {
  txn.delete(carveKey(carve.owner, carve.id));
  txn.put(carveAnswerKey(carve.owner, carve.id), encodeRecord(reply), leaseId);
}

export function deleteCarve(txn: Txn, owner: string, id: string): void {
  txn.delete(carveKey(owner, id));
  txn.delete(carveAnswerKey(owner, id));
}
