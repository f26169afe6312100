import { tokenKey } from '../../core/keys.js';
import type { Txn } from '../../lib/etcd/txn.js';

export type TokenRole = 'admin' | 'host';

/** Makes a token known to every controller of the store, by its hash. */
export async function ensureToken(txn: Txn, role: TokenRole, hash: string): Promise<void> {
  const key = tokenKey(role, hash);
  if ((await txn.get(key)) === undefined) txn.put(key, JSON.stringify({ v: 1, generation: 1 }));
}
