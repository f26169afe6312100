import {
  attrEnd,
  type AttrField,
  attrStart,
  AttrTable,
  boolField,
  clockField,
  inetPairField,
  lladdrField,
  nestedField,
  presenceField,
  u16beField,
  u16Field,
  u32beField,
  u32Field,
  u8Field,
  type WithUnknown,
} from './attr.js';
import * as k from './constants.js';

/** Settings of a bridge (linux/if_link.h, IFLA_BR_*). Times are kept by the kernel to 10 ms. */
export interface BridgeSettings extends WithUnknown {
  readonly forwardDelayMs?: number;
  readonly helloTimeMs?: number;
  readonly maxAgeMs?: number;
  /** How long a learned MAC is kept. */
  readonly ageingTimeMs?: number;
  /** 0 off, 1 kernel STP, 2 user STP. */
  readonly stpState?: number;
  readonly priority?: number;
  readonly vlanFiltering?: boolean;
  readonly vlanProtocol?: number;
  readonly vlanDefaultPvid?: number;
  /** Which link-local groups 01:80:c2:00:00:0X are forwarded. */
  readonly groupFwdMask?: number;
  readonly groupAddr?: string;
  /** Forgets all learned MACs, when set. */
  readonly fdbFlush?: boolean;
  readonly fdbMaxLearned?: number;
  readonly mcastRouter?: number;
  readonly mcastSnooping?: boolean;
  readonly mcastQueryUseIfaddr?: boolean;
  readonly mcastQuerier?: boolean;
  readonly mcastHashMax?: number;
  readonly mcastIgmpVersion?: number;
  readonly mcastMldVersion?: number;
  readonly mcastStatsEnabled?: boolean;
  readonly nfCallIptables?: boolean;
  readonly nfCallIp6tables?: boolean;
  readonly nfCallArptables?: boolean;
}

/** Both directions of `BridgeSettings`. */
export const bridgeSettings = new AttrTable<BridgeSettings>('IFLA_BR', {
  forwardDelayMs: clockField(k.IFLA_BR_FORWARD_DELAY),
  helloTimeMs: clockField(k.IFLA_BR_HELLO_TIME),
  maxAgeMs: clockField(k.IFLA_BR_MAX_AGE),
  ageingTimeMs: clockField(k.IFLA_BR_AGEING_TIME),
  stpState: u32Field(k.IFLA_BR_STP_STATE),
  priority: u16Field(k.IFLA_BR_PRIORITY),
  vlanFiltering: boolField(k.IFLA_BR_VLAN_FILTERING),
  vlanProtocol: u16beField(k.IFLA_BR_VLAN_PROTOCOL),
  vlanDefaultPvid: u16Field(k.IFLA_BR_VLAN_DEFAULT_PVID),
  groupFwdMask: u16Field(k.IFLA_BR_GROUP_FWD_MASK),
  groupAddr: lladdrField(k.IFLA_BR_GROUP_ADDR),
  fdbFlush: presenceField(k.IFLA_BR_FDB_FLUSH),
  fdbMaxLearned: u32Field(k.IFLA_BR_FDB_MAX_LEARNED),
  mcastRouter: u8Field(k.IFLA_BR_MCAST_ROUTER),
  mcastSnooping: boolField(k.IFLA_BR_MCAST_SNOOPING),
  mcastQueryUseIfaddr: boolField(k.IFLA_BR_MCAST_QUERY_USE_IFADDR),
  mcastQuerier: boolField(k.IFLA_BR_MCAST_QUERIER),
  mcastHashMax: u32Field(k.IFLA_BR_MCAST_HASH_MAX),
  mcastIgmpVersion: u8Field(k.IFLA_BR_MCAST_IGMP_VERSION),
  mcastMldVersion: u8Field(k.IFLA_BR_MCAST_MLD_VERSION),
  mcastStatsEnabled: boolField(k.IFLA_BR_MCAST_STATS_ENABLED),
  nfCallIptables: boolField(k.IFLA_BR_NF_CALL_IPTABLES),
  nfCallIp6tables: boolField(k.IFLA_BR_NF_CALL_IP6TABLES),
  nfCallArptables: boolField(k.IFLA_BR_NF_CALL_ARPTABLES),
});

/** Settings of a bridge's port (linux/if_link.h, IFLA_BRPORT_*). */
export interface BridgePortSettings extends WithUnknown {
  /** `BR_STATE_*`. */
  readonly state?: number;
  readonly priority?: number;
  readonly cost?: number;
  /** Frames may leave by the port they came from (`IFLA_BRPORT_MODE`). */
  readonly hairpin?: boolean;
  /** Drops STP frames and shuts the port (`IFLA_BRPORT_GUARD`). */
  readonly guard?: boolean;
  readonly rootBlock?: boolean;
  readonly fastLeave?: boolean;
  readonly learning?: boolean;
  readonly unicastFlood?: boolean;
  readonly mcastFlood?: boolean;
  readonly bcastFlood?: boolean;
  readonly mcastToUnicast?: boolean;
  readonly mcastRouter?: number;
  readonly proxyArp?: boolean;
  readonly proxyArpWifi?: boolean;
  /** Answers ARP and ND from the neighbour table instead of flooding them to this port. */
  readonly neighSuppress?: boolean;
  readonly neighVlanSuppress?: boolean;
  /** Talks to ports that are not isolated only. */
  readonly isolated?: boolean;
  readonly locked?: boolean;
  readonly vlanTunnel?: boolean;
  readonly groupFwdMask?: number;
  readonly backupPort?: number;
}

const bridgePortFields = {
  state: u8Field(k.IFLA_BRPORT_STATE),
  priority: u16Field(k.IFLA_BRPORT_PRIORITY),
  cost: u32Field(k.IFLA_BRPORT_COST),
  hairpin: boolField(k.IFLA_BRPORT_MODE),
  guard: boolField(k.IFLA_BRPORT_GUARD),
  rootBlock: boolField(k.IFLA_BRPORT_PROTECT),
  fastLeave: boolField(k.IFLA_BRPORT_FAST_LEAVE),
  learning: boolField(k.IFLA_BRPORT_LEARNING),
  unicastFlood: boolField(k.IFLA_BRPORT_UNICAST_FLOOD),
  mcastFlood: boolField(k.IFLA_BRPORT_MCAST_FLOOD),
  bcastFlood: boolField(k.IFLA_BRPORT_BCAST_FLOOD),
  mcastToUnicast: boolField(k.IFLA_BRPORT_MCAST_TO_UCAST),
  mcastRouter: u8Field(k.IFLA_BRPORT_MULTICAST_ROUTER),
  proxyArp: boolField(k.IFLA_BRPORT_PROXYARP),
  proxyArpWifi: boolField(k.IFLA_BRPORT_PROXYARP_WIFI),
  neighSuppress: boolField(k.IFLA_BRPORT_NEIGH_SUPPRESS),
  neighVlanSuppress: boolField(k.IFLA_BRPORT_NEIGH_VLAN_SUPPRESS),
  isolated: boolField(k.IFLA_BRPORT_ISOLATED),
  locked: boolField(k.IFLA_BRPORT_LOCKED),
  vlanTunnel: boolField(k.IFLA_BRPORT_VLAN_TUNNEL),
  groupFwdMask: u16Field(k.IFLA_BRPORT_GROUP_FWD_MASK),
  backupPort: u32Field(k.IFLA_BRPORT_BACKUP_PORT),
};

/** Each change of a port brings all of them; those who follow all links compare these three. */
const followedOfPort = ['learning', 'neighSuppress', 'hairpin'];
const bridgePortDetails = (Object.keys(bridgePortFields) as (keyof typeof bridgePortFields)[]).filter(
  (key) => !followedOfPort.includes(key),
);

/** Both directions of `BridgePortSettings`. */
export const bridgePortSettings = new AttrTable<BridgePortSettings>('IFLA_BRPORT', bridgePortFields, bridgePortDetails);

/** Source ports that a VXLAN device chooses from, both ends included. */
export interface PortRange {
  readonly low: number;
  readonly high: number;
}

/** Settings of a VXLAN device (linux/if_link.h, IFLA_VXLAN_*). */
export interface VxlanSettings extends WithUnknown {
  /** The VNI. */
  readonly id?: number;
  /** Outer source address, of either family. */
  readonly local?: string;
  /** Default destination, unicast or multicast. */
  readonly group?: string;
  /** Link that outer packets leave by. */
  readonly link?: number;
  /** Outer UDP destination port; the kernel's default is 8472, not 4789. */
  readonly port?: number;
  readonly portRange?: PortRange;
  readonly ttl?: number;
  readonly ttlInherit?: boolean;
  readonly tos?: number;
  /** `VXLAN_DF_*`. */
  readonly df?: number;
  /** Outer IPv6 flow label. */
  readonly label?: number;
  /** Learns VTEPs from received frames: on in the kernel when absent. */
  readonly learning?: boolean;
  readonly ageingSec?: number;
  /** Most entries; 0 is no limit. */
  readonly limit?: number;
  readonly proxy?: boolean;
  readonly rsc?: boolean;
  readonly l2miss?: boolean;
  readonly l3miss?: boolean;
  readonly udpCsum?: boolean;
  readonly udpZeroCsum6Tx?: boolean;
  readonly udpZeroCsum6Rx?: boolean;
  readonly remcsumTx?: boolean;
  readonly remcsumRx?: boolean;
  readonly remcsumNopartial?: boolean;
  readonly gbp?: boolean;
  readonly gpe?: boolean;
  readonly collectMetadata?: boolean;
  readonly vnifilter?: boolean;
  readonly localbypass?: boolean;
}

/** `struct ifla_vxlan_port_range`. */
const portRangeField: AttrField<PortRange> = {
  types: [k.IFLA_VXLAN_PORT_RANGE],
  write(writer, value) {
    const mark = attrStart(writer, k.IFLA_VXLAN_PORT_RANGE);
    writer.u16be(value.low);
    writer.u16be(value.high);
    attrEnd(writer, mark);
  },
  read: (reader) => ({ low: reader.u16be(), high: reader.u16be() }),
};

/** Both directions of `VxlanSettings`. */
export const vxlanSettings = new AttrTable<VxlanSettings>('IFLA_VXLAN', {
  id: u32Field(k.IFLA_VXLAN_ID),
  local: inetPairField(k.IFLA_VXLAN_LOCAL, k.IFLA_VXLAN_LOCAL6),
  group: inetPairField(k.IFLA_VXLAN_GROUP, k.IFLA_VXLAN_GROUP6),
  link: u32Field(k.IFLA_VXLAN_LINK),
  port: u16beField(k.IFLA_VXLAN_PORT),
  portRange: portRangeField,
  ttl: u8Field(k.IFLA_VXLAN_TTL),
  ttlInherit: presenceField(k.IFLA_VXLAN_TTL_INHERIT),
  tos: u8Field(k.IFLA_VXLAN_TOS),
  df: u8Field(k.IFLA_VXLAN_DF),
  label: u32beField(k.IFLA_VXLAN_LABEL),
  learning: boolField(k.IFLA_VXLAN_LEARNING),
  ageingSec: u32Field(k.IFLA_VXLAN_AGEING),
  limit: u32Field(k.IFLA_VXLAN_LIMIT),
  proxy: boolField(k.IFLA_VXLAN_PROXY),
  rsc: boolField(k.IFLA_VXLAN_RSC),
  l2miss: boolField(k.IFLA_VXLAN_L2MISS),
  l3miss: boolField(k.IFLA_VXLAN_L3MISS),
  udpCsum: boolField(k.IFLA_VXLAN_UDP_CSUM),
  udpZeroCsum6Tx: boolField(k.IFLA_VXLAN_UDP_ZERO_CSUM6_TX),
  udpZeroCsum6Rx: boolField(k.IFLA_VXLAN_UDP_ZERO_CSUM6_RX),
  remcsumTx: boolField(k.IFLA_VXLAN_REMCSUM_TX),
  remcsumRx: boolField(k.IFLA_VXLAN_REMCSUM_RX),
  remcsumNopartial: presenceField(k.IFLA_VXLAN_REMCSUM_NOPARTIAL),
  gbp: presenceField(k.IFLA_VXLAN_GBP),
  gpe: presenceField(k.IFLA_VXLAN_GPE),
  collectMetadata: boolField(k.IFLA_VXLAN_COLLECT_METADATA),
  vnifilter: boolField(k.IFLA_VXLAN_VNIFILTER),
  localbypass: boolField(k.IFLA_VXLAN_LOCALBYPASS),
});

/** Settings of a macvlan or macvtap link (linux/if_link.h, IFLA_MACVLAN_*). */
export interface MacvlanSettings extends WithUnknown {
  /** `MACVLAN_MODE_*`. */
  readonly mode?: number;
  /** `MACVLAN_FLAG_*`. */
  readonly flags?: number;
  readonly bcQueueLength?: number;
}

/** Both directions of `MacvlanSettings`. */
export const macvlanSettings = new AttrTable<MacvlanSettings>('IFLA_MACVLAN', {
  mode: u32Field(k.IFLA_MACVLAN_MODE),
  flags: u16Field(k.IFLA_MACVLAN_FLAGS),
  bcQueueLength: u32Field(k.IFLA_MACVLAN_BC_QUEUE_LEN),
});

/** Settings of a VLAN link (linux/if_link.h, IFLA_VLAN_*). */
export interface VlanSettings extends WithUnknown {
  readonly id?: number;
  /** EtherType: 0x8100 (802.1Q) or 0x88a8 (802.1ad). */
  readonly protocol?: number;
}

/** Both directions of `VlanSettings`. */
export const vlanSettings = new AttrTable<VlanSettings>('IFLA_VLAN', {
  id: u16Field(k.IFLA_VLAN_ID),
  protocol: u16beField(k.IFLA_VLAN_PROTOCOL),
});

/** IPv6 settings of a link (linux/if_link.h, IFLA_INET6_*). */
export interface LinkInet6 extends WithUnknown {
  /** `IN6_ADDR_GEN_MODE_*`: none keeps the link from giving itself a link-local address. */
  readonly addrGenMode?: number;
}

/** Settings by address family (linux/if_link.h, IFLA_AF_SPEC). */
export interface LinkAfSpec extends WithUnknown {
  readonly inet6?: LinkInet6;
}

/** Both directions of `LinkAfSpec`. */
export const linkAfSpec = new AttrTable<LinkAfSpec>('IFLA_AF_SPEC', {
  inet6: nestedField(
    k.AF_INET6,
    new AttrTable<LinkInet6>('IFLA_INET6', { addrGenMode: u8Field(k.IFLA_INET6_ADDR_GEN_MODE) }),
  ),
});
