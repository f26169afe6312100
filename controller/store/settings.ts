import { settingsKey } from '../../core/keys.js';
import type { ClusterSettings } from '../../core/model.js';
import type { Txn } from '../../lib/etcd/txn.js';
import { decodeRecord, encodeRecord } from './record.js';

/**
 * Makes the settings of a new store, or brings those that a controller may change to what it was
 * started with. The VXLAN port stays: hosts in mid-change could not reach each other.
 */
export async function ensureSettings(
  txn: Txn,
  wanted: Omit<ClusterSettings, 'v' | 'generation'>,
): Promise<ClusterSettings> {
  const kv = await txn.get(settingsKey);
  const held = kv === undefined ? undefined : decodeRecord<ClusterSettings>(kv);
  const vxlanPort = held?.vxlanPort ?? wanted.vxlanPort;
  const isSame =
    held !== undefined &&
    held.livenessMs === wanted.livenessMs &&
    held.hostsManageNetworks === wanted.hostsManageNetworks;
  if (isSame) return held;
  const settings: ClusterSettings = {
    v: 1,
    generation: (held?.generation ?? 0) + 1,
    vxlanPort,
    livenessMs: wanted.livenessMs,
    hostsManageNetworks: wanted.hostsManageNetworks,
  };
  txn.put(settingsKey, encodeRecord(settings));
  return settings;
}
