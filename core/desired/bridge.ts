import { bridgeName, markOf, vethName } from '../ids.js';
import type { KernelObject } from '../kernel.js';
import { macForBridge, macForVeth } from '../mac.js';
import type { Endpoint } from '../model.js';
import type { Driver, DriverContext, SandboxOptions, SandboxPlan } from './driver.js';
import { featureTable } from './feature.js';
import { bridgeAddrs, joinedRoutes, neighsOf, sandboxAddrs, sandboxRoutes, sandboxSysctls } from './subnet.js';

/**
 * One bridge per network and host, with the host as gateway. Nothing is learned: which MAC is behind
 * which port, and which address behind which MAC, comes from the records.
 *
 *     sandbox ─ eth0 ═ tsv-… ─┐
 *                             tsb-ID  (gateway address, host address)
 *     sandbox ─ eth0 ═ tsv-… ─┘
 *
 * Cost on a host: one link and, per subnet, two addresses and one route; per local endpoint its veth
 * pair, a forwarding entry and a neighbour per address.
 */
export const bridgeDriver: Driver = {
  name: 'bridge',
  features: featureTable.bridge,
  networkObjects: bridgeObjects,
  carrierObjects: () => [],
  endpointObjects: (ctx, endpoint) => (endpoint.host === ctx.self.host ? localEndpointObjects(ctx, endpoint) : []),
  sandbox: vethSandbox,
};

/** The bridge of a network with the host's addresses on it. */
export function bridgeObjects(ctx: DriverContext): KernelObject[] {
  const { network, self } = ctx;
  const name = bridgeName(network.id);
  return [
    {
      kind: 'bridge',
      name,
      alias: markOf('bridge', network.id),
      mac: macForBridge(network.id, self.host),
      mtu: network.mtu,
    },
    ...bridgeAddrs(ctx, name),
  ];
}

/** Reports whether an endpoint has a link, in the host namespace or in its sandbox. */
export function isLinked(endpoint: Endpoint): boolean {
  return endpoint.state === 'linked' || endpoint.state === 'attached';
}

/**
 * What an endpoint of this host needs on its bridge. It is the same whether its link is still in the
 * host namespace without addresses (linked) or in the sandbox (attached): the runtime that moves the
 * link does not tell when it has, and an interface that is down answers nothing.
 */
export function localEndpointObjects(ctx: DriverContext, endpoint: Endpoint): KernelObject[] {
  if (!isLinked(endpoint)) return [];
  const bridge = bridgeName(ctx.network.id);
  const link = vethName(endpoint.id);
  return [
    {
      kind: 'port',
      link,
      master: bridge,
      learning: false,
      neighSuppress: false,
      ...(endpoint.ports === undefined ? {} : { hairpin: true }),
    },
    ...neighsOf(bridge, endpoint.addresses, endpoint.mac),
    { kind: 'fdb-port', link, mac: endpoint.mac },
  ];
}

/** The inside of a sandbox whose interface is one end of a veth pair. */
export function vethSandbox(ctx: DriverContext, endpoint: Endpoint, options: SandboxOptions): SandboxPlan {
  const { network } = ctx;
  const addrs = sandboxAddrs(network, endpoint.addresses);
  return {
    link: {
      kind: 'veth',
      name: vethName(endpoint.id),
      alias: markOf('veth', endpoint.id),
      mac: macForVeth(endpoint.id),
      master: bridgeName(network.id),
      mtu: network.mtu,
      peer: { ifname: endpoint.ifname, alias: markOf('peer', endpoint.id), mac: endpoint.mac },
    },
    addrs,
    hasIpv6: addrs.some(({ address }) => address.includes(':')),
    routes: [
      ...sandboxRoutes(network, endpoint.addresses, options.defaultRouteFamilies),
      ...joinedRoutes(ctx, endpoint.addresses, options.defaultRouteFamilies),
    ],
    sysctls: sandboxSysctls(endpoint.ifname, addrs, options),
  };
}
