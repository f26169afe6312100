import type { EtcdClient } from './client.js';
import { transact } from './txn.js';

/**
 * The random text that tells one store from another: made by whoever comes first, kept for good.
 * Revisions are comparable only within one epoch.
 */
export async function ensureEpoch(client: EtcdClient, key: string, random: () => string): Promise<string> {
  const { result } = await transact(
    client,
    async (txn) => {
      const held = await txn.get(key);
      if (held !== undefined) return held.value.toString('utf8');
      const epoch = random();
      txn.put(key, epoch);
      return epoch;
    },
    { what: 'epoch of the store' },
  );
  return result;
}

/**
 * Gives a store that went back to an earlier state (a backup was restored) an epoch of its own, so that positions
 * in its lost future cannot be taken for positions in the new one. Whoever comes second changes nothing.
 */
export async function renewEpoch(
  client: EtcdClient,
  key: string,
  change: { readonly from: string; readonly to: string },
): Promise<void> {
  await transact(
    client,
    async (txn) => {
      if ((await txn.get(key))?.value.toString('utf8') === change.from) txn.put(key, change.to);
    },
    { what: 'epoch of the store' },
  );
}
