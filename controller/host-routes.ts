import { readFile } from 'node:fs/promises';
import type { Prefix } from '../core/addr.js';

/** Destinations of this machine's own routes, default routes left out. Equivalent to: `ip route`, `ip -6 route`. */
export async function readHostRoutes(): Promise<readonly Prefix[]> {
  const [four, six] = await Promise.all([
    readFile('/proc/net/route', 'utf8').catch(() => ''),
    readFile('/proc/net/ipv6_route', 'utf8').catch(() => ''),
  ]);
  return [...parseRoutes4(four), ...parseRoutes6(six)];
}

const flagUp = 1;

/** Source: net/ipv4/fib_trie.c, fib_route_seq_show: destination and mask in hexadecimal as the host orders bytes. */
export function parseRoutes4(text: string): Prefix[] {
  const prefixes: Prefix[] = [];
  for (const line of text.split('\n').slice(1)) {
    const [link, destination, , flags, , , , mask] = line.trim().split(/\s+/);
    if (isOwnLink(link ?? '')) continue;
    if (destination === undefined || mask === undefined || (Number.parseInt(flags ?? '0', 16) & flagUp) === 0) continue;
    const length = [...BigInt(`0x${mask}`).toString(2)].filter((bit) => bit === '1').length;
    if (length > 0) prefixes.push({ family: 4, base: BigInt(`0x${swapBytes(destination)}`), length });
  }
  return prefixes;
}

/** Source: net/ipv6/route.c, rt6_info_route: destination and prefix length in hexadecimal. */
export function parseRoutes6(text: string): Prefix[] {
  const prefixes: Prefix[] = [];
  for (const line of text.split('\n')) {
    const columns = line.trim().split(/\s+/);
    const [destination, lengthText] = columns;
    if (isOwnLink(columns.at(-1) ?? '')) continue;
    if (destination?.length !== 32 || lengthText === undefined) continue;
    const length = Number.parseInt(lengthText, 16);
    // Every machine has these; no pool and no sensible subnet lies in them.
    const isLocal = destination.startsWith('fe8') || destination.startsWith('ff');
    if (length > 0 && !isLocal) prefixes.push({ family: 6, base: BigInt(`0x${destination}`), length });
  }
  return prefixes;
}

// Routes of tsnet's own links belong to networks, which are looked at by themselves, or to one that is just being removed.
function isOwnLink(name: string): boolean {
  return /^ts[bxm]-/.test(name);
}

function swapBytes(hex: string): string {
  return Buffer.from(hex, 'hex').reverse().toString('hex');
}
