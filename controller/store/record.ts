import { TsnetError } from '../../core/errors.js';
import type { RecordBase } from '../../core/model.js';
import type { KeyValue } from '../../lib/etcd/client.js';

/** Reads a record's value. Errors: ERR_STORE_CORRUPT naming the key. */
export function decodeRecord<T extends RecordBase>(kv: KeyValue): T {
  let value: unknown;
  try {
    value = JSON.parse(kv.value.toString('utf8'));
  } catch (error) {
    throw new TsnetError('ERR_STORE_CORRUPT', `the value of ${kv.key} is not JSON`, { cause: error });
  }
  if (typeof value !== 'object' || value === null)
    throw new TsnetError('ERR_STORE_CORRUPT', `the value of ${kv.key} is not an object`);
  const record = value as Partial<RecordBase>;
  if (record.v !== 1)
    throw new TsnetError('ERR_STORE_CORRUPT', `${kv.key} has schema version ${String(record.v)}; this tsnet knows 1`);
  if (!Number.isSafeInteger(record.generation)) {
    throw new TsnetError('ERR_STORE_CORRUPT', `${kv.key} has no generation`);
  }
  return value as T;
}

export function encodeRecord(value: RecordBase): string {
  return JSON.stringify(value);
}

/** A counter whose only use is to make transactions that share a rule exclude each other. */
export interface Guard extends RecordBase {
  readonly v: 1;
}
