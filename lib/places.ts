import { lookup } from 'node:dns/promises';
import { networkInterfaces } from 'node:os';
import { canonicalAddr, isLinkLocal, isLoopback, isUnspecified, parseAddr } from '../core/addr.js';

/** An address and port that something listens on. */
export interface Place {
  readonly address: string;
  readonly port: number;
}

const resolveName = async (name: string): Promise<readonly string[]> =>
  (await lookup(name, { all: true })).map(({ address }) => address);

/**
 * Addresses and ports of URLs, or of `HOST:PORT`; names are looked up, those that have no address are left out, and so
 * are sockets of files.
 */
export async function placesOf(
  urls: readonly string[],
  resolve: (name: string) => Promise<readonly string[]> = resolveName,
): Promise<Place[]> {
  const places: Place[] = [];
  for (const text of urls) {
    const url = text.includes('://') ? text : `http://${text}`;
    if (!URL.canParse(url) || /^unixs?:/.test(text)) continue;
    const { hostname, port, protocol } = new URL(url);
    const name = hostname.replace(/^\[(.*)\]$/, '$1');
    const isAddress = name.includes(':') || /^[0-9.]+$/.test(name);
    const addresses = isAddress ? [name] : await resolve(name).catch(() => []);
    const assumed = protocol === 'https:' ? 443 : 80;
    for (const address of addresses)
      places.push({ address: canonicalAddr(address), port: port === '' ? assumed : Number(port) });
  }
  return places;
}

/**
 * Where other machines could reach what listens at some places: not by loopback, and by each address of this machine
 * where it listens on all.
 */
export function reachablePlaces(places: readonly Place[]): Place[] {
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const onNetwork = ({ address }: { readonly address: string }): boolean => {
    const addr = parseAddr(address);
    return !isLoopback(addr) && !isLinkLocal(addr);
  };
  return places
    .filter(({ port }) => port > 0)
    .flatMap(({ address, port }) => {
      if (!isUnspecified(parseAddr(address))) return [{ address, port }];
      const family = address.includes(':') ? ['IPv6', 'IPv4'] : ['IPv4'];
      return own.filter((each) => family.includes(each.family)).map((each) => ({ address: each.address, port }));
    })
    .filter(onNetwork);
}
