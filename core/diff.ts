/** What takes one keyed set to another; each list in the order of the set it comes from. */
export interface KeyedDiff<T> {
  readonly add: readonly T[];
  readonly change: readonly { readonly from: T; readonly to: T }[];
  readonly remove: readonly T[];
}

/**
 * Compares two keyed sets. What is in both and not `isSame` is a change. Nothing is copied: the
 * values in the result are the ones handed in.
 */
export function diffKeyed<T>(
  current: ReadonlyMap<string, T>,
  desired: ReadonlyMap<string, T>,
  isSame: (a: T, b: T) => boolean,
): KeyedDiff<T> {
  const add: T[] = [];
  const change: { from: T; to: T }[] = [];
  const remove: T[] = [];
  for (const [key, to] of desired) {
    const from = current.get(key);
    if (from === undefined && !current.has(key)) add.push(to);
    else if (!isSame(from as T, to)) change.push({ from: from as T, to });
  }
  for (const [key, from] of current) {
    if (!desired.has(key)) remove.push(from);
  }
  return { add, change, remove };
}

/** Gathers values by key; of two with one key the later stands. */
export function keyBy<T>(values: Iterable<T>, keyOf: (value: T) => string): ReadonlyMap<string, T> {
  const map = new Map<string, T>();
  for (const value of values) map.set(keyOf(value), value);
  return map;
}

/** Reports whether two JSON values are the same, whatever the order of their properties. */
export function isSameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((value, index) => isSameJson(value, b[index]));
  }
  const left = Object.entries(a).filter(([, value]) => value !== undefined);
  const right = new Map(Object.entries(b).filter(([, value]) => value !== undefined));
  return (
    left.length === right.size && left.every(([key, value]) => right.has(key) && isSameJson(value, right.get(key)))
  );
}
