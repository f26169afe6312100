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
