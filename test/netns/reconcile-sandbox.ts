import type { Test } from 'tap';
import type { DriverContext, SandboxPlan } from '../../core/desired/driver.js';
import { driverOf } from '../../core/desired/drivers.js';
import type { Endpoint } from '../../core/model.js';
import { newNetns, type Netns } from './reconcile-fixture.js';

/** Two namespaces that are hosts, with one wire between them: 198.18.0.1 and 198.18.0.2. */
export async function newHostPair(t: Test): Promise<readonly [Netns, Netns]> {
  const hosts = [await newNetns(t, 'h1'), await newNetns(t, 'h2')] as const;
  const [one, two] = hosts;
  one.ip('link', 'add', 'u0', 'mtu', '1500', 'type', 'veth', 'peer', 'name', 'u0', 'netns', two.name, 'mtu', '1500');
  for (const [index, host] of hosts.entries()) {
    host.ip('addr', 'add', `198.18.0.${index + 1}/24`, 'dev', 'u0');
    host.ip('link', 'set', 'u0', 'up');
  }
  return hosts;
}

/** Puts a plan into a namespace by commands, as attach does by netlink. */
function applyPlan(host: Netns, sandbox: Netns, plan: SandboxPlan): void {
  const { link } = plan;
  if (link.kind !== 'veth') throw new Error('only veth here');
  const { peer } = link;
  const peerArgs = ['peer', 'name', peer.ifname, 'address', peer.mac, 'mtu', `${link.mtu}`, 'netns', sandbox.name];
  host.ip('link', 'add', link.name, 'mtu', `${link.mtu}`, 'type', 'veth', ...peerArgs);
  host.ip('link', 'set', link.name, 'alias', link.alias);
  for (const [path, value] of plan.sysctls) sandbox.exec('sysctl', '-q', '-w', `${path.replaceAll('/', '.')}=${value}`);
  for (const { address, nodad } of plan.addrs) {
    sandbox.ip('addr', 'add', address, 'dev', peer.ifname, ...(nodad ? ['nodad'] : []));
  }
  sandbox.ip('link', 'set', peer.ifname, 'up');
  for (const { dst, gateway } of plan.routes) {
    sandbox.ip('route', 'add', dst, ...(gateway === null ? [] : ['via', gateway]), 'dev', peer.ifname);
  }
}

/** Makes a sandbox with an endpoint's interface in it; its other end waits for the reconciler. */
export async function newSandbox(t: Test, host: Netns, ctx: DriverContext, endpoint: Endpoint): Promise<Netns> {
  const sandbox = await newNetns(t, 'sb');
  applyPlan(host, sandbox, driverOf(ctx.network.driver).sandbox(ctx, endpoint, { defaultRouteFamilies: [4, 6] }));
  return sandbox;
}

/** Reports whether an address answers one request within two seconds. */
export function pings(from: Netns, address: string, ...args: string[]): boolean {
  try {
    from.exec('ping', '-c', '1', '-W', '2', ...args, address);
    return true;
  } catch {
    return false;
  }
}

/** How many frames have left by a link so far. */
export function sentFrames(host: Netns, link: string): number {
  const [stats] = host.ipJson('-s', 'link', 'show', 'dev', link);
  const counters = (stats?.['stats64'] ?? stats?.['stats']) as { tx: { packets: number } };
  return counters.tx.packets;
}
