import { attrEnd, attrStart, attrText } from '../netlink/attr.js';
import type { NetlinkConnection } from '../netlink/connection.js';
import { NLM_F_CREATE } from '../netlink/constants.js';
import type { NetlinkMessage } from '../netlink/message.js';
import { batchMaxElements, elementMessages, splitChanges, type ElementChanges } from './element-message.js';
import { attrU32be, batchBegin, batchEnd, tableMessage } from './message.js';
import { isWritableRule, ruleMessages } from './rule-message.js';
import type { NftChain, NftSet, NftTable } from './table.js';

/** linux/netfilter/nf_tables.h */
const NFT_MSG_NEWCHAIN = 3;
const NFT_MSG_DELCHAIN = 5;
const NFT_MSG_NEWSET = 9;
const NFT_MSG_DELSET = 11;
const NFTA_CHAIN_NAME = 3;
const NFTA_SET_NAME = 2;
const NFTA_SET_FLAGS = 3;
const NFTA_SET_KEY_TYPE = 4;
const NFTA_SET_KEY_LEN = 5;
const NFTA_SET_ID = 10;
const NFTA_SET_USERDATA = 13;
const NFT_SET_INTERVAL = 4;
/** By what number nft knows a type, so that it lists elements as what they are, and how long it is. */
const keyTypes: Readonly<Record<string, { readonly number: number; readonly bytes: number }>> = {
  ipv4_addr: { number: 7, bytes: 4 },
  ipv6_addr: { number: 8, bytes: 16 },
  inet_service: { number: 13, bytes: 2 },
};
/** nft's own notes on a set: the key's byte order (NFTNL_UDATA_SET_KEYBYTEORDER) is the network's (2). */
const setNotes = Buffer.from([0, 4, 2, 0, 0, 0]);

/** What is to be done to make one table of another that has the same name and the same base chains. */
export interface TableChange {
  readonly after: NftTable;
  readonly newSets: readonly NftSet[];
  readonly goneSets: readonly NftSet[];
  readonly newChains: readonly NftChain[];
  readonly goneChains: readonly NftChain[];
  /** Chains that are there before and after, with other rules. */
  readonly changedChains: readonly NftChain[];
}

const isSame = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

const isWritableSet = ({ key, keyOf, value }: NftSet): boolean =>
  keyOf === undefined && value === undefined && key.length === 1 && keyTypes[key[0] ?? ''] !== undefined;

function byName<T extends { readonly name: string }>(all: readonly T[]): ReadonlyMap<string, T> {
  return new Map(all.map((each) => [each.name, each]));
}

/**
 * Plans how to make one table of another without loading it anew; undefined where that cannot be said in messages made
 * here: base chains that differ, sets of the same name that differ, rules of other forms than `ruleMessages` has.
 */
export function planTableChange(before: NftTable, after: NftTable): TableChange | undefined {
  if (before.family !== after.family || before.name !== after.name) return undefined;
  const [oldSets, sets] = [byName(before.sets), byName(after.sets)];
  const [oldChains, chains] = [byName(before.chains), byName(after.chains)];
  const newSets = after.sets.filter(({ name }) => !oldSets.has(name));
  if (!newSets.every(isWritableSet)) return undefined;
  if (after.sets.some((set) => oldSets.has(set.name) && !isSame(oldSets.get(set.name), set))) return undefined;
  const changed = after.chains.filter((chain) => !isSame(oldChains.get(chain.name), chain));
  const gone = before.chains.filter(({ name }) => !chains.has(name));
  if ([...changed, ...gone].some(({ hook }) => hook !== undefined)) return undefined;
  if (!changed.every(({ rules }) => rules.every(isWritableRule))) return undefined;
  return {
    after,
    newSets,
    goneSets: before.sets.filter(({ name }) => !sets.has(name)),
    newChains: changed.filter(({ name }) => !oldChains.has(name)),
    goneChains: gone,
    changedChains: changed.filter(({ name }) => oldChains.has(name)),
  };
}

function setMessage(table: NftTable, set: NftSet, id: number): NetlinkMessage {
  const { number, bytes } = keyTypes[set.key[0] ?? ''] ?? { number: 0, bytes: 0 };
  return tableMessage(table, {
    message: NFT_MSG_NEWSET,
    flags: NLM_F_CREATE,
    subject: () => `add set ${table.family} ${table.name} ${set.name}`,
    body: (writer) => {
      attrText(writer, NFTA_SET_NAME, set.name);
      attrU32be(writer, NFTA_SET_FLAGS, set.interval === true ? NFT_SET_INTERVAL : 0);
      attrU32be(writer, NFTA_SET_KEY_TYPE, number);
      attrU32be(writer, NFTA_SET_KEY_LEN, bytes);
      attrU32be(writer, NFTA_SET_ID, id);
      const mark = attrStart(writer, NFTA_SET_USERDATA);
      writer.bytes(setNotes);
      attrEnd(writer, mark);
    },
  });
}

function namedMessage(
  table: NftTable,
  what: 'add chain' | 'delete chain' | 'delete set',
  name: string,
): NetlinkMessage {
  const kind = {
    'add chain': { message: NFT_MSG_NEWCHAIN, flags: NLM_F_CREATE, attr: NFTA_CHAIN_NAME },
    'delete chain': { message: NFT_MSG_DELCHAIN, flags: 0, attr: NFTA_CHAIN_NAME },
    'delete set': { message: NFT_MSG_DELSET, flags: 0, attr: NFTA_SET_NAME },
  }[what];
  return tableMessage(table, {
    message: kind.message,
    flags: kind.flags,
    subject: () => `${what} ${table.family} ${table.name} ${name}`,
    body: (writer) => attrText(writer, kind.attr, name),
  });
}

/**
 * Changes sets, chains and elements of a table in one transaction: no packet sees a part of it. Elements of sets that
 * go need not be said. Of more than 40 000 elements those of new sets come first, which nothing looks at yet.
 *
 * Equivalent to: `nft "add set …; add chain …; add rule …; delete element …; add element …; delete chain …; delete set …"`
 * Source: linux/netfilter/nf_tables.h
 * Errors: NetlinkError, and then nothing of the transaction is applied; EncodeError for an element that does not fit
 * its set.
 */
export async function changeTable(
  connection: NetlinkConnection,
  change: TableChange,
  { removed, added }: ElementChanges,
): Promise<void> {
  const { after, newSets, goneSets, newChains, goneChains, changedChains } = change;
  const [fresh, gone] = [byName(newSets), byName(goneSets)];
  const switched = removed.filter(({ set }) => !gone.has(set));
  const run = (messages: readonly NetlinkMessage[]): Promise<void> =>
    connection.transaction(batchBegin, messages, { end: batchEnd });
  let begun = [
    ...newSets.map((set, at) => setMessage(after, set, at + 1)),
    ...newChains.map(({ name }) => namedMessage(after, 'add chain', name)),
    // Before anything leads to them.
    ...newChains.flatMap(({ name, rules }) => ruleMessages(after, name, rules)),
  ];
  const done = [
    ...changedChains.flatMap(({ name, rules }) => ruleMessages(after, name, rules)),
    // They may lead to each other.
    ...goneChains.flatMap(({ name }) => ruleMessages(after, name, [])),
    ...goneChains.map(({ name }) => namedMessage(after, 'delete chain', name)),
    ...goneSets.map(({ name }) => namedMessage(after, 'delete set', name)),
  ];
  let coming = added;
  if (switched.length + added.length > batchMaxElements) {
    coming = added.filter(({ set }) => !fresh.has(set));
    for (const some of splitChanges({ removed: [], added: added.filter(({ set }) => fresh.has(set)) })) {
      await run([...begun, ...elementMessages(after, some)]);
      begun = [];
    }
  }
  const parts = [...splitChanges({ removed: switched, added: coming })];
  for (const [index, some] of parts.entries()) {
    await run([
      ...(index === 0 ? begun : []),
      ...elementMessages(after, some),
      ...(index === parts.length - 1 ? done : []),
    ]);
  }
}
