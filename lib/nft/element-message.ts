import { EncodeError, Writer } from '../bytes/writer.js';
import { attrEnd, attrStart, attrText } from '../netlink/attr.js';
import type { NetlinkConnection } from '../netlink/connection.js';
import { NLA_F_NESTED, NLM_F_CREATE } from '../netlink/constants.js';
import type { NetlinkMessage } from '../netlink/message.js';
import { keyBehind, writeParts, type RangeEnd } from './element-data.js';
import { attrU32be, batchBegin, batchEnd, nested, payload, tableMessage, verdict } from './message.js';
import type { NftElement, NftSet, NftTable } from './table.js';

/** linux/netfilter/nf_tables.h */
const NFT_MSG_NEWSETELEM = 12;
const NFT_MSG_DELSETELEM = 14;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_LIST_ELEM = 1;
const NFTA_DATA_VALUE = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_DATA = 2;
const NFTA_SET_ELEM_FLAGS = 3;
const NFTA_SET_ELEM_KEY_END = 10;
const NFT_SET_ELEM_INTERVAL_END = 1;

/** Elements of one message: its list has a length of 16 bits. */
const messageMaxElements = 300;

interface Data {
  readonly types: readonly string[];
  readonly text: string;
  readonly end: RangeEnd;
}

/** Writes `NFTA_SET_ELEM_…: NFTA_DATA_VALUE`. Thousands are written at once: hence without a function for each level. */
function writeData(writer: Writer, type: number, data: Data): void {
  const outer = attrStart(writer, type | NLA_F_NESTED);
  const inner = attrStart(writer, NFTA_DATA_VALUE);
  writeParts(writer, data.types, data.text, data.end);
  attrEnd(writer, inner);
  attrEnd(writer, outer);
}

/** Verdicts of maps are the same for many elements. */
type Verdicts = Map<string, Uint8Array>;

function writeVerdict(writer: Writer, verdicts: Verdicts, text: string): void {
  let bytes = verdicts.get(text);
  if (bytes === undefined) {
    const own = new Writer(64);
    verdict(own, NFTA_SET_ELEM_DATA, text);
    bytes = own.written();
    verdicts.set(text, bytes);
  }
  writer.bytes(bytes);
}

/** A range is two elements where keys have one part, and one with two keys where they have several. */
function writeElement(writer: Writer, set: NftSet, element: NftElement, verdicts: Verdicts | null): void {
  const { key, value } = element;
  const { key: types, value: valueTypes } = set;
  const isRange = set.interval === true;
  const mark = attrStart(writer, NFTA_LIST_ELEM | NLA_F_NESTED);
  writeData(writer, NFTA_SET_ELEM_KEY, { types, text: key, end: 'first' });
  if (isRange && types.length > 1) writeData(writer, NFTA_SET_ELEM_KEY_END, { types, text: key, end: 'last' });
  if (verdicts !== null && valueTypes !== undefined && value !== undefined) {
    if (valueTypes[0] === 'verdict') writeVerdict(writer, verdicts, value);
    else writeData(writer, NFTA_SET_ELEM_DATA, { types: valueTypes, text: value, end: 'first' });
  }
  attrEnd(writer, mark);
  const behind = isRange && types.length === 1 ? keyBehind(types, key) : undefined;
  if (behind === undefined) return;
  nested(writer, NFTA_LIST_ELEM, () => {
    payload(writer, NFTA_SET_ELEM_KEY, () => writer.bytes(behind));
    attrU32be(writer, NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
  });
}

function elementMessage(
  verb: 'add' | 'delete',
  table: NftTable,
  { set, elements }: { readonly set: NftSet; readonly elements: readonly NftElement[] },
): NetlinkMessage {
  return tableMessage(table, {
    message: verb === 'add' ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
    flags: verb === 'add' ? NLM_F_CREATE : 0,
    subject: () => `${verb} element ${table.family} ${table.name} ${set.name} { ${elements[0]?.key ?? ''}, … }`,
    body: (writer) => {
      attrText(writer, NFTA_SET_ELEM_LIST_SET, set.name);
      nested(writer, NFTA_SET_ELEM_LIST_ELEMENTS, () => {
        // What is to be deleted is named by its key alone.
        const verdicts: Verdicts | null = verb === 'add' ? new Map() : null;
        for (const element of elements) writeElement(writer, set, element, verdicts);
      });
    },
  });
}

function* messagesOf(
  verb: 'add' | 'delete',
  table: NftTable,
  elements: readonly NftElement[],
): Iterable<NetlinkMessage> {
  const bySet = new Map<string, NftElement[]>();
  for (const element of elements) {
    const some = bySet.get(element.set);
    if (some === undefined) bySet.set(element.set, [element]);
    else some.push(element);
  }
  for (const [name, some] of bySet) {
    const set = table.sets.find((each) => each.name === name);
    if (set === undefined) throw new EncodeError('nft element', name, `is no set of ${table.name}`);
    for (let at = 0; at < some.length; at += messageMaxElements)
      yield elementMessage(verb, table, { set, elements: some.slice(at, at + messageMaxElements) });
  }
}

/** Elements that go and elements that come; a changed value is both. */
export interface ElementChanges {
  readonly removed: readonly NftElement[];
  readonly added: readonly NftElement[];
}

/** The messages that remove elements of a table and add others. */
export function elementMessages(table: NftTable, { removed, added }: ElementChanges): NetlinkMessage[] {
  return [...messagesOf('delete', table, removed), ...messagesOf('add', table, added)];
}

/** More elements at once can exceed the socket's buffer. */
export const batchMaxElements = 40_000;
/** Few elements are quicker applied than handed to another thread. */
const syncMaxElements = 256;

/** Changes in parts that fit one transaction each; what goes and comes with the same key stays together. */
export function* splitChanges({ removed, added }: ElementChanges): Iterable<ElementChanges> {
  if (removed.length + added.length <= batchMaxElements) {
    yield { removed, added };
    return;
  }
  const come = new Map(added.map((element) => [`${element.set} ${element.key}`, element]));
  const steps: (readonly [NftElement | undefined, NftElement | undefined])[] = removed.map((gone) => {
    const key = `${gone.set} ${gone.key}`;
    const instead = come.get(key);
    come.delete(key);
    return [gone, instead];
  });
  for (const element of come.values()) steps.push([undefined, element]);
  for (let at = 0; at < steps.length; at += batchMaxElements / 2) {
    const some = steps.slice(at, at + batchMaxElements / 2);
    yield { removed: some.flatMap(([gone]) => gone ?? []), added: some.flatMap(([, instead]) => instead ?? []) };
  }
}

/**
 * Removes elements of a table and adds others, in one transaction, unless there are more than 40 000. The messages are
 * made here: libnftables asks the kernel for all tables and sets before it sends anything, which takes it some 10 ms.
 *
 * Equivalent to: `nft "delete element … { … }; add element … { … }"`
 * Source: linux/netfilter/nf_tables.h
 * Errors: NetlinkError, ENOENT when an element to remove is not there, and then nothing of the transaction is applied;
 * EncodeError for an element that does not fit its set.
 */
export async function changeElements(
  connection: NetlinkConnection,
  table: NftTable,
  changes: ElementChanges,
): Promise<void> {
  const total = changes.removed.length + changes.added.length;
  if (total === 0) return;
  for (const some of splitChanges(changes))
    await connection.transaction(batchBegin, elementMessages(table, some), {
      end: batchEnd,
      sync: total <= syncMaxElements,
    });
}
