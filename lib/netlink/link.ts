import { EncodeError, type Writer } from '../bytes/writer.js';
import type { Reader } from '../bytes/reader.js';
import { attrText, attrU32, attrEnd, attrStart } from './attr.js';
import type { NetlinkConnection } from './connection.js';
import {
  AF_BRIDGE,
  IFLA_ALT_IFNAME,
  IFLA_EXT_MASK,
  IFLA_GROUP,
  IFLA_IFNAME,
  IFLA_INFO_KIND,
  IFLA_LINKINFO,
  IFLA_MASTER,
  IFNAMSIZ,
  NLA_F_NESTED,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  RTEXT_FILTER_SKIP_STATS,
  RTM_DELLINK,
  RTM_DELLINKPROP,
  RTM_GETLINK,
  RTM_NEWLINK,
  RTM_NEWLINKPROP,
  RTM_SETLINK,
} from './constants.js';
import type { BridgePortSettings } from './link-kind.js';
import { decodeLink, encodeLink, type Link, type LinkSettings } from './link-value.js';
import type { NetlinkMessage } from './message.js';

/** A link by its ifindex or by one of its names. */
export type LinkRef = number | string;

function formatRef(ref: LinkRef): string {
  return typeof ref === 'number' ? `#${ref}` : ref;
}

/** A request that names a link and asks nothing of it yet. */
function encodeRef(writer: Writer, ref: LinkRef): void {
  encodeLink(writer, typeof ref === 'number' ? { ifindex: ref } : {});
  if (typeof ref === 'string') attrText(writer, ref.length < IFNAMSIZ ? IFLA_IFNAME : IFLA_ALT_IFNAME, ref);
}

/** Settings as words of `ip link`, for error texts: what is set, not every value. */
function formatSettings(settings: LinkSettings): string {
  const words: string[] = [];
  if (settings.kind !== undefined) words.push(`type ${settings.kind}`);
  if (settings.vxlan?.id !== undefined) words.push(`id ${settings.vxlan.id}`);
  if (settings.veth?.peer.ifname !== undefined) words.push(`peer ${settings.veth.peer.ifname}`);
  if (settings.mtu !== undefined) words.push(`mtu ${settings.mtu}`);
  if (settings.address !== undefined) words.push(`address ${settings.address}`);
  if (settings.master !== undefined) words.push(settings.master === 0 ? 'nomaster' : `master #${settings.master}`);
  if (settings.alias !== undefined) words.push(`alias ${settings.alias}`);
  if (settings.netnsFd !== undefined || settings.netnsPid !== undefined) words.push('netns');
  if (settings.afSpec?.inet6?.addrGenMode !== undefined) words.push(`addrgenmode ${settings.afSpec.inet6.addrGenMode}`);
  if (settings.up !== undefined) words.push(settings.up ? 'up' : 'down');
  return words.join(' ');
}

/** What a link can be created with: alias, address family and port settings have to come afterwards. */
export type NewLink = Omit<LinkSettings, 'alias' | 'afSpec' | 'bridgePort' | 'portKind' | 'portKindBytes'>;

/** The request that creates a link. See `linkAddMessages` for what it cannot carry. */
export function linkAddMessage(link: NewLink): NetlinkMessage {
  return {
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: (writer) => encodeLink(writer, link),
    subject: () => `${link.ifname ?? ''} ${formatSettings(link)}`.trim(),
  };
}

/**
 * The requests that create a link with all its settings: the creation, then by name what the kernel
 * takes on an existing link only (alias, address families, settings as a bridge's port). With `afSpec`
 * the link goes up last, so that it never has the addresses which that is to prevent.
 *
 * Errors: EncodeError when there is such a setting and no name in this namespace to reach it by.
 */
export function linkAddMessages(link: LinkSettings): NetlinkMessage[] {
  const { alias, afSpec, bridgePort, up } = link;
  const created: { -readonly [K in keyof LinkSettings]: LinkSettings[K] } = { ...link };
  for (const key of ['alias', 'afSpec', 'bridgePort', 'portKind', 'portKindBytes'] as const) delete created[key];
  if (afSpec !== undefined) delete created.up;
  const messages = [linkAddMessage(created)];
  if (alias === undefined && afSpec === undefined && bridgePort === undefined) return messages;
  const { ifname } = link;
  if (ifname === undefined || link.netnsFd !== undefined || link.netnsPid !== undefined) {
    throw new EncodeError('link', ifname ?? '', 'takes some of its settings by name, in this namespace');
  }
  if (alias !== undefined) messages.push(linkSetMessage(ifname, { alias }));
  if (bridgePort !== undefined) messages.push(bridgePortSetMessage(ifname, bridgePort));
  if (afSpec !== undefined) {
    messages.push(linkSetMessage(ifname, { afSpec }));
    if (up !== undefined) messages.push(linkSetMessage(ifname, { up }));
  }
  return messages;
}

/**
 * The request that changes a link: `RTM_SETLINK`, or `RTM_NEWLINK` where settings of its kind are
 * among the changes. A new `ifname` needs `ref` to be the ifindex.
 *
 * Errors: EncodeError when a link is to be renamed by name.
 */
export function linkSetMessage(ref: LinkRef, settings: LinkSettings): NetlinkMessage {
  if (typeof ref === 'string' && settings.ifname !== undefined) {
    throw new EncodeError('link', ref, 'can be renamed by its ifindex only');
  }
  const addressed: LinkSettings =
    typeof ref === 'number'
      ? { ...settings, ifindex: ref }
      : ref.length < IFNAMSIZ
        ? { ...settings, ifname: ref }
        : settings;
  return {
    type: settings.kind === undefined && settings.portKind === undefined ? RTM_SETLINK : RTM_NEWLINK,
    flags: 0,
    body: (writer) => {
      encodeLink(writer, addressed);
      if (typeof ref === 'string' && ref.length >= IFNAMSIZ) attrText(writer, IFLA_ALT_IFNAME, ref);
    },
    subject: () => `${formatRef(ref)} ${formatSettings(settings)}`.trim(),
  };
}

/**
 * The request that changes a bridge's port. By ifindex it is the bridge family's own `RTM_SETLINK`
 * (`bridge link set`), by name `RTM_NEWLINK` (`ip link set type bridge_slave`): the former takes no name.
 */
export function bridgePortSetMessage(ref: LinkRef, bridgePort: BridgePortSettings): NetlinkMessage {
  const subject = (): string => `${formatRef(ref)} bridge port ${Object.keys(bridgePort).join(' ')}`;
  if (typeof ref === 'string') return { ...linkSetMessage(ref, { portKind: 'bridge', bridgePort }), subject };
  return {
    type: RTM_SETLINK,
    flags: 0,
    body: (writer) => encodeLink(writer, { family: AF_BRIDGE, ifindex: ref, bridgePort }),
    subject,
  };
}

/** The request that removes one link, or every link of a group at once. */
export function linkDeleteMessage(ref: LinkRef | { readonly group: number }): NetlinkMessage {
  return {
    type: RTM_DELLINK,
    flags: 0,
    body: (writer) => {
      if (typeof ref !== 'object') return encodeRef(writer, ref);
      encodeLink(writer, {});
      attrU32(writer, IFLA_GROUP, ref.group);
    },
    subject: () => (typeof ref === 'object' ? `group ${ref.group}` : formatRef(ref)),
  };
}

/** The request that adds alternative names to a link, or removes them. */
export function linkAltNamesMessage(
  change: 'add' | 'delete',
  ref: LinkRef,
  altNames: readonly string[],
): NetlinkMessage {
  return {
    type: change === 'add' ? RTM_NEWLINKPROP : RTM_DELLINKPROP,
    flags: change === 'add' ? NLM_F_CREATE | NLM_F_EXCL : 0,
    body: (writer) =>
      encodeLink(writer, typeof ref === 'number' ? { ifindex: ref, altNames } : { ifname: ref, altNames }),
    subject: () => `${formatRef(ref)} altname ${altNames.join(' ')}`,
  };
}

/** The request of `linkGet`. */
export function linkGetMessage(ref: LinkRef): NetlinkMessage {
  return {
    type: RTM_GETLINK,
    flags: 0,
    body: (writer) => {
      encodeRef(writer, ref);
      attrU32(writer, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    },
    subject: () => formatRef(ref),
  };
}

/** Which links to list; the kernel does the filtering. */
export interface LinkFilter {
  readonly kind?: string;
  readonly master?: number;
}

/** The request of `linkList`. */
export function linkListMessage(filter: LinkFilter = {}): NetlinkMessage {
  return {
    type: RTM_GETLINK,
    flags: NLM_F_DUMP,
    body: (writer) => {
      encodeLink(writer, {});
      attrU32(writer, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
      if (filter.master !== undefined) attrU32(writer, IFLA_MASTER, filter.master);
      if (filter.kind !== undefined) {
        const mark = attrStart(writer, IFLA_LINKINFO | NLA_F_NESTED);
        attrText(writer, IFLA_INFO_KIND, filter.kind);
        attrEnd(writer, mark);
      }
    },
    subject: () => (filter.kind === undefined ? '' : `type ${filter.kind}`),
  };
}

/** Decodes one message of a link dump. */
export function linkFromDump(reader: Reader): Link {
  return decodeLink(reader);
}

/**
 * Creates a link with all its settings, as `linkAddMessages` has them, in one send.
 *
 * Equivalent to: `ip link add $name type $kind …`, `ip link set $name alias …`, `bridge link set dev $name …`
 * Source: linux/if_link.h; net/core/rtnetlink.c: rtnl_newlink
 * Errors: NetlinkError EEXIST when the name is taken, EOPNOTSUPP for an unknown kind, ERANGE for an MTU out of bounds.
 */
export async function linkAdd(connection: NetlinkConnection, link: LinkSettings): Promise<void> {
  await connection.requestAll(linkAddMessages(link));
}

/**
 * Changes a link; absent settings stay.
 *
 * Equivalent to: `ip link set $link mtu … master … alias … netns … up`
 * Source: linux/if_link.h; net/core/rtnetlink.c: do_setlink
 * Errors: NetlinkError ENODEV when there is no such link; EncodeError when a link is to be renamed by name.
 */
export async function linkSet(connection: NetlinkConnection, ref: LinkRef, settings: LinkSettings): Promise<void> {
  await connection.request(linkSetMessage(ref, settings));
}

/**
 * Changes a bridge's port; absent settings stay.
 *
 * Equivalent to: `bridge link set dev $link learning off neigh_suppress on …`
 * Source: linux/if_link.h (IFLA_BRPORT_*); net/bridge/br_netlink.c: br_setlink
 * Errors: NetlinkError ENODEV when there is no such link, EINVAL or EOPNOTSUPP when it is no bridge's port.
 */
export async function bridgePortSet(
  connection: NetlinkConnection,
  ref: LinkRef,
  settings: BridgePortSettings,
): Promise<void> {
  await connection.request(bridgePortSetMessage(ref, settings));
}

/**
 * Removes one link, or every link of a group. Costs some 20 ms of waiting in the kernel, once for a whole group.
 *
 * Equivalent to: `ip link delete $link`, `ip link delete group $group`
 * Errors: NetlinkError ENODEV when there is none, EOPNOTSUPP when it cannot be deleted.
 */
export async function linkDelete(
  connection: NetlinkConnection,
  ref: LinkRef | { readonly group: number },
): Promise<void> {
  await connection.request(linkDeleteMessage(ref));
}

/**
 * Gets one link.
 *
 * Equivalent to: `ip -d link show dev $link`
 * Errors: NetlinkError ENODEV when there is none.
 */
export async function linkGet(connection: NetlinkConnection, ref: LinkRef): Promise<Link> {
  return connection.get(linkGetMessage(ref), (_header, reader) => decodeLink(reader));
}

/**
 * Lists links. The kernel does not filter by a kind whose module is not loaded; this does.
 *
 * Equivalent to: `ip -d link show type $kind master $master`
 * Errors: DumpInterrupted.
 */
export async function linkList(connection: NetlinkConnection, filter: LinkFilter = {}): Promise<Link[]> {
  const { kind } = filter;
  return connection.dump(linkListMessage(filter), (_header, reader) => {
    const link = linkFromDump(reader);
    return kind === undefined || link.kind === kind ? link : undefined;
  });
}
