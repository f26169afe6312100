import { tokenKey, tokenPrefix } from '../../core/keys.js';
import type { Txn } from '../../lib/etcd/txn.js';

export type TokenRole = 'admin' | 'host';

/** Makes a token known to every controller of the store, by its hash. */
export async function ensureToken(txn: Txn, role: TokenRole, hash: string): Promise<void> {
  const key = tokenKey(role, hash);
  if ((await txn.get(key)) === undefined) txn.put(key, JSON.stringify({ v: 1, generation: 1 }));
}

/** The role of a token that is one host's alone. */
export function ownRole(host: string): `host:${string}` {
  return `host:${host}`;
}

/** The host whose own tokens have this role; undefined for other roles. */
export function hostOfRole(role: string): string | undefined {
  return role.startsWith('host:') ? role.slice('host:'.length) : undefined;
}

/** Makes a token known as a host's own, in place of the one that it had. */
export async function putHostToken(txn: Txn, host: string, hash: string): Promise<void> {
  await deleteHostTokens(txn, host);
  txn.put(tokenKey(ownRole(host), hash), JSON.stringify({ v: 1, generation: 1 }));
}

export async function deleteHostTokens(txn: Txn, host: string): Promise<void> {
  for (const { key } of await txn.list(tokenPrefix(ownRole(host)))) txn.delete(key.toString());
}
