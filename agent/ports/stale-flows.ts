import { parseAddr, type Family } from '../../core/addr.js';
import type { Endpoint, PortMapping } from '../../core/model.js';
import { portAddresses } from '../../core/ports.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { conntrackDelete, conntrackList } from '../../lib/netlink/conntrack.js';

/** So many ports are asked for one by one, with the kernel filtering; more are picked out of one listing. */
const askedSingly = 8;

function covers(
  mapping: PortMapping,
  flow: { readonly dst: string; readonly dstPort: number },
  isOwnAddress: (address: string) => boolean,
): boolean {
  if (flow.dstPort < mapping.hostPort || flow.dstPort > mapping.hostPortEnd) return false;
  return mapping.hostAddress === null ? isOwnAddress(flow.dst) : flow.dst === mapping.hostAddress;
}

/**
 * Forgets the connections that were sent to an endpoint's published ports: they would outlive a mapping that is gone,
 * or keep a datagram sender from one that has come. Others are left alone. Reports how many there were.
 *
 * @param connection of NETLINK_NETFILTER.
 */
export async function dropStaleFlows(
  connection: NetlinkConnection,
  endpoint: Pick<Endpoint, 'addresses' | 'ports'>,
  isOwnAddress: (address: string) => boolean,
): Promise<number> {
  let dropped = 0;
  const groups = new Map<string, { family: Family; mappings: PortMapping[] }>();
  for (const mapping of endpoint.ports ?? []) {
    for (const address of portAddresses(mapping, endpoint)) {
      const { family } = parseAddr(address);
      const key = `${family} ${mapping.protocol}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { family, mappings: [mapping] });
      else group.mappings.push(mapping);
    }
  }
  for (const { family, mappings } of groups.values()) {
    const [first] = mappings;
    if (first === undefined) continue;
    const count = mappings.reduce((sum, each) => sum + each.hostPortEnd - each.hostPort + 1, 0);
    const ports: (number | undefined)[] = count > askedSingly ? [undefined] : portsOf(mappings);
    for (const dstPort of ports) {
      const flows = await conntrackList(connection, {
        family,
        protocol: first.protocol,
        ...(dstPort === undefined ? {} : { dstPort }),
      });
      const stale = flows.filter((flow) => mappings.some((mapping) => covers(mapping, flow, isOwnAddress)));
      if (stale.length > 0) dropped += await conntrackDelete(connection, family, stale);
    }
  }
  return dropped;
}

function portsOf(mappings: readonly PortMapping[]): number[] {
  return mappings.flatMap(({ hostPort, hostPortEnd }) =>
    Array.from({ length: hostPortEnd - hostPort + 1 }, (_, offset) => hostPort + offset),
  );
}
