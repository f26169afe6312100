import { formatAddr, isMulticast, isUnspecified, parseAddr } from './addr.js';
import type { PortRequest } from './api/port.js';
import { TsnetError } from './errors.js';
import type { Bandwidth, Endpoint, PortMapping, PortProtocol } from './model.js';

/**
 * Published ports as values: what a user writes, what an attach asks for, what a record holds, and
 * whether two of them want the same port.
 */

const PROTOCOLS: readonly PortProtocol[] = ['tcp', 'udp', 'sctp'];
const lastPort = 65_535;
const SPEC = /^(?:(\[[^\]]*\]|[^:[\]]*):)?(\d+)(?:-(\d+))?:(\d+)(?:-(\d+))?(?:\/(.*))?$/;

function refuse(code: 'ERR_INVALID_PORT' | 'ERR_INVALID_ADDRESS', message: string, value: string): TsnetError {
  return new TsnetError(code, `ports: ${message}`, { details: { field: 'ports', value: value.slice(0, 128) } });
}

/**
 * Reads `[HOSTIP:]HOSTPORT[-END]:PORT[-END][/PROTOCOL]`; an IPv6 address stands in brackets.
 *
 * Errors: ERR_INVALID_PORT, ERR_INVALID_ADDRESS.
 */
export function parsePortSpec(text: string): PortRequest {
  const match = text.length > 128 ? null : SPEC.exec(text);
  if (match === null)
    throw refuse('ERR_INVALID_PORT', `${JSON.stringify(text.slice(0, 128))} is no mapping of ports`, text);
  const [, address, hostPort, hostPortEnd, port, portEnd, protocol] = match;
  const request: PortRequest = {
    ...(address === undefined || address === '' ? {} : { hostAddress: address.replace(/^\[(.*)\]$/, '$1') }),
    hostPort: Number(hostPort),
    ...(hostPortEnd === undefined ? {} : { hostPortEnd: Number(hostPortEnd) }),
    port: Number(port),
    ...(portEnd === undefined ? {} : { portEnd: Number(portEnd) }),
    ...(protocol === undefined ? {} : { protocol: protocol as PortProtocol }),
  };
  checkPort(request);
  return request;
}

/** A mapping with everything in it; `hostPort` 0 still stands for one to be chosen. */
function complete(request: PortRequest): PortMapping {
  const { hostPort, port } = request;
  const length =
    (request.portEnd ?? (request.hostPortEnd === undefined ? port : port + request.hostPortEnd - hostPort)) - port;
  return {
    hostAddress: checkHostAddress(request.hostAddress ?? null),
    hostPort,
    hostPortEnd: hostPort === 0 ? 0 : (request.hostPortEnd ?? hostPort + length),
    port,
    portEnd: port + length,
    protocol: request.protocol ?? 'tcp',
  };
}

function checkHostAddress(text: string | null): string | null {
  if (text === null) return null;
  const addr = parseAddr(text, 'hostAddress');
  // 0.0.0.0 and :: are how others say "all of this family"; ours is both families or one address.
  if (isUnspecified(addr) || isMulticast(addr)) {
    throw refuse('ERR_INVALID_ADDRESS', `${text} is no address of a host; leave it out for all of them`, text);
  }
  return formatAddr(addr);
}

/**
 * Checks one request and fills in what follows.
 *
 * Errors: ERR_INVALID_PORT, ERR_INVALID_ADDRESS.
 */
export function checkPort(request: PortRequest): PortMapping {
  const mapping = complete(request);
  const text = formatPort(mapping);
  if (!PROTOCOLS.includes(mapping.protocol)) {
    throw refuse(
      'ERR_INVALID_PORT',
      `protocol ${JSON.stringify(mapping.protocol)} of ${text} is none of tcp, udp and sctp`,
      text,
    );
  }
  const isPort = (port: number, least: number): boolean => Number.isInteger(port) && port >= least && port <= lastPort;
  if (!isPort(mapping.hostPort, 0))
    throw refuse('ERR_INVALID_PORT', `host port ${mapping.hostPort} is not from 0 to 65535`, text);
  if (!isPort(mapping.port, 1)) throw refuse('ERR_INVALID_PORT', `port ${mapping.port} is not from 1 to 65535`, text);
  if (!isPort(mapping.portEnd, mapping.port))
    throw refuse('ERR_INVALID_PORT', `range ${mapping.port}-${mapping.portEnd} of ${text} is none`, text);
  if (mapping.hostPort === 0) {
    if ((request.hostPortEnd ?? 0) !== 0)
      throw refuse('ERR_INVALID_PORT', `host port 0 of ${text} takes no range`, text);
    return mapping;
  }
  if (!isPort(mapping.hostPortEnd, mapping.hostPort)) {
    throw refuse('ERR_INVALID_PORT', `range ${mapping.hostPort}-${mapping.hostPortEnd} of ${text} is none`, text);
  }
  if (mapping.hostPortEnd - mapping.hostPort !== mapping.portEnd - mapping.port) {
    const lengths = `${mapping.hostPortEnd - mapping.hostPort + 1} and ${mapping.portEnd - mapping.port + 1} ports`;
    throw refuse('ERR_INVALID_PORT', `the ranges of ${text} have ${lengths}`, text);
  }
  return mapping;
}

/** How many ports a mapping has. */
export function portCount(mapping: PortMapping): number {
  return mapping.portEnd - mapping.port + 1;
}

const range = (first: number, last: number): string => (first === last ? String(first) : `${first}-${last}`);

/** Writes a mapping as `parsePortSpec` reads it. */
export function formatPort(mapping: PortMapping): string {
  const { hostAddress, hostPort, hostPortEnd, port, portEnd, protocol } = mapping;
  const address = hostAddress === null ? '' : hostAddress.includes(':') ? `[${hostAddress}]:` : `${hostAddress}:`;
  const host = hostPort === 0 ? '0' : range(hostPort, hostPortEnd);
  return `${address}${host}:${range(port, portEnd)}/${protocol}`;
}

/** Reports whether two mappings want a same port of the host: wildcard and specific address do. */
export function portsConflict(a: PortMapping, b: PortMapping): boolean {
  if (a.protocol !== b.protocol || a.hostPort > b.hostPortEnd || b.hostPort > a.hostPortEnd) return false;
  return a.hostAddress === null || b.hostAddress === null || a.hostAddress === b.hostAddress;
}

/**
 * Checks the mappings of one request, each and among themselves.
 *
 * Errors: ERR_INVALID_PORT, ERR_INVALID_ADDRESS.
 */
export function checkPorts(requests: readonly PortRequest[]): PortMapping[] {
  const mappings = requests.map(checkPort);
  const sorted = mappings.filter(({ hostPort }) => hostPort !== 0).sort((a, b) => a.hostPort - b.hostPort);
  const open: PortMapping[] = [];
  for (const mapping of sorted) {
    const still = open.filter((each) => each.hostPortEnd >= mapping.hostPort);
    open.splice(0, open.length, ...still, mapping);
    const other = still.find((each) => portsConflict(each, mapping));
    if (other === undefined) continue;
    throw refuse('ERR_INVALID_PORT', `${formatPort(other)} and ${formatPort(mapping)} overlap`, formatPort(mapping));
  }
  return mappings;
}

/** Reports whether a record's ports are those that a request asks for; 0 agrees with any port. */
export function isSamePorts(record: readonly PortMapping[], asked: readonly PortMapping[]): boolean {
  if (record.length !== asked.length) return false;
  return asked.every((mapping, index) => {
    const held = record[index];
    if (held === undefined) return false;
    const compared = mapping.hostPort === 0 ? { ...held, hostPort: 0, hostPortEnd: 0 } : held;
    return formatPort(compared) === formatPort(mapping);
  });
}

/** Of an address as records have it, which is one. */
const isIpv6 = (address: string): boolean => address.includes(':');

/** The addresses of an endpoint that a mapping leads to: all, or those of the host address's family. */
export function portAddresses(mapping: PortMapping, endpoint: Pick<Endpoint, 'addresses'>): string[] {
  const { hostAddress } = mapping;
  const addresses: string[] = [];
  if (hostAddress === null || !isIpv6(hostAddress)) {
    const address = endpoint.addresses.find((text) => !isIpv6(text));
    if (address !== undefined) addresses.push(address);
  }
  if (hostAddress === null || isIpv6(hostAddress)) {
    const address = endpoint.addresses.find(isIpv6);
    if (address !== undefined) addresses.push(address);
  }
  return addresses;
}

/** Reports whether two limits are the same. */
export function isSameBandwidth(a: Bandwidth, b: Bandwidth): boolean {
  const keys = ['ingressRateBps', 'ingressBurstBytes', 'egressRateBps', 'egressBurstBytes'] as const;
  return keys.every((key) => a[key] === b[key]);
}
