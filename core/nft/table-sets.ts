import type { PortProtocol } from '../model.js';
import { families } from './families.js';

/** A set; with `value` a map. */
export interface TableSet {
  readonly name: SetName;
  readonly key: readonly string[];
  readonly value?: readonly string[];
  readonly interval?: boolean;
}

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
/** The protocols that ports are published for. */
export const portProtocols: readonly PortProtocol[] = ['tcp', 'udp', 'sctp'];

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
    ...portProtocols.map((protocol): TableSet => {
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

/** The sets and maps of a host's table. */
export const tableSets: readonly TableSet[] = [
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
