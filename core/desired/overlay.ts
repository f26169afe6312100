import { TsnetError } from '../errors.js';
import { bridgeName, markOf, vxlanName } from '../ids.js';
import { floodMac, type KernelObject } from '../kernel.js';
import { macForVtep } from '../mac.js';
import type { Carrier, Endpoint, Network } from '../model.js';
import { bridgeObjects, isLinked, localEndpointObjects, vethSandbox } from './bridge.js';
import type { Driver, DriverContext } from './driver.js';
import { featureTable } from './feature.js';
import { neighsOf } from './subnet.js';

/**
 * The bridge driver's bridge, and one VXLAN device on it that reaches the other hosts' bridges.
 *
 *     sandbox ─ eth0 ═ tsv-… ─ tsb-ID ─ tsx-ID ~~~ underlay ~~~ tsx-ID ─ tsb-ID ─ tsv-… ═ eth0 ─ sandbox
 *
 * What a frame meets on its way out, and who put it there:
 *
 * 1. ARP or neighbour solicitation for a remote address: answered by the bridge itself from its
 *    neighbours (`neigh`), since the forwarding entry leads to a port with neigh_suppress;
 * 2. the bridge's forwarding entry MAC → tsx-ID (`fdb-port`);
 * 3. the VXLAN device's forwarding entry MAC → VTEP (`fdb-vtep`);
 * 4. broadcast, multicast, and a MAC whose record has not arrived yet: one copy to every host that
 *    carries the network (`fdb-vtep` of the all-zero MAC). So a new endpoint is reachable from every
 *    host that knows its host to be a carrier.
 *
 * Nothing is learned from traffic: a learned entry would outlive a move, and anyone could make one.
 * `local` is set, because frames that left from another address of the host would be dropped by peers
 * that accept VXLAN from known VTEPs only.
 *
 * Cost on a host: two links per network; per other host one flood entry and three entries for its
 * bridge; per endpoint elsewhere two forwarding entries and a neighbour per address.
 */
export const overlayDriver: Driver = {
  name: 'overlay',
  features: featureTable.overlay,
  networkObjects: (ctx) => [...bridgeObjects(ctx), ...vxlanObjects(ctx)],
  carrierObjects,
  endpointObjects,
  sandbox: vethSandbox,
};

function vniOf(network: Network): number {
  if (network.vni !== null) return network.vni;
  throw new TsnetError('ERR_STORE_CORRUPT', `network ${network.name} (${network.id}): an overlay without a VNI`);
}

function vxlanObjects(ctx: DriverContext): KernelObject[] {
  const { network, self } = ctx;
  const name = vxlanName(network.id);
  const master = bridgeName(network.id);
  return [
    {
      kind: 'vxlan',
      name,
      alias: markOf('vxlan', network.id),
      mac: macForVtep(network.id, self.host),
      mtu: network.mtu,
      vni: vniOf(network),
      local: self.vtep,
      port: ctx.vxlanPort,
      master,
    },
    { kind: 'port', link: name, master, learning: false, neighSuppress: true },
  ];
}

/** What makes a MAC behind another host's VTEP known, with the addresses that it answers for. */
function remoteObjects(ctx: DriverContext, remote: Pick<Carrier, 'addresses' | 'mac' | 'vtep'>): KernelObject[] {
  const link = vxlanName(ctx.network.id);
  return [
    ...neighsOf(bridgeName(ctx.network.id), remote.addresses, remote.mac),
    { kind: 'fdb-port', link, mac: remote.mac },
    { kind: 'fdb-vtep', link, mac: remote.mac, vtep: remote.vtep },
  ];
}

function carrierObjects(ctx: DriverContext, carrier: Carrier): readonly KernelObject[] {
  if (carrier.host === ctx.self.host) return [];
  const flood = { kind: 'fdb-vtep', link: vxlanName(ctx.network.id), mac: floodMac, vtep: carrier.vtep } as const;
  return [flood, ...remoteObjects(ctx, carrier)];
}

function endpointObjects(ctx: DriverContext, endpoint: Endpoint, vtep: string | null): readonly KernelObject[] {
  if (endpoint.host === ctx.self.host) return localEndpointObjects(ctx, endpoint);
  if (vtep === null || !isLinked(endpoint)) return [];
  return remoteObjects(ctx, { addresses: endpoint.addresses, mac: endpoint.mac, vtep });
}
