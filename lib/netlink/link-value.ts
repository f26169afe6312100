import { Reader } from '../bytes/reader.js';
import type { Writer } from '../bytes/writer.js';
import {
  attrEnd,
  type AttrField,
  attrsRaw,
  attrStart,
  AttrTable,
  attrText,
  boolField,
  bytesField,
  eachAttr,
  i32Field,
  lladdrField,
  nestedField,
  type RawAttr,
  rawAttr,
  textField,
  u32Field,
  u8Field,
  type WithUnknown,
} from './attr.js';
import * as k from './constants.js';
import {
  type BridgePortSettings,
  bridgePortSettings,
  type BridgeSettings,
  bridgeSettings,
  type LinkAfSpec,
  linkAfSpec,
  type MacvlanSettings,
  macvlanSettings,
  type VlanSettings,
  vlanSettings,
  type VxlanSettings,
  vxlanSettings,
} from './link-kind.js';

/** What can be asked of any link (linux/if_link.h, IFLA_*). */
export interface LinkCommon extends WithUnknown {
  readonly ifindex?: number;
  readonly ifname?: string;
  readonly up?: boolean;
  /** Whether the link resolves addresses: the opposite of `IFF_NOARP`. */
  readonly arp?: boolean;
  readonly multicast?: boolean;
  readonly promisc?: boolean;
  readonly mtu?: number;
  /** The link-layer address. */
  readonly address?: string;
  readonly txqlen?: number;
  readonly group?: number;
  /** ifindex of the bridge or VRF; 0 takes the link out of it. */
  readonly master?: number;
  /** Parent: the link below a VLAN or macvlan, or a veth's peer (see `linkNetnsid`). */
  readonly link?: number;
  /** Which namespace `link` is in, by this namespace's ids; absent when it is the same one. */
  readonly linkNetnsid?: number;
  /** Namespace to make it in or move it to, by an open descriptor of this process. */
  readonly netnsFd?: number;
  /** The same, by a process in it. */
  readonly netnsPid?: number;
  readonly carrier?: boolean;
  readonly numTxQueues?: number;
  readonly numRxQueues?: number;
}

/** A link and its kind, as asked for. The property that is named as the kind carries its settings. */
export interface LinkSettings extends LinkCommon {
  /** Free text of up to 255 bytes. Set on a link that exists only: the kernel drops it at creation. */
  readonly alias?: string;
  /** On a link that exists only, too; in one message with `up` the kernel does the latter first. */
  readonly afSpec?: LinkAfSpec;
  /** `bridge`, `veth`, `vxlan`, `macvlan`, `vlan`, `dummy`, … */
  readonly kind?: string;
  readonly bridge?: BridgeSettings;
  readonly vxlan?: VxlanSettings;
  readonly macvlan?: MacvlanSettings;
  readonly vlan?: VlanSettings;
  readonly veth?: VethSettings;
  /** Settings of a kind that this library has no table for, as the kernel has them. */
  readonly kindBytes?: Uint8Array;
  /** What the link is a port of: `bridge`, `bond`, `vrf`. */
  readonly portKind?: string;
  readonly bridgePort?: BridgePortSettings;
  /** Settings of another kind of port, as the kernel has them. */
  readonly portKindBytes?: Uint8Array;
  /** Attributes of `IFLA_LINKINFO` that are none of the above. */
  readonly infoUnknown?: readonly RawAttr[];
}

/** The other end of a veth pair. It cannot be up from the start: the kernel pairs the two last. */
export interface VethSettings extends WithUnknown {
  readonly peer: Omit<LinkCommon, 'up'>;
}

/** A link as the kernel describes it. */
export interface Link extends LinkSettings {
  readonly ifindex: number;
  readonly ifname: string;
  /** AF_UNSPEC; AF_BRIDGE in a notification about a bridge's port. */
  readonly family: number;
  /** `ARPHRD_*`. */
  readonly type: number;
  /** `IFF_*`; `up`, `arp`, `multicast` and `promisc` repeat single bits of it. */
  readonly flags: number;
  /** `IF_OPER_*`. */
  readonly operstate?: number;
  readonly altNames?: readonly string[];
  readonly permAddress?: string;
  /** Counters as the kernel has them; `linkStats` reads them. */
  readonly stats64?: Uint8Array;
}

type LinkHeaderKeys = 'ifindex' | 'up' | 'arp' | 'multicast' | 'promisc' | 'family' | 'type' | 'flags';
type LinkInfoKeys =
  | 'kind'
  | 'bridge'
  | 'vxlan'
  | 'macvlan'
  | 'vlan'
  | 'veth'
  | 'kindBytes'
  | 'portKind'
  | 'bridgePort'
  | 'portKindBytes'
  | 'infoUnknown';
type LinkAttrs = Omit<Link, LinkHeaderKeys | LinkInfoKeys>;

const altNamesField: AttrField<readonly string[]> = {
  types: [k.IFLA_PROP_LIST],
  write(writer, value) {
    const mark = attrStart(writer, k.IFLA_PROP_LIST | k.NLA_F_NESTED);
    for (const name of value) attrText(writer, k.IFLA_ALT_IFNAME, name);
    attrEnd(writer, mark);
  },
  read(reader) {
    const names: string[] = [];
    eachAttr(reader, (type) => {
      if (type === k.IFLA_ALT_IFNAME) names.push(reader.text(reader.remaining));
    });
    return names;
  },
};

const linkFields = {
  ifname: textField(k.IFLA_IFNAME),
  mtu: u32Field(k.IFLA_MTU),
  address: lladdrField(k.IFLA_ADDRESS),
  txqlen: u32Field(k.IFLA_TXQLEN),
  group: u32Field(k.IFLA_GROUP),
  master: u32Field(k.IFLA_MASTER),
  link: u32Field(k.IFLA_LINK),
  linkNetnsid: i32Field(k.IFLA_LINK_NETNSID),
  netnsFd: u32Field(k.IFLA_NET_NS_FD),
  netnsPid: u32Field(k.IFLA_NET_NS_PID),
  carrier: boolField(k.IFLA_CARRIER),
  numTxQueues: u32Field(k.IFLA_NUM_TX_QUEUES),
  numRxQueues: u32Field(k.IFLA_NUM_RX_QUEUES),
  afSpec: nestedField(k.IFLA_AF_SPEC, linkAfSpec),
  alias: textField(k.IFLA_IFALIAS),
  operstate: u8Field(k.IFLA_OPERSTATE),
  altNames: altNamesField,
  permAddress: lladdrField(k.IFLA_PERM_ADDRESS),
  stats64: bytesField(k.IFLA_STATS64),
};

/** What is of interest to those who look at one link, and to none who follow them all. */
const linkDetails = [
  'txqlen',
  'carrier',
  'numTxQueues',
  'numRxQueues',
  'afSpec',
  'operstate',
  'altNames',
  'permAddress',
  'stats64',
] as const;

const linkAttrs = new AttrTable<LinkAttrs>('IFLA', linkFields, linkDetails);

const flagBits = [
  ['up', k.IFF_UP, true],
  ['arp', k.IFF_NOARP, false],
  ['multicast', k.IFF_MULTICAST, true],
  ['promisc', k.IFF_PROMISC, true],
] as const;

/** `struct ifinfomsg`: flags that the value names are marked as to be changed, others stay. */
function encodeIfinfomsg(writer: Writer, link: Partial<Link>): void {
  let flags = link.flags ?? 0;
  let change = 0;
  for (const [key, bit, bitWhenTrue] of flagBits) {
    const wanted = link[key];
    if (wanted === undefined) continue;
    change |= bit;
    flags = wanted === bitWhenTrue ? flags | bit : flags & ~bit;
  }
  writer.u8(link.family ?? k.AF_UNSPEC);
  writer.u8(0);
  writer.u16le(link.type ?? 0);
  writer.u32le(link.ifindex ?? 0);
  writer.u32le(flags >>> 0);
  writer.u32le(change);
}

function decodeIfinfomsg(reader: Reader): Record<string, unknown> & Pick<Link, 'family'> {
  reader.what = 'ifinfomsg';
  const family = reader.u8();
  reader.skip(1);
  const type = reader.u16le();
  const ifindex = reader.u32le();
  const flags = reader.u32le();
  reader.skip(4);
  const seed: Record<string, unknown> & Pick<Link, 'family'> = { ifindex, family, type, flags };
  for (const [key, bit, bitWhenTrue] of flagBits) seed[key] = ((flags & bit) !== 0) === bitWhenTrue;
  return seed;
}

type KindKey = 'bridge' | 'vxlan' | 'macvlan' | 'vlan' | 'veth';

const vethSettings = new AttrTable<VethSettings>('VETH_INFO', {
  peer: {
    types: [k.VETH_INFO_PEER],
    write(writer, value) {
      const mark = attrStart(writer, k.VETH_INFO_PEER);
      encodeLink(writer, value);
      attrEnd(writer, mark);
    },
    read: (reader) => linkAttrs.decode(reader, decodeIfinfomsg(reader)) as LinkCommon,
  },
});

const kindTables = new Map<string, readonly [key: KindKey, table: AttrTable<WithUnknown>]>([
  ['bridge', ['bridge', bridgeSettings]],
  ['vxlan', ['vxlan', vxlanSettings]],
  ['macvlan', ['macvlan', macvlanSettings]],
  ['macvtap', ['macvlan', macvlanSettings]],
  ['vlan', ['vlan', vlanSettings]],
  ['veth', ['veth', vethSettings]],
]);

function encodeNested(writer: Writer, type: number, write: () => void): void {
  const mark = attrStart(writer, type | k.NLA_F_NESTED);
  write();
  attrEnd(writer, mark);
}

function encodeLinkInfo(writer: Writer, link: LinkSettings): void {
  const { kind, kindBytes, portKind, bridgePort, portKindBytes } = link;
  if (kind !== undefined) {
    attrText(writer, k.IFLA_INFO_KIND, kind);
    const known = kindTables.get(kind);
    const settings = known === undefined ? undefined : link[known[0]];
    if (known !== undefined && settings !== undefined) {
      encodeNested(writer, k.IFLA_INFO_DATA, () => known[1].encode(writer, settings));
    } else if (kindBytes !== undefined) {
      encodeNested(writer, k.IFLA_INFO_DATA, () => writer.bytes(kindBytes));
    }
  }
  if (portKind !== undefined) {
    attrText(writer, k.IFLA_INFO_SLAVE_KIND, portKind);
    if (bridgePort !== undefined) {
      encodeNested(writer, k.IFLA_INFO_SLAVE_DATA, () => bridgePortSettings.encode(writer, bridgePort));
    } else if (portKindBytes !== undefined) {
      encodeNested(writer, k.IFLA_INFO_SLAVE_DATA, () => writer.bytes(portKindBytes));
    }
  }
  attrsRaw(writer, link.infoUnknown);
}

/** Runs `read` with the reader confined to a part of its buffer seen earlier. */
function readSpan<T>(reader: Reader, span: readonly [offset: number, end: number], read: () => T): T {
  [reader.offset, reader.end] = span;
  return read();
}

function decodeLinkInfo(reader: Reader, seed: Record<string, unknown>): void {
  let kind: string | undefined;
  let portKind: string | undefined;
  let settings: [number, number] | undefined;
  let portSettings: [number, number] | undefined;
  const unknown: RawAttr[] = [];
  reader.what = 'IFLA_LINKINFO';
  eachAttr(reader, (type, rawType) => {
    if (type === k.IFLA_INFO_KIND) kind = reader.text(reader.remaining);
    else if (type === k.IFLA_INFO_DATA) settings = [reader.offset, reader.end];
    else if (type === k.IFLA_INFO_SLAVE_KIND) portKind = reader.text(reader.remaining);
    else if (type === k.IFLA_INFO_SLAVE_DATA) portSettings = [reader.offset, reader.end];
    else if (!reader.lean) unknown.push(rawAttr(reader, rawType));
  });
  if (kind !== undefined) seed['kind'] = kind;
  if (portKind !== undefined) seed['portKind'] = portKind;
  if (settings !== undefined) {
    const known = kindTables.get(kind ?? '');
    readSpan(reader, settings, () => {
      if (known === undefined) seed['kindBytes'] = reader.bytes(reader.remaining);
      else seed[known[0]] = known[1].decode(reader);
    });
  }
  if (portSettings !== undefined) {
    readSpan(reader, portSettings, () => {
      if (portKind === 'bridge') seed['bridgePort'] = bridgePortSettings.decode(reader);
      else seed['portKindBytes'] = reader.bytes(reader.remaining);
    });
  }
  if (unknown.length > 0) seed['infoUnknown'] = unknown;
}

/**
 * Writes the body of a link message: header, attributes, and the kind's settings. In family AF_BRIDGE
 * the port's settings stand in `IFLA_PROTINFO`, else in `IFLA_INFO_SLAVE_DATA`.
 */
export function encodeLink(writer: Writer, link: Partial<Link>): void {
  encodeIfinfomsg(writer, link);
  linkAttrs.encode(writer, link as LinkAttrs);
  const { bridgePort } = link;
  if (link.family === k.AF_BRIDGE && bridgePort !== undefined) {
    encodeNested(writer, k.IFLA_PROTINFO, () => bridgePortSettings.encode(writer, bridgePort));
  } else if (link.kind !== undefined || link.portKind !== undefined || link.infoUnknown !== undefined) {
    encodeNested(writer, k.IFLA_LINKINFO, () => encodeLinkInfo(writer, link));
  }
}

/**
 * Decodes the body of an `RTM_NEWLINK` or `RTM_DELLINK`.
 *
 * Errors: DecodeError; also when there is no name in it.
 */
export function decodeLink(reader: Reader): Link {
  const seed = decodeIfinfomsg(reader);
  const link = linkAttrs.decode(reader, seed, (type) => {
    if (type === k.IFLA_LINKINFO) {
      decodeLinkInfo(reader, seed);
      return true;
    }
    if (type !== k.IFLA_PROTINFO || seed.family !== k.AF_BRIDGE) return false;
    seed['bridgePort'] = bridgePortSettings.decode(reader);
    return true;
  });
  if (link.ifname === undefined) throw reader.error('has no IFLA_IFNAME');
  return link as Link;
}

/** Counters of a link since it was made (linux/if_link.h, struct rtnl_link_stats64). */
export interface LinkStats {
  readonly rxPackets: number;
  readonly txPackets: number;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxErrors: number;
  readonly txErrors: number;
  readonly rxDropped: number;
  readonly txDropped: number;
}

/**
 * Reads a link's counters, undefined where the kernel sent none.
 *
 * Equivalent to: `ip -s link show dev $link`
 * Errors: DecodeError when there are fewer than the eight.
 */
export function linkStats(link: Link): LinkStats | undefined {
  if (link.stats64 === undefined) return undefined;
  const reader = new Reader(Buffer.from(link.stats64), 'rtnl_link_stats64');
  const next = (): number => Number(reader.u64le());
  return {
    rxPackets: next(),
    txPackets: next(),
    rxBytes: next(),
    txBytes: next(),
    rxErrors: next(),
    txErrors: next(),
    rxDropped: next(),
    txDropped: next(),
  };
}
