import type { Writer } from '../bytes/writer.js';
import { attrEnd, attrStart, attrText } from '../netlink/attr.js';
import { NLM_F_APPEND, NLM_F_CREATE } from '../netlink/constants.js';
import type { NetlinkMessage } from '../netlink/message.js';
import { attrU32be, nested, payload, tableMessage, verdict } from './message.js';
import type { NftTable } from './table.js';

/**
 * Rules as messages, from the same text that nft reads: some forms only, which are those of rules that come and go.
 * Whole tables are loaded by text, so each form here is also read by nft, and a test compares what it makes of it.
 */

/** linux/netfilter/nf_tables.h */
const NFT_MSG_NEWRULE = 6;
const NFT_MSG_DELRULE = 8;
const NFTA_RULE_CHAIN = 2;
const NFTA_RULE_EXPRESSIONS = 4;
const NFTA_LIST_ELEM = 1;
const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;
const NFT_REG_VERDICT = 0;
const NFT_REG_1 = 1;
const NFTA_CT_DREG = 1;
const NFTA_CT_KEY = 2;
const NFTA_CT_DIRECTION = 3;
const NFT_CT_PROTO_SRC = 11;
const NFT_CT_SRC_IP = 19;
const NFT_CT_SRC_IP6 = 21;
const NFTA_LOOKUP_SET = 1;
const NFTA_LOOKUP_SREG = 2;
const NFTA_META_DREG = 1;
const NFTA_META_KEY = 2;
const NFT_META_L4PROTO = 16;
const NFTA_CMP_SREG = 1;
const NFTA_CMP_OP = 2;
const NFTA_CMP_DATA = 3;
const NFT_CMP_EQ = 0;
const NFTA_IMMEDIATE_DREG = 1;
const NFTA_IMMEDIATE_DATA = 2;
const directions: Readonly<Record<string, number>> = { original: 0, reply: 1 };
const protocols: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, 'ipv6-icmp': 58, sctp: 132 };

function expression(writer: Writer, name: string, write: () => void): void {
  nested(writer, NFTA_LIST_ELEM, () => {
    attrText(writer, NFTA_EXPR_NAME, name);
    nested(writer, NFTA_EXPR_DATA, write);
  });
}

/** What conntrack knows of a connection is in a set. */
function ctLookup(writer: Writer, { key, direction, set }: { key: number; direction: number; set: string }): void {
  expression(writer, 'ct', () => {
    attrU32be(writer, NFTA_CT_KEY, key);
    attrU32be(writer, NFTA_CT_DREG, NFT_REG_1);
    const mark = attrStart(writer, NFTA_CT_DIRECTION);
    writer.u8(direction);
    attrEnd(writer, mark);
  });
  expression(writer, 'lookup', () => {
    attrU32be(writer, NFTA_LOOKUP_SREG, NFT_REG_1);
    attrText(writer, NFTA_LOOKUP_SET, set);
  });
}

interface Form {
  readonly pattern: RegExp;
  write(writer: Writer, parts: readonly string[]): void;
}

const forms: readonly Form[] = [
  {
    pattern: /^ct (original|reply) (ip6?) saddr @(\S+)(?: |$)/,
    write(writer, [direction = '', ip, set = '']) {
      const key = ip === 'ip6' ? NFT_CT_SRC_IP6 : NFT_CT_SRC_IP;
      ctLookup(writer, { key, direction: directions[direction] ?? 0, set });
    },
  },
  {
    pattern: /^ct (original|reply) proto-src @(\S+)(?: |$)/,
    write: (writer, [direction = '', set = '']) =>
      ctLookup(writer, { key: NFT_CT_PROTO_SRC, direction: directions[direction] ?? 0, set }),
  },
  {
    pattern: /^meta l4proto (icmp|tcp|udp|ipv6-icmp|sctp)(?: |$)/,
    write(writer, [protocol = '']) {
      expression(writer, 'meta', () => {
        attrU32be(writer, NFTA_META_KEY, NFT_META_L4PROTO);
        attrU32be(writer, NFTA_META_DREG, NFT_REG_1);
      });
      expression(writer, 'cmp', () => {
        attrU32be(writer, NFTA_CMP_SREG, NFT_REG_1);
        attrU32be(writer, NFTA_CMP_OP, NFT_CMP_EQ);
        payload(writer, NFTA_CMP_DATA, () => writer.u8(protocols[protocol] ?? 0));
      });
    },
  },
  {
    pattern: /^counter(?: |$)/,
    write: (writer) => expression(writer, 'counter', () => undefined),
  },
  {
    pattern: /^(accept|drop|return|(?:jump|goto) \S+)$/,
    write: (writer, [text = '']) =>
      expression(writer, 'immediate', () => {
        attrU32be(writer, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
        verdict(writer, NFTA_IMMEDIATE_DATA, text);
      }),
  },
];

/** What to write for a rule; undefined where some of it is of no form that is known here. */
function parseRule(rule: string): ((writer: Writer) => void)[] | undefined {
  const writes: ((writer: Writer) => void)[] = [];
  for (let rest = rule; rest !== '';) {
    const found = forms.map((form) => ({ form, match: form.pattern.exec(rest) })).find(({ match }) => match !== null);
    const [matched = '', ...parts] = found?.match ?? [];
    if (found === undefined || matched === '') return undefined;
    writes.push((writer) => found.form.write(writer, parts));
    rest = rest.slice(matched.length);
  }
  return writes;
}

/** Reports whether `ruleMessages` can write a rule. */
export function isWritableRule(rule: string): boolean {
  return parseRule(rule) !== undefined;
}

/**
 * The messages that give a chain these rules, in place of those that it has.
 *
 * Equivalent to: `nft "flush chain …; add rule …"`
 * Source: linux/netfilter/nf_tables.h
 * Errors: RangeError for a rule that is not writable.
 */
export function ruleMessages(
  table: Pick<NftTable, 'family' | 'name'>,
  chain: string,
  rules: readonly string[],
): NetlinkMessage[] {
  const flush = tableMessage(table, {
    message: NFT_MSG_DELRULE,
    flags: 0,
    subject: () => `flush chain ${table.family} ${table.name} ${chain}`,
    body: (writer) => attrText(writer, NFTA_RULE_CHAIN, chain),
  });
  return [
    flush,
    ...rules.map((rule) => {
      const writes = parseRule(rule);
      if (writes === undefined) throw new RangeError(`nft: no message for this rule: ${rule}`);
      return tableMessage(table, {
        message: NFT_MSG_NEWRULE,
        flags: NLM_F_CREATE | NLM_F_APPEND,
        subject: () => `add rule ${table.family} ${table.name} ${chain} ${rule}`,
        body: (writer) => {
          attrText(writer, NFTA_RULE_CHAIN, chain);
          nested(writer, NFTA_RULE_EXPRESSIONS, () => {
            for (const write of writes) write(writer);
          });
        },
      });
    }),
  ];
}
