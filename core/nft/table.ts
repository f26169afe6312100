import type { PortProtocol } from '../model.js';

/**
 * The table of a host: `inet tsnet`. Rules are few and never change with records; records are
 * elements of sets and maps, so that neither a packet nor a change pays for how many there are.
 *
 * The path of a packet from outside to a published port:
 *
 *     prerouting (nat)   an address of the host, port in one of the maps → the endpoint
 *     forward            translated by a published port → accepted, else dropped
 *     postrouting (nat)  source kept, or the host's own address in the network (see `toward-sandbox`)
 *
 * Marks: 0x1000 is set on packets of ours that were accepted, for the one rule in DOCKER-USER.
 */

/** A set; with `value` a map. */
export interface TableSet {
  readonly name: SetName;
  readonly key: readonly string[];
  readonly value?: readonly string[];
  readonly interval?: boolean;
}

export interface TableChain {
  readonly name: string;
  readonly hook?: {
    readonly type: 'filter' | 'nat';
    readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';
    readonly priority: number;
  };
  readonly rules: readonly string[];
}

/** Equal in shape to lib/nft's table. */
export interface Table {
  readonly family: 'inet';
  readonly name: 'tsnet';
  readonly sets: readonly TableSet[];
  readonly chains: readonly TableChain[];
}

const families = [
  { suffix: '4', ip: 'ip', type: 'ipv4_addr' },
  { suffix: '6', ip: 'ip6', type: 'ipv6_addr' },
] as const;

type PerFamily =
  | 'nets'
  | 'own'
  | 'same'
  | 'masq'
  | 'source'
  | 'port'
  | `range-${PortProtocol}`
  | 'port-at'
  | 'range-at'
  | 'detour'
  | 'crossed'
  | 'vteps'
  | 'guarded';

/** Sets by name; those of addresses exist once for each family. */
export type SetName =
  | 'links'
  | 'open'
  | 'joined'
  | 'routed'
  | 'passing'
  | 'guarded-ports'
  | 'apart'
  | 'closed'
  | `${PerFamily}${'4' | '6'}`;

const portKey = ['inet_proto', 'inet_service'] as const;
const protocols: readonly PortProtocol[] = ['tcp', 'udp', 'sctp'];

function familySets({ suffix, type }: (typeof families)[number]): TableSet[] {
  return [
    // Subnets of all networks of the cluster, but for those of macvlan, which are the LAN's.
    { name: `nets${suffix}`, key: [type], interval: true },
    // Subnet → the host's own address in it.
    { name: `own${suffix}`, key: [type], value: [type], interval: true },
    // Pairs of subnets of one network.
    { name: `same${suffix}`, key: [type, type], interval: true },
    // Subnets whose traffic to outside all networks leaves from an address of the host.
    { name: `masq${suffix}`, key: [type], interval: true },
    // Subnet → the address of the host that it leaves from, where one was chosen that the host has.
    { name: `source${suffix}`, key: [type], value: [type], interval: true },
    // Single and shifted ports, ranges that keep their numbers; on all addresses and on one.
    { name: `port${suffix}`, key: portKey, value: [type, 'inet_service'] },
    // Of one part each: the kernel keeps ranges of several parts in a structure where each that goes costs a walk of all.
    ...protocols.map((protocol): TableSet => {
      return { name: `range-${protocol}${suffix}`, key: ['inet_service'], value: [type], interval: true };
    }),
    { name: `port-at${suffix}`, key: [type, ...portKey], value: [type, 'inet_service'] },
    { name: `range-at${suffix}`, key: [type, ...portKey], value: [type], interval: true },
    // Endpoints whose replies do not come back through this host by themselves: never, and to other networks.
    { name: `detour${suffix}`, key: [type] },
    { name: `crossed${suffix}`, key: [type] },
    { name: `vteps${suffix}`, key: [type] },
    // What no sandbox may reach, besides VTEPs: controllers and their store.
    { name: `guarded${suffix}`, key: [type, 'inet_service'] },
  ];
}

const sets: readonly TableSet[] = [
  // Bridges of the networks that this host carries, and those of them that have a way out.
  { name: 'links', key: ['ifname'] },
  { name: 'open', key: ['ifname'] },
  // Which may talk to which: each to itself, since br_netfilter shows bridged packets to these chains too.
  { name: 'joined', key: ['ifname', 'ifname'] },
  // Pairs of bridges whose networks route to each other.
  { name: 'routed', key: ['ifname', 'ifname'] },
  // Bridges of Docker's containers: what goes there is for Docker's rules to decide, not for the mark.
  { name: 'apart', key: ['ifname'] },
  // Bridges of others, each with itself.
  { name: 'passing', key: ['ifname', 'ifname'] },
  // Ports of what must not be reached and is on this host, on whatever address.
  { name: 'guarded-ports', key: ['inet_service'] },
  // Families whose forwarding is on for our sake only.
  { name: 'closed', key: ['nf_proto'] },
  ...families.flatMap(familySets),
];

/** Both families' version of some rules: `IP`, `#` (4 or 6) and `TYPE` stand for what differs. */
const both = (...rules: readonly string[]): string[] =>
  rules.flatMap((rule) => families.map(({ suffix, ip }) => rule.replaceAll('IP', ip).replaceAll('#', suffix)));

export interface TableOptions {
  /** UDP port of every VXLAN device of the cluster. */
  readonly vxlanPort: number;
}

/** Mark of accepted packets, for a rule in another table. */
export const acceptedMark = 0x1000;

/** Our VNIs are 2^23 and up, which keeps the rules off other users of the same UDP port (RFC 7348 §5: bits 32–55 after the UDP header). */
const ourVni = '@th,96,8 & 0x80 == 0x80';

/** The whole table but for elements. */
export function newTable({ vxlanPort }: TableOptions): Table {
  const vxlan = `udp dport ${vxlanPort}`;
  return {
    family: 'inet',
    name: 'tsnet',
    sets,
    chains: [
      {
        name: 'raw-in',
        hook: { type: 'filter', hook: 'prerouting', priority: -300 },
        rules: ['iifname @links goto raw-from-sandbox', `${vxlan} ${ourVni} goto raw-from-vtep`],
      },
      {
        name: 'raw-from-sandbox',
        rules: [
          // route_localnet is on for these links: nothing of 127/8 may come in by them.
          'ip daddr 127.0.0.0/8 counter drop',
          'ip saddr 127.0.0.0/8 counter drop',
          'ip hdrlength > 5 goto raw-options',
        ],
      },
      {
        name: 'raw-options',
        rules: [
          // A route that the sender chose would be looked up behind all of this (RFC 791 §3.1).
          'ip option lsrr exists counter drop',
          'ip option ssrr exists counter drop',
        ],
      },
      { name: 'raw-from-vtep', rules: both('IP saddr @vteps# notrack') },
      {
        name: 'raw-out',
        hook: { type: 'filter', hook: 'output', priority: -300 },
        rules: [`${vxlan} ${ourVni} goto raw-to-vtep`],
      },
      { name: 'raw-to-vtep', rules: both('IP daddr @vteps# notrack') },
      {
        name: 'nat-in',
        hook: { type: 'nat', hook: 'prerouting', priority: -100 },
        rules: [
          // It comes before the kernel's own check of addresses that have no business on the wire.
          'ip daddr 127.0.0.0/8 return',
          'ip6 daddr ::1 return',
          'fib daddr type local jump published',
        ],
      },
      {
        name: 'nat-out',
        hook: { type: 'nat', hook: 'output', priority: -100 },
        rules: [
          // No answer would come back to it, as there is no route_localnet for IPv6: refused, not left waiting.
          'ip6 daddr ::1 return',
          'fib daddr type local jump published',
        ],
      },
      {
        name: 'published',
        rules: both(
          'dnat IP to IP daddr . meta l4proto . th dport map @port-at#',
          'dnat IP to meta l4proto . th dport map @port#',
          'dnat IP to IP daddr . meta l4proto . th dport map @range-at#',
          ...protocols.map((protocol) => `dnat IP to ${protocol} dport map @range-${protocol}#`),
        ),
      },
      {
        name: 'input',
        hook: { type: 'filter', hook: 'input', priority: -5 },
        // From a sandbox none is accepted, whoever it says it is.
        rules: ['iifname @links goto to-host', `${vxlan} ${ourVni} goto from-vtep`],
      },
      { name: 'from-vtep', rules: both('IP saddr != @vteps# counter drop') },
      {
        name: 'to-host',
        rules: [
          `${vxlan} counter drop`,
          // Replies to what the host began by a published port are translated back by now.
          'ip daddr 127.0.0.0/8 ct state { new, invalid, untracked } counter drop',
          'tcp dport @guarded-ports counter drop',
          ...both(
            'IP daddr . th dport @guarded# counter drop',
            // Only the network's own gateway and host address are local to its bridge.
            'IP daddr @nets# fib daddr . iif type != { local, broadcast, multicast } counter drop',
          ),
        ],
      },
      {
        name: 'forward',
        hook: { type: 'filter', hook: 'forward', priority: -5 },
        rules: [
          'iifname @links goto from-sandbox',
          'oifname @links goto to-sandbox',
          // With bridge-nf-call-iptables, what a bridge of others merely passes on comes by here too, as from and to it.
          'iifname . oifname @passing return',
          'meta nfproto @closed counter drop',
        ],
      },
      {
        name: 'from-sandbox',
        rules: [
          'iifname . oifname @joined goto accepted',
          // Sources that are not of this link's networks.
          'fib saddr . iif oif missing counter drop',
          `${vxlan} counter drop`,
          ...both('IP daddr . th dport @guarded# counter drop'),
          // Wherever it goes: most packets of published ports are looked up no further.
          'ct status dnat ct state established,related goto accepted',
          'oifname @links goto across',
          // To a network that this host does not carry.
          ...both('IP daddr @nets# goto translated'),
          'ct state established,related goto accepted',
          'ct state invalid counter drop',
          'iifname != @open counter drop',
          'oifname @apart accept',
          'goto accepted',
        ],
      },
      {
        name: 'across',
        rules: [
          // Stateless: where the sandboxes are on different hosts, each host sees one direction only.
          'iifname . oifname @routed goto accepted',
          'goto translated',
        ],
      },
      {
        name: 'translated',
        rules: [
          // Not by being established alone: what was so while two networks were joined ends with it.
          'iifname @open ct status dnat goto accepted',
          'counter drop',
        ],
      },
      {
        name: 'to-sandbox',
        rules: ['ct state established,related goto accepted', 'ct status dnat goto accepted', 'counter drop'],
      },
      { name: 'accepted', rules: [`meta mark set meta mark | ${hex(acceptedMark)} accept`] },
      {
        name: 'nat-post',
        hook: { type: 'nat', hook: 'postrouting', priority: 100 },
        rules: [
          'oifname @links goto toward-sandbox',
          ...both(
            'IP daddr != @nets# snat IP to IP saddr map @source#',
            'IP saddr @masq# IP daddr != @nets# masquerade',
          ),
        ],
      },
      {
        name: 'toward-sandbox',
        rules: [
          'ct status & dnat != dnat return',
          ...both('IP daddr @detour# snat IP to IP daddr map @own#'),
          'ip saddr 127.0.0.0/8 snat ip to ip daddr map @own4',
          ...both(
            // All others of the outside keep their address.
            'IP saddr != @nets# return',
            // Back to the network that it came from, its own endpoint included: replies would go past this host.
            // By addresses, since br_netfilter tells this chain nothing of where a packet came in.
            'IP saddr . IP daddr @same# snat IP to IP daddr map @own#',
            'IP daddr @crossed# snat IP to IP daddr map @own#',
          ),
        ],
      },
    ],
  };
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
