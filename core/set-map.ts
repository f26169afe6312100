/** Adds to the set that a key leads to. */
export function addTo<K, V>(table: Map<K, Set<V>>, key: K, value: V): void {
  const known = table.get(key);
  if (known === undefined) table.set(key, new Set([value]));
  else known.add(value);
}

/** Takes from the set that a key leads to; with the last value the key goes. */
export function dropFrom<K, V>(table: Map<K, Set<V>>, key: K, value: V): void {
  const known = table.get(key);
  known?.delete(value);
  if (known?.size === 0) table.delete(key);
}
