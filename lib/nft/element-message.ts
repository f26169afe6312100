import { EncodeError, type Writer } from '../bytes/writer.js';
import { attrEnd, attrStart, attrText } from '../netlink/attr.js';
import type { NetlinkConnection } from '../netlink/connection.js';
import { NLA_F_NESTED, NLM_F_CREATE } from '../netlink/constants.js';
import type { NetlinkMessage } from '../netlink/message.js';
import { keyBehind, writeParts } from './element-data.js';
import type { NftElement, NftFamily, NftSet, NftTable } from './table.js';

/** linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h */
const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 0x10;
const NFNL_MSG_BATCH_END = 0x11;
const NFT_MSG_NEWSETELEM = 12;
const NFT_MSG_DELSETELEM = 14;
const NFTA_SET_ELEM_LIST_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_LIST_ELEM = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_DATA = 2;
const NFTA_SET_ELEM_FLAGS = 3;
const NFTA_SET_ELEM_KEY_END = 10;
const NFT_SET_ELEM_INTERVAL_END = 1;
const NFTA_DATA_VALUE = 1;
const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;
const NFTA_VERDICT_CHAIN = 2;
const verdictCodes: Readonly<Record<string, number>> = { drop: 0, accept: 1, jump: -3, goto: -4, return: -5 };
/** linux/netfilter.h, NFPROTO_* */
const familyNumbers: Readonly<Record<NftFamily, number>> = { inet: 1, ip: 2, netdev: 5, bridge: 7, ip6: 10 };

/** Elements of one message: its list has a length of 16 bits. */
const messageMaxElements = 300;

function nfgenmsg(writer: Writer, family: number, resource: number): void {
  writer.u8(family);
  writer.u8(0);
  writer.u16be(resource);
}

function nested(writer: Writer, type: number, write: () => void): void {
  const mark = attrStart(writer, type | NLA_F_NESTED);
  write();
  attrEnd(writer, mark);
}

function payload(writer: Writer, type: number, write: () => void): void {
  nested(writer, type, () => {
    const mark = attrStart(writer, NFTA_DATA_VALUE);
    write();
    attrEnd(writer, mark);
  });
}

function writeVerdict(writer: Writer, text: string): void {
  const [verb = '', chain] = text.split(' ');
  const code = verdictCodes[verb];
  if (code === undefined || (verb === 'jump' || verb === 'goto') !== (chain !== undefined))
    throw new EncodeError('verdict', text);
  nested(writer, NFTA_SET_ELEM_DATA, () => {
    nested(writer, NFTA_DATA_VERDICT, () => {
      const mark = attrStart(writer, NFTA_VERDICT_CODE);
      writer.u32be(code >>> 0);
      attrEnd(writer, mark);
      if (chain !== undefined) attrText(writer, NFTA_VERDICT_CHAIN, chain);
    });
  });
}

function writeValue(writer: Writer, types: readonly string[], text: string): void {
  if (types[0] === 'verdict') writeVerdict(writer, text);
  else payload(writer, NFTA_SET_ELEM_DATA, () => writeParts(writer, types, text, 'first'));
}

/** A range is two elements where keys have one part, and one with two keys where they have several. */
function writeElement(writer: Writer, set: NftSet, { key, value }: NftElement): void {
  const isRange = set.interval === true;
  nested(writer, NFTA_LIST_ELEM, () => {
    payload(writer, NFTA_SET_ELEM_KEY, () => writeParts(writer, set.key, key, 'first'));
    if (isRange && set.key.length > 1)
      payload(writer, NFTA_SET_ELEM_KEY_END, () => writeParts(writer, set.key, key, 'last'));
    if (set.value !== undefined && value !== undefined) writeValue(writer, set.value, value);
  });
  const [type, ...more] = set.key;
  const behind = isRange && type !== undefined && more.length === 0 ? keyBehind(type, key) : undefined;
  if (behind === undefined) return;
  nested(writer, NFTA_LIST_ELEM, () => {
    payload(writer, NFTA_SET_ELEM_KEY, () => writer.bytes(behind));
    const mark = attrStart(writer, NFTA_SET_ELEM_FLAGS);
    writer.u32be(NFT_SET_ELEM_INTERVAL_END);
    attrEnd(writer, mark);
  });
}

function elementMessage(
  verb: 'add' | 'delete',
  table: NftTable,
  { set, elements }: { readonly set: NftSet; readonly elements: readonly NftElement[] },
): NetlinkMessage {
  return {
    type: (NFNL_SUBSYS_NFTABLES << 8) | (verb === 'add' ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM),
    flags: verb === 'add' ? NLM_F_CREATE : 0,
    subject: () => `${verb} element ${table.family} ${table.name} ${set.name} { ${elements[0]?.key ?? ''}, … }`,
    body: (writer) => {
      nfgenmsg(writer, familyNumbers[table.family], 0);
      attrText(writer, NFTA_SET_ELEM_LIST_TABLE, table.name);
      attrText(writer, NFTA_SET_ELEM_LIST_SET, set.name);
      nested(writer, NFTA_SET_ELEM_LIST_ELEMENTS, () => {
        for (const { key, value, set: name } of elements) {
          writeElement(writer, set, { set: name, key, ...(verb === 'delete' || value === undefined ? {} : { value }) });
        }
      });
    },
  };
}

function* elementMessages(
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

const batchEdge = (type: number): NetlinkMessage => ({
  type,
  flags: 0,
  subject: () => 'nftables transaction',
  body: (writer) => nfgenmsg(writer, 0, NFNL_SUBSYS_NFTABLES),
});

/** More elements at once can exceed the socket's buffer. */
const batchMaxElements = 40_000;
/** Few elements are quicker applied than handed to another thread. */
const syncMaxElements = 64;

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
  { removed, added }: { readonly removed: readonly NftElement[]; readonly added: readonly NftElement[] },
): Promise<void> {
  const total = removed.length + added.length;
  for (let at = 0; at < total; at += batchMaxElements) {
    const end = at + batchMaxElements;
    const messages = [
      ...elementMessages('delete', table, removed.slice(at, end)),
      ...elementMessages(
        'add',
        table,
        added.slice(Math.max(0, at - removed.length), Math.max(0, end - removed.length)),
      ),
    ];
    await connection.transaction(batchEdge(NFNL_MSG_BATCH_BEGIN), messages, {
      end: batchEdge(NFNL_MSG_BATCH_END),
      sync: total <= syncMaxElements,
    });
  }
}
