import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { EntryKind } from '../../core/api/watch.js';
import { policySchema } from '../../core/schema/policy-record.js';
import {
  blockSchema,
  carrierSchema,
  carveSchema,
  clusterSettingsSchema,
  cursorSchema,
  endpointSchema,
  networkSchema,
} from '../../core/schema/record.js';
import { serviceSchema } from '../../core/schema/service-record.js';

/**
 * Checks of records that came over the wire or from the cache file. Properties that this version does not know are
 * let through: a newer controller may have added some.
 */
const checks: Readonly<Record<EntryKind | 'cursor', (value: unknown) => boolean>> = {
  network: newCheck(networkSchema),
  carrier: newCheck(carrierSchema),
  endpoint: newCheck(endpointSchema),
  block: newCheck(blockSchema),
  carve: newCheck(carveSchema),
  settings: newCheck(clusterSettingsSchema),
  policy: newCheck(policySchema),
  service: newCheck(serviceSchema),
  cursor: newCheck(cursorSchema),
};

function newCheck(schema: TSchema): (value: unknown) => boolean {
  const open = JSON.parse(JSON.stringify(schema), dropClosed) as TSchema;
  const validator = Compile(open);
  return (value) => validator.Check(value);
}

function dropClosed(key: string, value: unknown): unknown {
  return key === 'additionalProperties' && value === false ? undefined : value;
}

/** Reports whether a value is a record of this kind. */
export function isRecordOf(kind: string, value: unknown): boolean {
  return Object.hasOwn(checks, kind) && checks[kind as keyof typeof checks](value);
}
