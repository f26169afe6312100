import { EncodeError, type Writer } from '../bytes/writer.js';
import { attrEnd, attrStart, attrText } from '../netlink/attr.js';
import { NLA_F_NESTED } from '../netlink/constants.js';
import type { NetlinkMessage } from '../netlink/message.js';
import type { NftFamily, NftTable } from './table.js';

/** linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h */
const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 0x10;
const NFNL_MSG_BATCH_END = 0x11;
const NFTA_DATA_VALUE = 1;
const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;
const NFTA_VERDICT_CHAIN = 2;
const verdictCodes: Readonly<Record<string, number>> = { drop: 0, accept: 1, jump: -3, goto: -4, return: -5 };
/** linux/netfilter.h, NFPROTO_* */
const familyNumbers: Readonly<Record<NftFamily, number>> = { inet: 1, ip: 2, netdev: 5, bridge: 7, ip6: 10 };

function nfgenmsg(writer: Writer, family: number, resource: number): void {
  writer.u8(family);
  writer.u8(0);
  writer.u16be(resource);
}

/** Writes an attribute that holds others. */
export function nested(writer: Writer, type: number, write: () => void): void {
  const mark = attrStart(writer, type | NLA_F_NESTED);
  write();
  attrEnd(writer, mark);
}

/** Writes a number of four bytes in network order, as all of nf_tables' are. */
export function attrU32be(writer: Writer, type: number, value: number): void {
  const mark = attrStart(writer, type);
  writer.u32be(value >>> 0);
  attrEnd(writer, mark);
}

/** Writes bytes as the kernel compares them (NFTA_DATA_VALUE). */
export function payload(writer: Writer, type: number, write: () => void): void {
  nested(writer, type, () => {
    const mark = attrStart(writer, NFTA_DATA_VALUE);
    write();
    attrEnd(writer, mark);
  });
}

/** Writes `jump CHAIN`, `drop` and their like. Errors: EncodeError for text that is no verdict. */
export function verdict(writer: Writer, type: number, text: string): void {
  const [verb = '', chain] = text.split(' ');
  const code = verdictCodes[verb];
  if (code === undefined || (verb === 'jump' || verb === 'goto') !== (chain !== undefined))
    throw new EncodeError('verdict', text);
  nested(writer, type, () => {
    nested(writer, NFTA_DATA_VERDICT, () => {
      attrU32be(writer, NFTA_VERDICT_CODE, code);
      if (chain !== undefined) attrText(writer, NFTA_VERDICT_CHAIN, chain);
    });
  });
}

interface TableMessage extends Pick<NetlinkMessage, 'flags' | 'subject'> {
  /** NFT_MSG_* */
  readonly message: number;
  /** Writes all attributes but the table's name. */
  readonly body: (writer: Writer) => void;
}

/** The table's name has this number in every kind of object (NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, …). */
const NFTA_ANY_TABLE = 1;

/** A message about something in a table. */
export function tableMessage(
  table: Pick<NftTable, 'family' | 'name'>,
  { message, flags, subject, body }: TableMessage,
): NetlinkMessage {
  return {
    type: (NFNL_SUBSYS_NFTABLES << 8) | message,
    flags,
    subject,
    body: (writer) => {
      nfgenmsg(writer, familyNumbers[table.family], 0);
      attrText(writer, NFTA_ANY_TABLE, table.name);
      body(writer);
    },
  };
}

const batchEdge = (type: number): NetlinkMessage => ({
  type,
  flags: 0,
  subject: () => 'nftables transaction',
  body: (writer) => nfgenmsg(writer, 0, NFNL_SUBSYS_NFTABLES),
});

/** What messages stand between to be one transaction. */
export const batchBegin = batchEdge(NFNL_MSG_BATCH_BEGIN);
export const batchEnd = batchEdge(NFNL_MSG_BATCH_END);
