import { parseAddr, type Addr } from '../addr.js';
import { vethName } from '../ids.js';
import type { Endpoint, Network } from '../model.js';
import type { TableChain } from './chain.js';

/**
 * The table `bridge tsnet-origin`: an endpoint sends from its own MAC and addresses only. A port of which nothing is
 * known yet sends nothing. Like the host's other table it has few rules, and elements for records.
 */
export const originTableName = 'tsnet-origin';

type OriginSetName = 'macs' | 'bound4' | 'bound6' | 'targets6' | 'free';

/** A set of the table. */
export interface OriginSet {
  readonly name: OriginSetName;
  readonly key: readonly string[];
  readonly keyOf?: readonly string[];
}

/** Equal in shape to lib/nft's table. */
export interface OriginTable {
  readonly family: 'bridge';
  readonly name: typeof originTableName;
  readonly sets: readonly OriginSet[];
  readonly chains: readonly TableChain[];
}

/** An element of one of the table's sets; equal in shape to lib/nft's. */
export interface OriginElement {
  readonly set: OriginSetName;
  readonly key: string;
}

const port = ['ifname', 'ether_addr'] as const;
/** Target address of a neighbour solicitation or advertisement (RFC 4861 §4.3, §4.4). */
const target = '@th,64,128';

/** The whole table but for elements. */
export function newOriginTable(): OriginTable {
  return {
    family: 'bridge',
    name: originTableName,
    sets: [
      { name: 'macs', key: port },
      { name: 'bound4', key: [...port, 'ipv4_addr'] },
      { name: 'bound6', key: [...port, 'ipv6_addr'] },
      // The same addresses as numbers: a part of a packet that has no name here has no other type.
      { name: 'targets6', key: [...port, 'integer128'], keyOf: ['iifname', 'ether saddr', target] },
      // Endpoints that may send what they like.
      { name: 'free', key: ['ifname'] },
    ],
    chains: [
      {
        name: 'origin',
        hook: { type: 'filter', hook: 'prerouting', priority: -300 },
        rules: ['iifname "tsv-*" iifname != @free goto from-endpoint'],
      },
      {
        name: 'from-endpoint',
        rules: [
          // These look up the MAC together with the address.
          'ether type ip goto from4',
          'ether type ip6 goto from6',
          'iifname . ether saddr != @macs counter drop',
          'ether type arp goto from-arp',
          // A tag would hide all of this.
          'ether type { 8021q, 8021ad } counter drop',
        ],
      },
      {
        name: 'from-arp',
        rules: [
          'iifname . arp saddr ether . arp saddr ip @bound4 accept',
          // A probe (RFC 5227 §2.1.1).
          'arp saddr ip 0.0.0.0 iifname . arp saddr ether . arp daddr ip @bound4 accept',
          'counter drop',
        ],
      },
      {
        name: 'from4',
        rules: [
          'iifname . ether saddr . ip saddr != @bound4 counter drop',
          // What clients of DHCP listen to; not all of them look at the port that it is from.
          'udp dport 68 counter drop',
        ],
      },
      {
        name: 'from6',
        rules: [
          'icmpv6 type { nd-router-advert, nd-redirect } counter drop',
          // No port is prescribed that it is from (RFC 8415 §7.2).
          'udp dport 546 counter drop',
          `icmpv6 type nd-neighbor-advert iifname . ether saddr . ${target} != @targets6 counter drop`,
          'iifname . ether saddr . ip6 saddr @bound6 accept',
          // Duplicate address detection (RFC 4862 §5.4.2), and what is said before an address is had (RFC 3810 §5.2.13).
          `ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . ether saddr . ${target} @targets6 accept`,
          'iifname . ether saddr != @macs counter drop',
          'ip6 saddr :: icmpv6 type { mld-listener-report, mld2-listener-report, nd-router-solicit } accept',
          'counter drop',
        ],
      },
    ],
  };
}

/** The link-local address that a MAC gives. Source: RFC 4291 §2.5.1, appendix A. */
export function linkLocalOf(mac: string): string {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac.split(':').map((byte) => Number.parseInt(byte, 16));
  const hex = (high: number, low: number): string => ((high << 8) | low).toString(16);
  return `fe80::${hex(a ^ 2, b)}:${hex(c, 0xff)}:${hex(0xfe, d)}:${hex(e, f)}`;
}

/** Endpoints with this label and value send what they like. */
export const freeLabel = { key: 'tsnet.antispoof', value: 'off' } as const;

/** Reports whether an endpoint is held to its own addresses: unless its network or its label says otherwise. */
export function isBound(network: Pick<Network, 'options'>, endpoint: Pick<Endpoint, 'labels'>): boolean {
  return network.options['antispoof'] !== 'false' && endpoint.labels[freeLabel.key] !== freeLabel.value;
}

const hexOf = ({ value }: Addr): string => `0x${value.toString(16).padStart(32, '0')}`;

/** What an endpoint of this host may send from. */
export function originElements(
  network: Pick<Network, 'driver' | 'options'>,
  endpoint: Pick<Endpoint, 'id' | 'mac' | 'addresses' | 'labels'>,
): OriginElement[] {
  if (network.driver === 'macvlan') return [];
  const ifname = `"${vethName(endpoint.id)}"`;
  if (!isBound(network, endpoint)) return [{ set: 'free', key: ifname }];
  const own = `${ifname} . ${endpoint.mac}`;
  const elements: OriginElement[] = [{ set: 'macs', key: own }];
  for (const text of [...endpoint.addresses, linkLocalOf(endpoint.mac)]) {
    const addr = parseAddr(text);
    elements.push({ set: `bound${addr.family}`, key: `${own} . ${text}` });
    if (addr.family === 6) elements.push({ set: 'targets6', key: `${own} . ${hexOf(addr)}` });
  }
  return elements;
}
