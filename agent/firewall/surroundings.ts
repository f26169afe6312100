import { readdir } from 'node:fs/promises';
import { canonicalAddr } from '../../core/addr.js';
import { parseMark } from '../../core/ids.js';
import { addrList } from '../../lib/netlink/addr.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { linkList } from '../../lib/netlink/link.js';

/** Names of the bridges of this host that are not ours. */
export async function listOtherBridges(connection: NetlinkConnection): Promise<readonly string[]> {
  const bridges = await linkList(connection, { kind: 'bridge' });
  // A name that a set cannot hold is none that any tool makes.
  return bridges.flatMap(({ ifname, alias }) =>
    parseMark(alias ?? null) === null && ifname !== undefined && /^[\w.:-]{1,15}$/.test(ifname) ? [ifname] : [],
  );
}

/**
 * All addresses of this host, without prefix lengths and in their canonical form.
 * Equivalent to: `ip addr show`
 * Errors: as addrList.
 */
export async function listHostAddresses(connection: NetlinkConnection): Promise<ReadonlySet<string>> {
  const addrs = await addrList(connection);
  return new Set(addrs.map(({ address }) => canonicalAddr(address.split('/', 1)[0] ?? '')));
}

/** Names of the links of this namespace that packets come in by, from what the kernel shows of them. */
export async function listLinkNames(): Promise<string[]> {
  const names = await readdir('/proc/sys/net/ipv4/conf');
  return names.filter(
    (name) =>
      !['all', 'default', 'lo'].includes(name) &&
      !name.startsWith('tsv-') &&
      !name.startsWith('tsx-') &&
      !name.startsWith('tsp-'),
  );
}
