import { floodMac, tsnetProtocol, type KernelLink, type MacvlanLink } from '../../core/kernel.js';
import type { Addr } from '../../lib/netlink/addr.js';
import {
  IFA_F_DEPRECATED,
  IFA_F_NOPREFIXROUTE,
  MACVLAN_MODE_BRIDGE,
  MACVLAN_MODE_PRIVATE,
  MACVLAN_MODE_VEPA,
  NTF_SELF,
  NUD_NOARP,
  NUD_PERMANENT,
  RT_TABLE_MAIN,
  RTN_UNICAST,
} from '../../lib/netlink/constants.js';
import type { Fdb } from '../../lib/netlink/fdb.js';
import type { Link } from '../../lib/netlink/link-value.js';
import type { Neigh } from '../../lib/netlink/neigh.js';
import type { Route } from '../../lib/netlink/route.js';
import type { ObservedObject } from './object.js';

/** Finds the name of a link by its ifindex. */
export type NameOf = (ifindex: number) => string | undefined;

const macvlanModes = new Map<number | undefined, MacvlanLink['mode']>([
  [MACVLAN_MODE_BRIDGE, 'bridge'],
  [MACVLAN_MODE_PRIVATE, 'private'],
  [MACVLAN_MODE_VEPA, 'vepa'],
]);

/** Settings of our bridges that desired links do not spell out; see `bridgeSettings` in request.ts for why. */
function bridgeDeviation({ bridge }: Link): string | undefined {
  if (bridge?.mcastSnooping === true) return 'mcast_snooping is on';
  if ((bridge?.stpState ?? 0) !== 0) return 'stp is on';
  if ((bridge?.forwardDelayMs ?? 0) !== 0) return `forward_delay is ${bridge?.forwardDelayMs} ms`;
  if ((bridge?.nfCallIptables ?? false) !== (bridge?.nfCallIp6tables ?? false))
    return 'nf_call_iptables and nf_call_ip6tables differ';
  return bridge?.vlanFiltering === true ? 'vlan_filtering is on' : undefined;
}

function vxlanDeviation({ vxlan }: Link): string | undefined {
  if (vxlan?.learning === true) return 'learning is on';
  if (vxlan?.collectMetadata === true) return 'it is external';
  return vxlan?.group === undefined ? undefined : `it has the default destination ${vxlan.group}`;
}

function kernelLink(link: Link, nameOf: NameOf): (KernelLink & { readonly deviation?: string }) | undefined {
  const { ifname: name, alias = '', address: mac = '', mtu = 0 } = link;
  const deviating = (deviation: string | undefined) => (deviation === undefined ? {} : { deviation });
  switch (link.kind) {
    case 'bridge':
      return {
        ...{ kind: 'bridge', name, alias, mac, mtu },
        ...(link.bridge?.nfCallIptables === true ? { filtered: true } : {}),
        ...deviating(bridgeDeviation(link)),
      };
    case 'vxlan': {
      const { id: vni = 0, local = '', port = 0 } = link.vxlan ?? {};
      const master = nameOf(link.master ?? 0) ?? '';
      return { kind: 'vxlan', name, alias, mac, mtu, vni, local, port, master, ...deviating(vxlanDeviation(link)) };
    }
    case 'macvlan': {
      const mode = macvlanModes.get(link.macvlan?.mode);
      const parent = link.linkNetnsid === undefined ? (nameOf(link.link ?? 0) ?? '') : '';
      return {
        kind: 'macvlan',
        name,
        alias,
        mac,
        mtu,
        parent,
        mode: mode ?? 'bridge',
        ...deviating(mode === undefined ? 'mode is another' : undefined),
      };
    }
    default:
      return undefined;
  }
}

/** A link, whether it is up, and its settings as a bridge's port. */
export function observedLink(link: Link, nameOf: NameOf): ObservedObject[] {
  const objects: ObservedObject[] = [];
  const own = kernelLink(link, nameOf);
  if (own !== undefined) objects.push(own);
  const port = observedPort(link, nameOf);
  if (port !== undefined) objects.push(port);
  if (link.up === true) objects.push({ kind: 'up', link: link.ifname });
  return objects;
}

/** A link's settings as a bridge's port; undefined where it is none. */
export function observedPort(link: Link, nameOf: NameOf): ObservedObject | undefined {
  const { bridgePort, ifname } = link;
  const master = nameOf(link.master ?? 0);
  if (bridgePort === undefined || master === undefined) return undefined;
  const { learning = true, neighSuppress = false, hairpin = false } = bridgePort;
  return { kind: 'port', link: ifname, master, learning, neighSuppress, ...(hairpin ? { hairpin } : {}) };
}

/** An address with our mark. */
export function observedAddr(addr: Addr, link: string): ObservedObject | undefined {
  if (addr.protocol !== tsnetProtocol) return undefined;
  const flags = addr.flags ?? 0;
  const deprecated = (flags & IFA_F_DEPRECATED) !== 0 || addr.cacheinfo?.preferredSec === 0;
  const deviation = (flags & IFA_F_NOPREFIXROUTE) === 0 ? { deviation: 'it has a prefix route' } : {};
  return { kind: 'addr', link, address: addr.address, deprecated, ...deviation };
}

/** A route of the main table with our mark. */
export function observedRoute(route: Route, link: string): ObservedObject | undefined {
  if (route.protocol !== tsnetProtocol || (route.table ?? RT_TABLE_MAIN) !== RT_TABLE_MAIN) return undefined;
  if ((route.type ?? RTN_UNICAST) !== RTN_UNICAST || route.gateway !== undefined) return undefined;
  return { kind: 'route', dst: route.dst, link, source: route.prefsrc ?? null };
}

/** A permanent neighbour with our mark. */
export function observedNeigh(neigh: Neigh, link: string): ObservedObject | undefined {
  if (neigh.protocol !== tsnetProtocol || ((neigh.state ?? 0) & NUD_PERMANENT) === 0) return undefined;
  return neigh.lladdr === undefined ? undefined : { kind: 'neigh', link, address: neigh.dst, mac: neigh.lladdr };
}

/**
 * A static entry of a bridge for one of its ports, or one of a VXLAN device. Learned entries, and the
 * permanent ones that the kernel keeps for the ports' own MACs, are not ours.
 */
export function observedFdb(fdb: Fdb, link: string): ObservedObject | undefined {
  const state = fdb.state ?? 0;
  if (((fdb.flags ?? 0) & NTF_SELF) !== 0) {
    if (fdb.dst === undefined || (state & NUD_PERMANENT) === 0) return undefined;
    return { kind: 'fdb-vtep', link, mac: fdb.lladdr, vtep: fdb.dst };
  }
  const isStatic = (state & NUD_NOARP) !== 0 && (state & NUD_PERMANENT) === 0;
  if (!isStatic || fdb.master === undefined || (fdb.vlan ?? 0) !== 0 || fdb.lladdr === floodMac) return undefined;
  return { kind: 'fdb-port', link, mac: fdb.lladdr };
}
