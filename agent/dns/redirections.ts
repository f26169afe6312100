import type { TableElement } from '../../core/nft/element.js';
import type { DnsPlace } from './protocol.js';

const dnsPort = 53;

/** Leads port 53 of an address to where is listened, where another program has that port. */
export function redirections(places: readonly DnsPlace[]): TableElement[] {
  return places
    .filter(({ port }) => port !== dnsPort)
    .map(({ address, protocol, port }) => ({
      set: address.includes(':') ? 'port-at6' : 'port-at4',
      key: `${address} . ${protocol} . ${dnsPort}`,
      value: `${address} . ${port}`,
    }));
}
