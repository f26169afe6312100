import type { Carrier, Endpoint, RecordBase } from '../core/model.js';
import { parseKey } from '../core/keys.js';
import type { KeyValue } from '../lib/etcd/client.js';
import { carrierClaims, hostHolder } from './store/carriers.js';
import { endpointClaims } from './store/endpoints.js';
import { encodeRecord } from './store/record.js';
import { placeOf, type Table, type Tables } from './tables.js';

/** A record that stands in the store with claims, which are written whenever it is: they have its revision. */
export interface Claimant {
  readonly modRevision: number;
  /** What its claims say. */
  readonly holder: string;
  /** Keys of its claims. */
  readonly claims: readonly string[];
}

/**
 * A key as the store has it in all likelihood, told from the mirror: what a transaction would read with a call of its own.
 * Claims are not mirrored. One that is not among the claimant's is taken to be nobody's.
 */
export function expected(tables: Tables, text: string, claimant: Claimant | undefined): KeyValue | undefined {
  if (claimant?.claims.includes(text) === true) return keyValue(text, claimant.holder, claimant.modRevision);
  const key = parseKey(text);
  const place = key === undefined ? undefined : placeOf(key);
  if (place === undefined) return undefined;
  const table = tables[place.kind] as Table<RecordBase>;
  const stored = table.get(place.group, place.id);
  return stored === undefined ? undefined : keyValue(text, encodeRecord(stored.value), stored.modRevision);
}

/** An endpoint's record of before, where there is one. */
export function endpointClaimant(tables: Tables, { network, id }: Endpoint): Claimant | undefined {
  const stored = tables.endpoint.get(network, id);
  return stored && { modRevision: stored.modRevision, holder: id, claims: endpointClaims(stored.value) };
}

/** A carrier's record of before, where there is one. */
export function carrierClaimant(tables: Tables, { network, host }: Carrier): Claimant | undefined {
  const stored = tables.carrier.get(network, host);
  return stored && { modRevision: stored.modRevision, holder: hostHolder(host), claims: carrierClaims(stored.value) };
}

function keyValue(key: string, value: string, modRevision: number): KeyValue {
  return { key, value: Buffer.from(value), modRevision, createRevision: 0, lease: '0' };
}
