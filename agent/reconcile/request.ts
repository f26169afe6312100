import {
  floodMac,
  tsnetProtocol,
  type BridgeLink,
  type KernelLink,
  type KernelPort,
  type MacvlanLink,
  type VxlanLink,
} from '../../core/kernel.js';
import { addrAddMessage, addrDeleteMessage, addrReplaceMessage, type Addr } from '../../lib/netlink/addr.js';
import {
  IFA_F_NODAD,
  IFA_F_NOPREFIXROUTE,
  INFINITY_LIFE_TIME,
  MACVLAN_MODE_BRIDGE,
  MACVLAN_MODE_PRIVATE,
  MACVLAN_MODE_VEPA,
  NTF_MASTER,
  NTF_SELF,
} from '../../lib/netlink/constants.js';
import { fdbAppendMessage, fdbDeleteMessage, fdbReplaceMessage, type Fdb } from '../../lib/netlink/fdb.js';
import type { BridgeSettings, VxlanSettings } from '../../lib/netlink/link-kind.js';
import type { LinkSettings } from '../../lib/netlink/link-value.js';
import { linkAddMessages, linkSetMessage } from '../../lib/netlink/link.js';
import type { NetlinkMessage } from '../../lib/netlink/message.js';
import { neighDeleteMessage, neighReplaceMessage } from '../../lib/netlink/neigh.js';
import { routeAddMessage, routeDeleteMessage, routeReplaceMessage, type Route } from '../../lib/netlink/route.js';
import type { ObservedObject, ReconcileObject } from './object.js';
import type { Operation } from './plan.js';

/** Finds the ifindex of a link by its name. */
export type IndexOf = (name: string) => number;

/**
 * Snooping off: multicast has to cross to hosts whose listeners' reports the bridge never hears, as
 * reports do not come back through a tunnel that learns nothing. No spanning tree and no delay: the
 * only port that could close a loop is the VXLAN device, and it never sends back what came by it.
 */
const fixedSettings: BridgeSettings = { mcastSnooping: false, stpState: 0, forwardDelayMs: 0 };

/**
 * What goes before them: with a spanning tree the kernel refuses a forwarding without delay (ERANGE). A kernel without
 * VLAN filtering does not even take it switched off.
 */
function switchedOff(was: ObservedObject): BridgeSettings | null {
  if (was.kind !== 'bridge' || was.deviation === undefined) return null;
  return was.deviation.startsWith('vlan_filtering') ? { stpState: 0, vlanFiltering: false } : { stpState: 0 };
}

function bridgeSettings({ filtered = false }: BridgeLink): BridgeSettings {
  return { ...fixedSettings, nfCallIptables: filtered, nfCallIp6tables: filtered };
}

/** `MACVLAN_MODE_*` (linux/if_link.h) by the name that `ip link` has for it. */
export const macvlanModes: Readonly<Record<MacvlanLink['mode'], number>> = {
  bridge: MACVLAN_MODE_BRIDGE,
  private: MACVLAN_MODE_PRIVATE,
  vepa: MACVLAN_MODE_VEPA,
};

function vxlanSettings(link: VxlanLink): VxlanSettings {
  return { id: link.vni, local: link.local, port: link.port, learning: false };
}

function linkSettings(link: KernelLink, indexOf: IndexOf): LinkSettings {
  const common = { ifname: link.name, alias: link.alias, address: link.mac, mtu: link.mtu };
  switch (link.kind) {
    case 'bridge':
      return { ...common, kind: 'bridge', bridge: bridgeSettings(link) };
    case 'vxlan':
      return { ...common, kind: 'vxlan', vxlan: vxlanSettings(link) };
    case 'macvlan':
      return { ...common, kind: 'macvlan', link: indexOf(link.parent), macvlan: { mode: macvlanModes[link.mode] } };
  }
}

/**
 * The requests that create a link, down and without a master, and mark it: the kernel takes no alias
 * at creation, so both go in one send, and a process killed at any instant leaves no unmarked link.
 */
export function linkCreateRequests(link: KernelLink, indexOf: IndexOf): NetlinkMessage[] {
  return linkAddMessages(linkSettings(link, indexOf));
}

/** A link is not given the MAC that it has: the kernel takes any for another one, and forgets all neighbours of the link. */
function linkChangeRequest(link: KernelLink, mac: string | null): NetlinkMessage {
  const { alias, mac: address, mtu } = link;
  const settings = { alias, ...(address === mac ? {} : { address }), mtu };
  return linkSetMessage(
    link.name,
    link.kind === 'bridge' ? { ...settings, kind: 'bridge', bridge: bridgeSettings(link) } : settings,
  );
}

/** What a link is given as a port of its bridge. */
export function portSettings({ learning, neighSuppress, hairpin = false }: KernelPort): LinkSettings {
  return { portKind: 'bridge', bridgePort: { learning, neighSuppress, hairpin } };
}

function macBefore(operation: Operation): string | null {
  return operation.verb === 'change' && 'mac' in operation.was ? operation.was.mac : null;
}

function addrOf(object: Extract<ReconcileObject, { kind: 'addr' }>, ifindex: number): Addr {
  const isV6 = object.address.includes(':');
  const lifetimes = object.deprecated ? { cacheinfo: { preferredSec: 0, validSec: INFINITY_LIFE_TIME } } : {};
  return {
    ifindex,
    address: object.address,
    flags: IFA_F_NOPREFIXROUTE | (isV6 ? IFA_F_NODAD : 0),
    protocol: tsnetProtocol,
    ...lifetimes,
  };
}

function fdbOf(object: Extract<ReconcileObject, { kind: 'fdb-port' | 'fdb-vtep' }>, ifindex: number): Fdb {
  const { mac: lladdr } = object;
  if (object.kind === 'fdb-port') return { ifindex, lladdr, flags: NTF_MASTER };
  return { ifindex, lladdr, flags: NTF_SELF, dst: object.vtep };
}

function routeOf(object: Extract<ReconcileObject, { kind: 'route' }>, ifindex: number): Route {
  const source = object.source === null ? {} : { prefsrc: object.source };
  return { dst: object.dst, ifindex, protocol: tsnetProtocol, ...source };
}

/**
 * The requests of one operation on an object whose link is there; links themselves are created by
 * `linkCreateRequests` and removed by the link reaper.
 *
 * A new route never replaces one: that could be somebody else's. Neighbours and forwarding entries are
 * replaced in any case, since the links they are on are ours.
 */
export function requestsOf(operation: Operation, indexOf: IndexOf): NetlinkMessage[] {
  const { object, verb } = operation;
  const isRemoval = verb === 'remove';
  switch (object.kind) {
    case 'bridge': {
      const change = linkChangeRequest(object, macBefore(operation));
      const off = operation.verb === 'change' ? switchedOff(operation.was) : null;
      return off === null ? [change] : [linkSetMessage(object.name, { kind: 'bridge', bridge: off }), change];
    }
    case 'vxlan':
    case 'macvlan':
      return [linkChangeRequest(object, macBefore(operation))];
    case 'up':
      return [linkSetMessage(indexOf(object.link), { up: true })];
    case 'port': {
      if (isRemoval) return [linkSetMessage(indexOf(object.link), { master: 0 })];
      const settings = linkSetMessage(object.link, portSettings(object));
      const isMember =
        operation.verb === 'change' && operation.was.kind === 'port' && operation.was.master === object.master;
      return isMember
        ? [settings]
        : [linkSetMessage(indexOf(object.link), { master: indexOf(object.master) }), settings];
    }
    case 'addr': {
      const addr = addrOf(object, indexOf(object.link));
      if (isRemoval) return [addrDeleteMessage(addr)];
      if (verb === 'add') return [addrAddMessage(addr)];
      return operation.verb === 'change' && operation.was.deviation !== undefined
        ? [addrDeleteMessage(addr), addrAddMessage(addr)]
        : [addrReplaceMessage(addr)];
    }
    case 'route': {
      const route = routeOf(object, indexOf(object.link));
      if (isRemoval) return [routeDeleteMessage(route)];
      return [verb === 'add' ? routeAddMessage(route) : routeReplaceMessage(route)];
    }
    case 'neigh': {
      const ifindex = indexOf(object.link);
      if (isRemoval) return [neighDeleteMessage({ ifindex, dst: object.address })];
      return [neighReplaceMessage({ ifindex, dst: object.address, lladdr: object.mac, protocol: tsnetProtocol })];
    }
    case 'fdb-port':
    case 'fdb-vtep': {
      const fdb = fdbOf(object, indexOf(object.link));
      if (isRemoval) return [fdbDeleteMessage(fdb)];
      return [object.kind === 'fdb-vtep' && object.mac === floodMac ? fdbAppendMessage(fdb) : fdbReplaceMessage(fdb)];
    }
  }
}
