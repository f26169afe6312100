import { settingsKey } from '../../core/keys.js';
import type { ClusterSettings } from '../../core/model.js';
import type { Txn } from '../../lib/etcd/txn.js';
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

type Places = NonNullable<ClusterSettings['guarded']>;

/** Beyond so many the oldest go. */
const maxGuarded = 256;

function merged(held: Places, own: Places): Places {
  const fresh = own.filter((place, at) => {
    const isSame = (other: Places[number]): boolean => other.address === place.address && other.port === place.port;
    return !held.some(isSame) && own.findIndex(isSame) === at;
  });
  return [...held, ...fresh].slice(-maxGuarded);
}
