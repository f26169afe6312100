import { readFile } from 'node:fs/promises';
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import { isIP } from 'node:net';
import { TsnetError } from '../core/errors.js';

/** The interface that carries VXLAN, and the address that is this host's VTEP. */
export interface Underlay {
  readonly iface: string;
  readonly vtep: string;
  readonly mtu: number;
}

/**
 * Finds the underlay: by interface name, by address, or by the default route.
 * Equivalent to: `ip route show default`, `ip addr show dev $iface`
 * Errors: ERR_UNDERLAY_UNKNOWN, naming what was looked for.
 */
export async function findUnderlay(
  wanted: string | null,
  readMtu: (iface: string) => Promise<number>,
): Promise<Underlay> {
  const name = wanted ?? (await defaultRouteInterface());
  if (name === null) {
    throw new TsnetError('ERR_UNDERLAY_UNKNOWN', 'this host has no default route to tell the underlay interface by');
  }
  const found = isIP(name) === 0 ? byInterface(name) : byAddress(name);
  if (found === null) {
    throw new TsnetError('ERR_UNDERLAY_UNKNOWN', `no interface of this host is, or has the address, "${name}"`, {
      details: { underlay: name },
    });
  }
  return { ...found, mtu: await readMtu(found.iface) };
}

function byInterface(iface: string): { iface: string; vtep: string } | null {
  const addrs = networkInterfaces()[iface]?.filter(isUsable) ?? [];
  const chosen = addrs.find((addr) => addr.family === 'IPv4') ?? addrs[0];
  return chosen === undefined ? null : { iface, vtep: chosen.address };
}

function byAddress(address: string): { iface: string; vtep: string } | null {
  for (const [iface, addrs] of Object.entries(networkInterfaces())) {
    if (addrs?.some((addr) => addr.address === address) === true) return { iface, vtep: address };
  }
  return null;
}

const isUsable = (addr: NetworkInterfaceInfo): boolean => !addr.internal && !addr.address.startsWith('fe80:');

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
