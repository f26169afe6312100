import { ipBatch, netnsAdd } from './netns.js';

/**
 * The wire between hosts: a bridge in a namespace of its own, a veth to each machine's `eth0`, and a router
 * at .1 that also answers as "the outside" at 198.19.255.1.
 *
 *     [h1 eth0 198.18.0.11]──h1─┐
 *     [h2 eth0 198.18.0.12]──h2─┤ lan (bridge) 198.18.0.1
 *     [ctl eth0 198.18.0.2]─ctl─┘
 */
export const underlayAddress = (number: number): string => `198.18.0.${number}`;
export const underlayAddress6 = (number: number): string => `2001:db8:18::${number}`;
export const outsideAddress = '198.19.255.1';

const routerNumber = 1;

/** Makes the bridge and the router. */
export async function newUnderlay(prefix: string): Promise<string> {
  const lan = `${prefix}lan`;
  await netnsAdd(lan);
  await ipBatch(lan, [
    'link add lan type bridge',
    // Multicast is flooded as by a switch without snooping; no querier is needed.
    'link set lan type bridge mcast_snooping 0',
    `addr add ${underlayAddress(routerNumber)}/24 dev lan`,
    `addr add ${underlayAddress6(routerNumber)}/64 dev lan nodad`,
    `addr add ${outsideAddress}/32 dev lo`,
    'link set lan up',
  ]);
  return lan;
}

export interface MachineOptions {
  readonly prefix: string;
  readonly name: string;
  readonly number: number;
  readonly mtu: number;
}

/** Makes a machine: a namespace whose eth0 is on the wire. Its name. */
export async function newMachine(options: MachineOptions): Promise<string> {
  const { prefix, name, number, mtu } = options;
  const [lan, netns] = [`${prefix}lan`, `${prefix}${name}`];
  await netnsAdd(netns);
  await ipBatch(lan, [
    `link add ${name} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${netns}`,
    `link set ${name} master lan up`,
  ]);
  await ipBatch(netns, [
    `addr add ${underlayAddress(number)}/24 dev eth0`,
    `addr add ${underlayAddress6(number)}/64 dev eth0 nodad`,
    'link set eth0 up',
    `route add default via ${underlayAddress(routerNumber)}`,
    `route add default via ${underlayAddress6(routerNumber)}`,
  ]);
  return netns;
}
