import { containsAddr, parseAddr, parsePrefix, type Addr, type Family, type Prefix } from '../addr.js';
import { joinedMetric } from '../join.js';
import type { KernelNeigh, KernelObject } from '../kernel.js';
import type { Network } from '../model.js';
import type { DriverContext, SandboxAddr, SandboxOptions, SandboxRoute } from './driver.js';

/** One subnet with its texts read. */
export interface SubnetView {
  readonly text: string;
  readonly prefix: Prefix;
  readonly family: Family;
  readonly gateway: string | null;
}

const read = new WeakMap<Network, readonly SubnetView[]>();

/** The subnets of a network, read once: each attach looks at them several times. */
export function subnetsOf(network: Network): readonly SubnetView[] {
  const known = read.get(network);
  if (known !== undefined) return known;
  const subnets = network.subnets.map(({ subnet, gateway }) => {
    const prefix = parsePrefix(subnet);
    return { text: subnet, prefix, family: prefix.family, gateway };
  });
  read.set(network, subnets);
  return subnets;
}

/** The first of some addresses that lies in a subnet; null where none does. */
export function addressIn(subnet: SubnetView, addresses: readonly string[]): string | null {
  return addresses.find((text) => containsAddr(subnet.prefix, parseAddr(text))) ?? null;
}

const allAddresses: Readonly<Record<Family, string>> = { 4: '0.0.0.0/0', 6: '::/0' };

/** The prefix of one address alone: /32 or /128. */
export function hostPrefix(addr: string): string {
  const { family }: Addr = parseAddr(addr);
  return `${addr}/${family === 4 ? 32 : 128}`;
}

/** Permanent neighbours for some addresses behind one MAC. */
export function neighsOf(link: string, addresses: readonly string[], mac: string): KernelNeigh[] {
  return addresses.map((address) => ({ kind: 'neigh', link, address, mac }));
}

/**
 * Gateway and host addresses on a bridge, and what the host speaks from.
 *
 * The gateway's address is the same on every host; sent from there, the host's own packets would teach
 * remote sandboxes a gateway that is not theirs, and replies would end on another host. So the kernel
 * adds no route of its own for any of these addresses, and one route per subnet names the host's
 * address as source. The gateway's has the full length: of two IPv4 addresses with one prefix the kernel makes the
 * second dependent on the first, and which one that is would depend on the order of repairs. An IPv6 source is also chosen where no route says it (by a socket bound to the
 * link), therefore that gateway is deprecated.
 */
export function bridgeAddrs(ctx: DriverContext, link: string): KernelObject[] {
  const objects: KernelObject[] = [];
  for (const subnet of subnetsOf(ctx.network)) {
    const own = addressIn(subnet, ctx.self.addresses);
    if (own !== null)
      objects.push({ kind: 'addr', link, address: `${own}/${subnet.prefix.length}`, deprecated: false });
    if (subnet.gateway !== null) {
      objects.push({ kind: 'addr', link, address: hostPrefix(subnet.gateway), deprecated: subnet.family === 6 });
    }
    if (own !== null || subnet.gateway !== null) {
      objects.push({ kind: 'route', dst: subnet.text, link, source: own });
    }
  }
  return objects;
}

/** Addresses of an endpoint's interface. */
export function sandboxAddrs(network: Network, addresses: readonly string[]): SandboxAddr[] {
  return subnetsOf(network).flatMap((subnet) => {
    const own = addressIn(subnet, addresses);
    return own === null ? [] : [{ address: `${own}/${subnet.prefix.length}`, nodad: subnet.family === 6 }];
  });
}

/**
 * Routes of an endpoint's interface: every other subnet of a family that it has an address of is on
 * the same link, and of each family the first gateway among its own subnets is the way out.
 */
export function sandboxRoutes(
  network: Network,
  addresses: readonly string[],
  defaultFamilies: readonly Family[],
): SandboxRoute[] {
  const subnets = subnetsOf(network);
  const own = subnets.filter((subnet) => addressIn(subnet, addresses) !== null);
  const routes: SandboxRoute[] = subnets
    .filter((subnet) => !own.includes(subnet) && own.some(({ family }) => family === subnet.family))
    .map((subnet) => ({ dst: subnet.text, gateway: null }));
  if (network.internal) return routes;
  for (const family of defaultFamilies) {
    const through = own.find((subnet) => subnet.family === family && subnet.gateway !== null);
    if (through !== undefined) routes.push({ dst: allAddresses[family], gateway: through.gateway });
  }
  return routes;
}

/**
 * Routes to joined networks, by the gateway, for families whose default route does not lead there anyway. Where the
 * sandbox has a link in that network as well, the link's own route wins by its metric.
 */
export function joinedRoutes(
  ctx: Pick<DriverContext, 'network' | 'joined'>,
  addresses: readonly string[],
  defaultFamilies: readonly Family[],
): SandboxRoute[] {
  const own = subnetsOf(ctx.network).filter((subnet) => addressIn(subnet, addresses) !== null);
  return (ctx.joined ?? []).flatMap(subnetsOf).flatMap(({ text, family }) => {
    if (defaultFamilies.includes(family)) return [];
    const gateway = own.find((subnet) => subnet.family === family && subnet.gateway !== null)?.gateway;
    return gateway === undefined || gateway === null ? [] : [{ dst: text, gateway, metric: joinedMetric }];
  });
}

/**
 * Settings of the sandbox's interface. Without `accept_ra=0` any endpoint could give another one a
 * default route and addresses by a router advertisement; runtimes that turn IPv6 off for sandboxes in
 * general get it back on this interface, where an IPv6 address would be refused otherwise.
 */
export function sandboxSysctls(
  ifname: string,
  addrs: readonly SandboxAddr[],
  options: SandboxOptions,
): (readonly [string, string])[] {
  if (options.kernelHasIpv6 === false) return [];
  const base = `net/ipv6/conf/${ifname}`;
  const hasIpv6 = addrs.some(({ address }) => address.includes(':'));
  const acceptRa = [`${base}/accept_ra`, '0'] as const;
  return hasIpv6 ? [[`${base}/disable_ipv6`, '0'], acceptRa] : [acceptRa];
}
