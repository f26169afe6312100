import { macvlanShimName, markOf, vethName } from '../ids.js';
import type { KernelObject } from '../kernel.js';
import { macForBridge } from '../mac.js';
import type { Endpoint, Network } from '../model.js';
import { isLinked } from './bridge.js';
import type { Driver, DriverContext, SandboxOptions, SandboxPlan } from './driver.js';
import { featureTable } from './feature.js';
import { macvlanMode, macvlanParent } from './option.js';
import { addressIn, hostPrefix, sandboxAddrs, sandboxRoutes, sandboxSysctls, subnetsOf } from './subnet.js';

/**
 * Sandboxes stand in the LAN themselves, each with a link on the host's interface; its switch connects
 * the hosts and its router is the gateway. The host namespace needs nothing, except where the host
 * is to reach its own endpoints: the kernel hands no frame from a parent to the links on it, so the
 * host gets a link of its own beside theirs (`host-shim=true`).
 *
 *     sandbox ─ eth0 ─┐
 *     sandbox ─ eth0 ─┼─ parent ─── LAN ─── router
 *     host ─ tsm-ID ──┘
 *
 * The shim's addresses have the full length and only the local endpoints are routed to it: the LAN's own
 * subnet, and so every other machine in it, stays reachable through the parent as before.
 */
export const macvlanDriver: Driver = {
  name: 'macvlan',
  features: featureTable.macvlan,
  networkObjects: shimObjects,
  carrierObjects: () => [],
  endpointObjects,
  sandbox,
};

const hasShim = (network: Network): boolean => network.options['host-shim'] === 'true';

function shimObjects(ctx: DriverContext): readonly KernelObject[] {
  const { network, self } = ctx;
  if (!hasShim(network)) return [];
  const name = macvlanShimName(network.id);
  return [
    {
      kind: 'macvlan',
      name,
      alias: markOf('shim', network.id),
      mac: macForBridge(network.id, self.host),
      mtu: network.mtu,
      parent: macvlanParent(network.options),
      mode: 'bridge',
    },
    ...self.addresses.map((addr) => {
      return { kind: 'addr', link: name, address: hostPrefix(addr), deprecated: false } as const;
    }),
  ];
}

function endpointObjects(ctx: DriverContext, endpoint: Endpoint): readonly KernelObject[] {
  const { network, self } = ctx;
  if (!hasShim(network) || endpoint.host !== self.host || !isLinked(endpoint)) return [];
  const link = macvlanShimName(network.id);
  return subnetsOf(network).flatMap((subnet) => {
    const address = addressIn(subnet, endpoint.addresses);
    if (address === null) return [];
    return [{ kind: 'route', dst: hostPrefix(address), link, source: addressIn(subnet, self.addresses) } as const];
  });
}

function sandbox(ctx: DriverContext, endpoint: Endpoint, options: SandboxOptions): SandboxPlan {
  const { network } = ctx;
  const addrs = sandboxAddrs(network, endpoint.addresses);
  return {
    link: {
      kind: 'macvlan',
      name: vethName(endpoint.id),
      alias: markOf('macvlan', endpoint.id),
      ifname: endpoint.ifname,
      mac: endpoint.mac,
      mtu: network.mtu,
      parent: macvlanParent(network.options),
      mode: macvlanMode(network.options),
    },
    addrs,
    hasIpv6: addrs.some(({ address }) => address.includes(':')),
    routes: sandboxRoutes(network, endpoint.addresses, options.defaultRouteFamilies),
    sysctls: sandboxSysctls(endpoint.ifname, addrs, options),
  };
}
