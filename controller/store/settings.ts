import { settingsKey } from '../../core/keys.js';
import type { ClusterSettings } from '../../core/model.js';
import type { Txn } from '../../lib/etcd/txn.js';
import type { GuardedPlaces } from './controllers.js';
import { decodeRecord, encodeRecord } from './record.js';

/**
 * Makes the settings of a new store, or brings those that a controller may change to what it was
 * started with. The VXLAN port stays: hosts in mid-change could not reach each other. Guarded places are added to: each
 * controller knows its own, and one that is down is guarded all the same.
 */
export async function ensureSettings(
  txn: Txn,
  wanted: Omit<ClusterSettings, 'v' | 'generation'>,
): Promise<ClusterSettings> {
  const kv = await txn.get(settingsKey);
  const held = kv === undefined ? undefined : decodeRecord<ClusterSettings>(kv);
  const vxlanPort = held?.vxlanPort ?? wanted.vxlanPort;
  const guarded = merged(held?.guarded ?? [], wanted.guarded ?? []);
  const isSame =
    held !== undefined &&
    held.livenessMs === wanted.livenessMs &&
    held.hostsManageNetworks === wanted.hostsManageNetworks &&
    guarded.length === (held.guarded ?? []).length;
  if (isSame) return held;
  const settings: ClusterSettings = {
    v: 1,
    generation: (held?.generation ?? 0) + 1,
    vxlanPort,
    livenessMs: wanted.livenessMs,
    hostsManageNetworks: wanted.hostsManageNetworks,
    ...(guarded.length === 0 ? {} : { guarded }),
  };
  txn.put(settingsKey, encodeRecord(settings));
  return settings;
}

/** Takes guarded places away. */
export async function removeGuarded(txn: Txn, gone: GuardedPlaces): Promise<void> {
  const kv = await txn.get(settingsKey);
  if (kv === undefined) return;
  const { guarded: before = [], ...held } = decodeRecord<ClusterSettings>(kv);
  const guarded = placesWithout(before, gone);
  if (guarded.length === before.length) return;
  const settings = { ...held, generation: held.generation + 1, ...(guarded.length === 0 ? {} : { guarded }) };
  txn.put(settingsKey, encodeRecord(settings));
}

/** Beyond so many the oldest go. */
const maxGuarded = 256;

function merged(held: GuardedPlaces, own: GuardedPlaces): GuardedPlaces {
  const fresh = placesWithout(own, held).filter(
    (place, at, all) => all.findIndex((other) => isSamePlace(other, place)) === at,
  );
  return [...held, ...fresh].slice(-maxGuarded);
}

type Place = GuardedPlaces[number];

function isSamePlace(a: Place, b: Place): boolean {
  return a.address === b.address && a.port === b.port;
}

/** Places that are not among others. */
export function placesWithout(places: GuardedPlaces, others: GuardedPlaces): GuardedPlaces {
  return places.filter((place) => !others.some((other) => isSamePlace(other, place)));
}
