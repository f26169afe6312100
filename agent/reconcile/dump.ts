import { tsnetProtocol } from '../../core/kernel.js';
import { addrList } from '../../lib/netlink/addr.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { isNetlinkError } from '../../lib/netlink/errors.js';
import { fdbList } from '../../lib/netlink/fdb.js';
import { neighList } from '../../lib/netlink/neigh.js';
import { routeList } from '../../lib/netlink/route.js';
import { keyOf, type ObservedObject } from './object.js';
import { observedAddr, observedFdb, observedNeigh, observedRoute } from './observe.js';

/** The name of a link of ours; undefined for others'. */
export type OurLinkName = (ifindex: number) => string | undefined;

/**
 * Reads what is on links of ours in one namespace: addresses, routes, neighbours, forwarding entries.
 *
 * Cost: four dumps; of addresses, neighbours and forwarding entries everybody's.
 */
export async function dumpOnLinks(connection: NetlinkConnection, nameOf: OurLinkName): Promise<ObservedObject[]> {
  const [addrs, routes, neighs, fdbs] = await Promise.all([
    addrList(connection),
    routeList(connection, { protocol: tsnetProtocol }),
    neighList(connection),
    fdbList(connection),
  ]);
  return [
    ...observeEach(addrs, nameOf, observedAddr),
    ...observeEach(routes, nameOf, observedRoute),
    ...observeEach(neighs, nameOf, observedNeigh),
    ...observeEach(fdbs, nameOf, observedFdb),
  ];
}

/** Reads the routes of ours on one link; none when it has just gone, before its notification was read. */
export async function dumpRoutes(
  connection: NetlinkConnection,
  link: { readonly ifindex: number; readonly name: string },
): Promise<ObservedObject[]> {
  const routes = await routeList(connection, { ifindex: link.ifindex, protocol: tsnetProtocol }).catch(
    (error: unknown) => {
      if (isNetlinkError(error, 'ENODEV')) return [];
      throw error;
    },
  );
  return observeEach(routes, () => link.name, observedRoute);
}

/** Objects by key. */
export function byKey(objects: readonly ObservedObject[]): Map<string, ObservedObject> {
  return new Map(objects.map((object) => [keyOf(object), object]));
}

function observeEach<T extends { readonly ifindex?: number | undefined }>(
  values: readonly T[],
  nameOf: OurLinkName,
  observe: (value: T, link: string) => ObservedObject | undefined,
): ObservedObject[] {
  return values.flatMap((value) => {
    const link = nameOf(value.ifindex ?? 0);
    const object = link === undefined ? undefined : observe(value, link);
    return object === undefined ? [] : [object];
  });
}
