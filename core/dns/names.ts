import { formatAddr, parseAddr, type Addr } from '../addr.js';
import type { Endpoint, PortProtocol } from '../model.js';

/** Which names an endpoint is found by, and which ports are known by name. */

const HOST_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;
/** Container ids as runtimes make them: too long for a label, and known by their beginning. */
const LONG_ID = /^[0-9a-f]{64}$/;
const shortIdLength = 12;
const longestHostName = 200;

/** What names are made of. */
export type NamedEndpoint = Pick<Endpoint, 'id' | 'name' | 'aliases' | 'callerId' | 'labels' | 'ports'>;

/** All names of an endpoint in its network, lower case: name, aliases, its id, and the container's id where that can be a name. */
export function endpointNames(endpoint: NamedEndpoint): string[] {
  const names = new Set<string>();
  for (const text of [endpoint.name, ...endpoint.aliases, endpoint.id, ...callerNames(endpoint.callerId)]) {
    const name = text?.toLowerCase();
    if (name !== undefined && isHostName(name)) names.add(name);
  }
  return [...names];
}

function callerNames(callerId: string): readonly string[] {
  const lower = callerId.toLowerCase();
  return LONG_ID.test(lower) ? [lower.slice(0, shortIdLength)] : [callerId];
}

/** Reports whether a lower-case text keeps the rules for host names. Source: RFC 1123 §2.1. */
export function isHostName(name: string): boolean {
  return name.length <= longestHostName && HOST_NAME.test(name);
}

/** The name that an address stands for in reverse. */
export function canonicalName(endpoint: NamedEndpoint): string {
  const name = endpoint.name?.toLowerCase();
  return name !== undefined && isHostName(name) ? name : endpoint.id;
}

/** A port of an endpoint that clients may look up. */
export interface ServicePort {
  /** Lower case; null: known by its number only. */
  readonly name: string | null;
  readonly port: number;
  readonly protocol: PortProtocol;
}

const portLabel = 'tsnet.port/';
const SERVICE_NAME = /^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$/;
const PORT_VALUE = /^([1-9]\d{0,4})(?:\/(tcp|udp|sctp))?$/;
/** Of a range of published ports so many are listed. */
const listedOfRange = 32;

/** The ports of labels `tsnet.port/NAME=PORT[/PROTOCOL]`, and those published. */
export function servicePorts(endpoint: Pick<NamedEndpoint, 'labels' | 'ports'>): ServicePort[] {
  const ports = new Map<string, ServicePort>();
  const add = (port: ServicePort): void => {
    const key = `${port.name ?? ''}/${port.port}/${port.protocol}`;
    if (port.port <= 65_535) ports.set(key, port);
  };
  for (const [key, value] of Object.entries(endpoint.labels)) {
    if (!key.startsWith(portLabel)) continue;
    const name = key.slice(portLabel.length).toLowerCase();
    const match = PORT_VALUE.exec(value);
    if (match === null || !SERVICE_NAME.test(name)) continue;
    add({ name, port: Number(match[1]), protocol: (match[2] ?? 'tcp') as PortProtocol });
  }
  const named = new Set([...ports.values()].map(({ port, protocol }) => `${port}/${protocol}`));
  for (const { port, hostPort, hostPortEnd, protocol } of endpoint.ports ?? []) {
    const count = Math.min(hostPortEnd - hostPort + 1, listedOfRange);
    for (let offset = 0; offset < count; offset++)
      if (!named.has(`${port + offset}/${protocol}`)) add({ name: null, port: port + offset, protocol });
  }
  return [...ports.values()];
}

const reverse4 = '.in-addr.arpa';
const reverse6 = '.ip6.arpa';

/**
 * The address that a name of the reverse trees stands for, in canonical text; null for other names and for parts of
 * an address. Source: RFC 1035 §3.5, RFC 3596 §2.5.
 */
export function addressOfReverse(name: string): string | null {
  if (name.endsWith(reverse4)) {
    const octets = name.slice(0, -reverse4.length).split('.');
    if (octets.length !== 4 || !octets.every((octet) => /^(0|[1-9]\d{0,2})$/.test(octet) && Number(octet) < 256))
      return null;
    return octets.reverse().join('.');
  }
  if (!name.endsWith(reverse6)) return null;
  const nibbles = name.slice(0, -reverse6.length).split('.');
  if (nibbles.length !== 32 || !nibbles.every((nibble) => /^[0-9a-f]$/.test(nibble))) return null;
  return formatAddr({ family: 6, value: BigInt(`0x${nibbles.reverse().join('')}`) });
}

/** The reverse name of an address. */
export function reverseOf(address: string): string {
  const { family, value }: Addr = parseAddr(address);
  if (family === 4) return `${address.split('.').reverse().join('.')}${reverse4}`;
  return `${[...value.toString(16).padStart(32, '0')].reverse().join('.')}${reverse6}`;
}
