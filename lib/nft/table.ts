/**
 * An nftables table as a value, and its text. Text is what `nft -f` reads: libnftables 1.0.6 takes no map to an
 * address with a port as JSON, and ends the process on one form of it.
 */

export type NftFamily = 'inet' | 'ip' | 'ip6' | 'bridge' | 'netdev';

/** A set, or, with `value`, a map. */
export interface NftSet {
  readonly name: string;
  /** Types of the key's parts: `['inet_proto', 'inet_service']`. */
  readonly key: readonly string[];
  /** Said to nft instead of `key`: expressions that have these types, for parts of packets whose types have no names. */
  readonly keyOf?: readonly string[];
  /** Types of the value's parts. */
  readonly value?: readonly string[];
  /** For a map with `keyOf`: expressions that have the types of its value. */
  readonly valueTypeOf?: readonly string[];
  /** Keys may be ranges and prefixes. */
  readonly interval?: boolean;
}

/** Where a chain is called by the kernel. */
export interface NftHook {
  readonly type: 'filter' | 'nat' | 'route';
  readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'ingress';
  readonly priority: number;
  readonly policy?: 'accept' | 'drop';
}

export interface NftChain {
  readonly name: string;
  /** Absent: the chain is jumped to. */
  readonly hook?: NftHook;
  /** Each in nft's syntax, one line. */
  readonly rules: readonly string[];
}

export interface NftTable {
  readonly family: NftFamily;
  readonly name: string;
  readonly sets: readonly NftSet[];
  readonly chains: readonly NftChain[];
}

/** An element of a set or map, its parts as text: `{ set: 'any4', key: 'tcp . 80', value: '10.64.0.10 . 8080' }`. */
export interface NftElement {
  readonly set: string;
  readonly key: string;
  readonly value?: string;
}

/** Names an identifier may have, so that none can end a statement. */
const identifier = /^[A-Za-z_][A-Za-z0-9_./-]{0,127}$/;
const elementText = /^[A-Za-z0-9_."/: -]{1,256}$/;

function checked(text: string, pattern: RegExp): string {
  if (pattern.test(text)) return text;
  throw new RangeError(`nft: ${JSON.stringify(text.slice(0, 64))} cannot be written`);
}

/** Names a table in a statement. */
export function formatTableName(table: Pick<NftTable, 'family' | 'name'>): string {
  return `${table.family} ${checked(table.name, identifier)}`;
}

/** Joins the parts of a key or value. */
export function formatParts(parts: readonly (string | number)[]): string {
  return parts.join(' . ');
}

/** Writes an element as it stands inside the braces. Errors: RangeError for text that is no element. */
export function formatElement(element: NftElement): string {
  const key = checked(element.key, elementText);
  return element.value === undefined ? key : `${key} : ${checked(element.value, elementText)}`;
}

function formatSet(set: NftSet): string {
  const { name, key, keyOf, value, valueTypeOf, interval } = set;
  if (keyOf !== undefined && valueTypeOf !== undefined)
    return `map ${checked(name, identifier)} { typeof ${formatParts(keyOf)} : ${formatParts(valueTypeOf)}; }`;
  if (keyOf !== undefined) return `set ${checked(name, identifier)} { typeof ${formatParts(keyOf)}; }`;
  const type = value === undefined ? key.join(' . ') : `${key.join(' . ')} : ${value.join(' . ')}`;
  const flags = interval === true ? ' flags interval;' : '';
  return `${value === undefined ? 'set' : 'map'} ${checked(name, identifier)} { type ${type};${flags} }`;
}

function* chainLines(chain: NftChain): Iterable<string> {
  const { name, hook, rules } = chain;
  yield `chain ${checked(name, identifier)} {`;
  if (hook !== undefined) {
    yield `  type ${hook.type} hook ${hook.hook} priority ${hook.priority}; policy ${hook.policy ?? 'accept'};`;
  }
  for (const rule of rules) {
    if (/[\n;{}]/.test(rule.replaceAll(/\{ [^;{}\n]* \}/g, ''))) throw new RangeError(`nft: not one rule: ${rule}`);
    yield `  ${rule}`;
  }
  yield '}';
}

/** The statements that make a table with everything but elements. */
export function formatTable(table: NftTable): string {
  const lines = [
    `table ${formatTableName(table)} {`,
    ...table.sets.map((set) => `  ${formatSet(set)}`),
    ...table.chains.flatMap((chain) => [...chainLines(chain)].map((line) => `  ${line}`)),
    '}',
  ];
  return lines.join('\n');
}
