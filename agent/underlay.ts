import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { canonicalAddr } from '../core/addr.js';
import { TsnetError } from '../core/errors.js';
import { type Addr, addrList } from '../lib/netlink/addr.js';
import type { NetlinkConnection } from '../lib/netlink/connection.js';
import { IFF_LOWER_UP, RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE } from '../lib/netlink/constants.js';
import { isNetlinkError } from '../lib/netlink/errors.js';
import { linkGet, type LinkRef } from '../lib/netlink/link.js';
import type { Link } from '../lib/netlink/link-value.js';

/** The interface that carries VXLAN, and the address that is this host's VTEP. */
export interface Underlay {
  readonly iface: string;
  readonly vtep: string;
  readonly mtu: number;
  /** Whether the interface is up and has a link beyond; without one the address is good, and nothing is carried. */
  readonly hasCarrier: boolean;
}

export interface UnderlaySearch {
  readonly connection: NetlinkConnection;
  /** Interface or address of the underlay; null: the interface of the default route. */
  readonly wanted: string | null;
}

const defaultMtu = 1500;

/**
 * Finds the underlay: by interface name, by address, or by the default route. Carrier is no condition: a host whose cable
 * is out has its address all the same.
 * Equivalent to: `ip route show default`, `ip addr show dev $iface`
 * Errors: ERR_UNDERLAY_UNKNOWN, naming what was looked for.
 */
export async function findUnderlay({ connection, wanted }: UnderlaySearch): Promise<Underlay> {
  const name = wanted ?? (await defaultRouteInterface());
  if (name === null) {
    throw new TsnetError('ERR_UNDERLAY_UNKNOWN', 'this host has no default route to tell the underlay interface by');
  }
  if (isIP(name) !== 0) {
    const found = await underlayAt(connection, canonicalAddr(name));
    if (found === null) throw unknown(name, `no interface of this host has the address ${name}`);
    return found;
  }
  const link = await findLink(connection, name);
  if (link === null) throw unknown(name, `this host has no interface "${name}"`);
  const addrs = (await addrList(connection, { ifindex: link.ifindex })).filter(isUsable);
  const chosen = addrs.find(({ address }) => !address.includes(':')) ?? addrs[0];
  if (chosen === undefined) throw unknown(name, `interface ${name} has no address`);
  return underlayOf(link, textOf(chosen));
}

/**
 * The underlay with that address; null while no interface has it.
 * Equivalent to: `ip addr show to $address`
 */
export async function underlayAt(connection: NetlinkConnection, address: string): Promise<Underlay | null> {
  const addr = (await addrList(connection)).find((one) => textOf(one) === address);
  if (addr === undefined) return null;
  const link = await findLink(connection, addr.ifindex);
  return link === null ? null : underlayOf(link, address);
}

/**
 * Refuses an option that names what this host does not have: most likely it is misspelt. An address may come yet.
 * Errors: ERR_UNDERLAY_UNKNOWN.
 */
export async function assertInterface({ connection, wanted }: UnderlaySearch): Promise<void> {
  if (wanted === null || isIP(wanted) !== 0 || (await findLink(connection, wanted)) !== null) return;
  throw unknown(wanted, `no interface of this host is, or has the address, "${wanted}"`);
}

const unknown = (underlay: string, text: string): TsnetError =>
  new TsnetError('ERR_UNDERLAY_UNKNOWN', text, { details: { underlay } });

const textOf = ({ address }: Addr): string => canonicalAddr(address.split('/', 1)[0] ?? '');

/** Not of the loopback, and no IPv6 link-local one, which says nothing without an interface. */
const isUsable = ({ address, scope }: Addr): boolean =>
  (scope ?? RT_SCOPE_UNIVERSE) < (address.includes(':') ? RT_SCOPE_LINK : RT_SCOPE_HOST);

function underlayOf({ ifname, mtu, flags }: Link, vtep: string): Underlay {
  return { iface: ifname ?? '', vtep, mtu: mtu ?? defaultMtu, hasCarrier: (flags & IFF_LOWER_UP) !== 0 };
}

async function findLink(connection: NetlinkConnection, ref: LinkRef): Promise<Link | null> {
  try {
    return await linkGet(connection, ref);
  } catch (error) {
    if (isNetlinkError(error, 'ENODEV')) return null;
    throw error;
  }
}

/** `/proc/net/route`: destination and mask in hexadecimal, zero for the default route. */
async function defaultRouteInterface(): Promise<string | null> {
  const v4 = (await readFile('/proc/net/route', 'utf8').catch(() => '')).split('\n').slice(1);
  for (const line of v4) {
    const [iface, dst, , , , , , mask] = line.split('\t');
    if (iface !== undefined && dst === '00000000' && mask === '00000000') return iface;
  }
  const v6 = (await readFile('/proc/net/ipv6_route', 'utf8').catch(() => '')).split('\n');
  for (const line of v6) {
    const fields = line.trim().split(/\s+/);
    const iface = fields[9];
    if (iface !== undefined && iface !== 'lo' && fields[0] === '0'.repeat(32) && fields[1] === '00') return iface;
  }
  return null;
}
