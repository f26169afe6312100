import type { Lab } from './lab.js';
import { enterArgs, netnsPath } from './netns.js';
import { execIn, listenIn, mustExecIn, type Sandbox } from './sandbox.js';

/** A namespace of the lab that is no container: a host (`h1`), the controllers' machine (`ctl`), or the router (`lan`). */
export function place(lab: Lab, name: string): Sandbox {
  const netns = `${lab.prefix}${name}`;
  return { name, target: `netns:${netnsPath(netns)}`, enter: enterArgs(netnsPath(netns)) };
}

/** A host's own addresses in a network: those of its bridge that are not the gateways; of each family. */
export async function ownAddresses(
  host: Sandbox,
  network: { readonly id: string; readonly subnets: readonly { readonly gateway: string | null }[] },
): Promise<Readonly<Record<4 | 6, string>>> {
  const text = await mustExecIn(host, 'ip', '-j', 'addr', 'show', 'dev', `tsb-${network.id}`);
  const [link] = JSON.parse(text) as { addr_info: { local: string; scope: string }[] }[];
  const gateways = network.subnets.map(({ gateway }) => gateway);
  const own = (link?.addr_info ?? []).filter(({ local, scope }) => scope === 'global' && !gateways.includes(local));
  const of = (isInet6: boolean): string => own.find(({ local }) => local.includes(':') === isInet6)?.local ?? '';
  return { 4: of(false), 6: of(true) };
}

/** Reports whether a TCP connection is accepted within a second: for what is not to be. */
export async function connects(from: Sandbox, address: string, port: number, patienceSec = 1): Promise<boolean> {
  const open = `exec 3<>/dev/tcp/${address}/${port}`;
  return (await execIn(from, 'busybox', 'timeout', String(patienceSec), 'bash', '-c', open)).status === 0;
}

/** The same for what is to be accepted, which may take its time on a busy machine. */
export function isOpen(from: Sandbox, address: string, port: number): Promise<boolean> {
  return connects(from, address, port, 10);
}

/** The address that one place sees another's datagrams come from. */
export async function seenAs(from: Sandbox, at: Sandbox, address: string, port: number): Promise<unknown> {
  const server = await listenIn(at, 'listen-group', address.includes(':') ? '::' : '0.0.0.0', port, 'lan');
  const client = await listenIn(from, 'send-group', address, port, 'eth0', 'who am I');
  try {
    return await server.expect('from');
  } finally {
    await client.end();
    await server.end();
  }
}
