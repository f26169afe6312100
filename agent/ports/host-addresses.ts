import { formatAddr, parseAddr } from '../../core/addr.js';
import { addrList } from '../../lib/netlink/addr.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';

/**
 * The addresses of this host, without prefix lengths and in their canonical form.
 * Equivalent to: `ip addr show`
 * Errors: as addrList.
 */
export async function listHostAddresses(connection: NetlinkConnection): Promise<ReadonlySet<string>> {
  const addrs = await addrList(connection);
  return new Set(addrs.map(({ address }) => formatAddr(parseAddr(address.split('/', 1)[0] ?? ''))));
}
