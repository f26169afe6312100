import type { AttachRequest } from '../../core/api/attach.js';
import { canonicalAddr, containsAddr, parseAddr, parsePrefix, type Family } from '../../core/addr.js';
import { checkFeature } from '../../core/desired/feature.js';
import { TsnetError } from '../../core/errors.js';
import { parseMac } from '../../core/mac.js';
import type { Bandwidth, Labels, Network, PortMapping } from '../../core/model.js';
import { checkPorts, isSameBandwidth, isSamePorts } from '../../core/ports.js';
import { checkLabels, parseAliases, parseCallerId, parseEndpointName, parseIfname } from '../../core/name.js';
import type { OwnEndpoint } from '../journal/entries.js';

/** An attach request with everything checked that needs no state. */
export interface CheckedRequest {
  readonly callerId: string | null;
  readonly ifname: string | null;
  readonly name: string | null;
  readonly aliases: readonly string[];
  readonly addresses: readonly string[];
  readonly mac: string | null;
  readonly labels: Labels;
  readonly defaultRoute: boolean | null;
  /** Null: not said. */
  readonly ports: readonly PortMapping[] | null;
  readonly bandwidth: Bandwidth | null;
}

/**
 * Checks names, addresses and labels of a request against a network.
 * Errors: ERR_INVALID_NAME, ERR_INVALID_ADDRESS, ERR_ADDRESS_OUTSIDE_SUBNET, ERR_INVALID_MAC, ERR_INVALID_IFNAME,
 * ERR_INVALID_PORT, ERR_DRIVER_UNSUPPORTED, ERR_INVALID_REQUEST, each naming field and value.
 */
export function checkRequest(network: Network, request: Omit<AttachRequest, 'target'>): CheckedRequest {
  const { id, ifname, name, aliases = [], addresses = [], mac, labels = {}, defaultRoute, ports, bandwidth } = request;
  checkLabels(labels);
  if (bandwidth !== undefined) checkFeature(network.driver, 'bandwidth');
  if (ports !== undefined && ports.length > 0) checkFeature(network.driver, 'ports');
  return {
    callerId: id === undefined ? null : parseCallerId(id),
    ifname: ifname === undefined ? null : parseIfname(ifname),
    name: name === undefined ? null : parseEndpointName(name),
    aliases: parseAliases(aliases),
    addresses: checkAddresses(network, addresses),
    mac: mac === undefined ? null : parseMac(mac),
    labels,
    defaultRoute: defaultRoute ?? null,
    ports: ports === undefined ? null : checkPorts(ports),
    bandwidth: bandwidth ?? null,
  };
}

function checkAddresses(network: Network, texts: readonly string[]): string[] {
  const prefixes = network.subnets.map(({ subnet }) => parsePrefix(subnet));
  const taken = new Map<number, string>();
  return texts.map((text) => {
    const address = canonicalAddr(text, 'addresses');
    const subnet = prefixes.findIndex((prefix) => containsAddr(prefix, parseAddr(address)));
    const details = { field: 'addresses', value: address, network: network.name };
    if (subnet < 0) {
      const subnets = network.subnets.map((each) => each.subnet).join(', ');
      throw new TsnetError(
        'ERR_ADDRESS_OUTSIDE_SUBNET',
        `address ${address} is outside the subnets of ${network.name} (${subnets})`,
        { details },
      );
    }
    const other = taken.get(subnet);
    if (other !== undefined) {
      const message = `addresses ${other} and ${address} are in one subnet of ${network.name}: an endpoint has one in each`;
      throw new TsnetError('ERR_INVALID_REQUEST', message, { details });
    }
    taken.set(subnet, address);
    return address;
  });
}

/** A repetition may leave out what the first call said, but may not contradict it. Errors: ERR_ENDPOINT_EXISTS. */
export function assertSame(known: OwnEndpoint, request: CheckedRequest): OwnEndpoint {
  const { record } = known;
  const differs =
    request.addresses.some((address) => !record.addresses.includes(address)) ||
    (request.mac !== null && request.mac !== record.mac) ||
    (request.name !== null && request.name !== record.name) ||
    (request.ports !== null && !isSamePorts(record.ports ?? [], request.ports)) ||
    (request.bandwidth !== null && !isSameBandwidth(record.bandwidth ?? {}, request.bandwidth));
  if (!differs) return known;
  const message = `endpoint ${record.id} (${record.callerId}, ${record.ifname}) exists with ${record.addresses.join(', ')}, MAC ${record.mac}, name ${record.name ?? 'none'}, ${record.ports?.length ?? 0} published ports`;
  throw new TsnetError('ERR_ENDPOINT_EXISTS', message, { details: { endpoint: record.id } });
}

/** Families for which a network gives a sandbox a way out. */
export function gatewayFamilies(network: Network): Family[] {
  if (network.internal) return [];
  const families = network.subnets
    .filter(({ gateway }) => gateway !== null)
    .map(({ subnet }) => parsePrefix(subnet).family);
  return [...new Set(families)];
}
