import { both, families } from '../nft/families.js';
import { manySlots, mostExact, stickySlots } from './backend.js';

/**
 * The table of services: `inet tsnet-services`. Frames to a service's address are translated where they come in by the
 * client's bridge, so that the client's own host does all of it and the backend sees the client. Rules are as many for
 * one service as for thousands; a service is an element for each port, and one for each slot of it:
 *
 *     vip4     address, protocol, port → chain for its number of slots
 *     to4      address, protocol, port, slot → backend, port
 */

export const serviceTableName = 'tsnet-services';

/** Equal in shape to lib/nft's. */
export interface ServiceSet {
  readonly name: string;
  readonly key: readonly string[];
  readonly keyOf?: readonly string[];
  readonly value?: readonly string[];
  readonly valueTypeOf?: readonly string[];
  readonly interval?: boolean;
}

export interface ServiceChain {
  readonly name: string;
  readonly hook?: {
    readonly type: 'filter' | 'nat';
    readonly hook: 'prerouting' | 'input' | 'output' | 'postrouting';
    readonly priority: number;
  };
  readonly rules: readonly string[];
}

export interface ServiceTable {
  readonly family: 'inet';
  readonly name: typeof serviceTableName;
  readonly sets: readonly ServiceSet[];
  readonly chains: readonly ServiceChain[];
}

function familySets({ suffix, ip, type }: (typeof families)[number]): ServiceSet[] {
  // nft gives the number of a slot no type by name.
  const slot = { type: 'integer32', expression: 'numgen inc mod 2' };
  const port = ['inet_proto', 'inet_service'];
  const portOf = ['meta l4proto', 'th dport'];
  const target = { value: [type, 'inet_service'], valueTypeOf: [`${ip} daddr`, 'th dport'] };
  return [
    { name: `vips${suffix}`, key: [type] },
    // The bridge that each address is of: sandboxes of other networks are not served.
    { name: `home${suffix}`, key: ['ifname', type] },
    { name: `vip${suffix}`, key: [type, ...port], value: ['verdict'] },
    {
      name: `to${suffix}`,
      key: [type, ...port, slot.type],
      keyOf: [`${ip} daddr`, ...portOf, slot.expression],
      ...target,
    },
    // Ports of the host that lead to a service.
    { name: `pub${suffix}`, key: port, value: ['verdict'] },
    { name: `pub-to${suffix}`, key: [...port, slot.type], keyOf: [...portOf, slot.expression], ...target },
    // Subnet → the host's own address in it.
    { name: `own${suffix}`, key: [type], value: [type], interval: true },
    // Backends of this host as pairs with themselves: what they send to their own service comes back to them.
    { name: `self${suffix}`, key: [type, type] },
    // Backends of other hosts: their replies come back only to an address of this host.
    { name: `remote${suffix}`, key: [type] },
  ];
}

/** The chain that picks one of so many slots. */
export function spreadChain(kind: 'spread' | 'stick' | 'pub-spread' | 'pub-stick', slots: number): string {
  return `${kind}-${slots}`;
}

const hashSeed = '0x74736e74';

function pickChains(slots: number, isSticky: boolean): ServiceChain[] {
  const kind = isSticky ? 'stick' : 'spread';
  const number = isSticky ? `jhash IP saddr mod ${slots} seed ${hashSeed}` : `numgen random mod ${slots}`;
  return [
    {
      name: spreadChain(kind, slots),
      rules: both(`dnat IP to IP daddr . meta l4proto . th dport . ${number} map @to#`),
    },
    {
      name: spreadChain(`pub-${kind}`, slots),
      rules: both(`dnat IP to meta l4proto . th dport . ${number} map @pub-to#`),
    },
  ];
}

const published = families.map(
  ({ suffix }) => `meta nfproto ipv${suffix} fib daddr type local meta l4proto . th dport vmap @pub${suffix}`,
);

const toServices = [
  ...both(
    'IP daddr . meta l4proto . th dport vmap @vip#',
    // What a service does not serve is not for ports of the host either: it stays as it is, and is refused below.
    'IP daddr @vips# dnat IP to IP daddr',
  ),
  ...published,
];

/** The whole table but for elements. */
export const serviceTable: ServiceTable = {
  family: 'inet',
  name: serviceTableName,
  sets: families.flatMap(familySets),
  chains: [
    ...Array.from({ length: mostExact }, (_, at) => pickChains(at + 1, false)).flat(),
    ...pickChains(manySlots, false),
    ...pickChains(stickySlots, true),
    ...pickChains(manySlots, true),
    {
      name: 'nat-in',
      hook: { type: 'nat', hook: 'prerouting', priority: -110 },
      rules: [
        ...both('IP daddr @vips# iifname . IP daddr != @home# return'),
        // It comes before the kernel's own check of addresses that have no business on the wire.
        'ip daddr 127.0.0.0/8 return',
        'ip6 daddr ::1 return',
        ...toServices,
      ],
    },
    {
      name: 'nat-out',
      hook: { type: 'nat', hook: 'output', priority: -110 },
      // No answer would come back to it, as there is no route_localnet for IPv6: refused, not left waiting.
      rules: ['ip6 daddr ::1 return', ...toServices],
    },
    {
      name: 'input',
      hook: { type: 'filter', hook: 'input', priority: -6 },
      rules: [
        // The host's own connection to a service begins at the service's address: its answers come to there.
        'ct direction reply accept',
        ...both(
          'IP daddr @vips# meta l4proto tcp reject with tcp reset',
          'IP daddr @vips# meta l4proto { udp, sctp } reject',
        ),
      ],
    },
    {
      name: 'nat-post',
      hook: { type: 'nat', hook: 'postrouting', priority: 90 },
      rules: both(
        // The host itself, which took the service's address for its own.
        'IP saddr @vips# snat IP to IP daddr map @own#',
        'IP saddr . IP daddr @self# ct status dnat snat IP to IP daddr map @own#',
        // All others keep their address, whatever chains after this one say of translated connections.
        'ct original IP daddr @vips# snat IP to IP saddr',
        'ct status dnat IP daddr @remote# snat IP to IP daddr map @own#',
      ),
    },
  ],
};
