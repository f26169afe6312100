import { containsPrefix, formatPrefix, parsePrefix } from '../addr.js';
import type { PolicyBody } from '../api/policy.js';
import { TsnetError } from '../errors.js';
import { parseNetworkName } from '../name.js';

/** Where in a document a fault is: keys and indexes from the root. */
export type FieldPath = readonly (string | number)[];

/** Writes a path as `ingress[0].peers[1].cidr`. */
export function formatPath(path: FieldPath): string {
  return path.map((part, at) => (typeof part === 'number' ? `[${part}]` : at === 0 ? part : `.${part}`)).join('');
}

/** A fault of a policy, with its place; the CLI adds the line of the file. */
export class PolicyFault extends Error {
  readonly path: FieldPath;

  constructor(path: FieldPath, message: string) {
    super(message);
    this.name = 'PolicyFault';
    this.path = path;
  }
}

type Fields = Readonly<Record<string, unknown>>;

const maxItems = 256;
const maxPorts = 1024;
const operators = ['In', 'NotIn', 'Exists', 'DoesNotExist'];
const protocols = ['tcp', 'udp', 'sctp', 'icmp'];

function fault(path: FieldPath, message: string): never {
  throw new PolicyFault(path, message);
}

function asObject(value: unknown, path: FieldPath, known: readonly string[]): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fault(path, 'must be a mapping');
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) fault([...path, key], `is not known here; known are ${known.join(', ')}`);
  }
  return value as Fields;
}

function asText(value: unknown, path: FieldPath): string {
  if (typeof value !== 'string') fault(path, `must be a text, and is ${shown(value)}`);
  if (value.length > 256) fault(path, 'is longer than 256 characters');
  return value;
}

function asList<T>(value: unknown, path: FieldPath, read: (item: unknown, path: FieldPath) => T, most = maxItems): T[] {
  if (!Array.isArray(value)) fault(path, 'must be a list');
  if (value.length > most) fault(path, `has more than ${most} items`);
  return value.map((item: unknown, at) => read(item, [...path, at]));
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? 'nothing').slice(0, 60);
}

function parseLabels(value: unknown, path: FieldPath): Record<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fault(path, 'must be a mapping');
  return Object.fromEntries(Object.entries(value).map(([key, text]) => [key, asText(text, [...path, key])]));
}

function parseRequirement(value: unknown, path: FieldPath): object {
  const { key, operator, values } = asObject(value, path, ['key', 'operator', 'values']);
  if (key === undefined) fault(path, 'needs a key');
  if (typeof operator !== 'string' || !operators.includes(operator))
    fault([...path, 'operator'], `must be one of ${operators.join(', ')}, and is ${shown(operator)}`);
  const needsValues = operator === 'In' || operator === 'NotIn';
  if (needsValues && (!Array.isArray(values) || values.length === 0))
    fault([...path, 'values'], `must be a list with a value, for operator ${operator}`);
  if (!needsValues && values !== undefined) fault([...path, 'values'], `has no place with operator ${operator}`);
  return {
    key: asText(key, [...path, 'key']),
    operator,
    ...(needsValues ? { values: asList(values, [...path, 'values'], asText) } : {}),
  };
}

function parseSelector(value: unknown, path: FieldPath): object {
  const { matchLabels, matchExpressions } = asObject(value, path, ['matchLabels', 'matchExpressions']);
  return {
    ...(matchLabels === undefined ? {} : { matchLabels: parseLabels(matchLabels, [...path, 'matchLabels']) }),
    ...(matchExpressions === undefined
      ? {}
      : { matchExpressions: asList(matchExpressions, [...path, 'matchExpressions'], parseRequirement) }),
  };
}

function parseNetworks(value: unknown, path: FieldPath): string[] {
  const networks = asList(value, path, (item, at) => {
    const name = asText(item, at);
    try {
      return parseNetworkName(name);
    } catch (error) {
      return fault(at, error instanceof Error ? error.message : 'is no name');
    }
  });
  return networks.length === 0 ? fault(path, 'names no network: leave it out to mean all') : networks;
}

function parseCidr(value: unknown, path: FieldPath): string {
  try {
    return formatPrefix(parsePrefix(asText(value, path)));
  } catch (error) {
    if (error instanceof PolicyFault) throw error;
    return fault(path, error instanceof Error ? error.message : 'is no subnet');
  }
}

function parsePeer(value: unknown, path: FieldPath): object {
  const { endpoints, networks, cidr, except } = asObject(value, path, ['endpoints', 'networks', 'cidr', 'except']);
  if (cidr === undefined && except !== undefined) fault([...path, 'except'], 'needs a cidr to be an exception of');
  if (cidr !== undefined && (endpoints !== undefined || networks !== undefined))
    fault([...path, 'cidr'], 'cannot stand with endpoints or networks: make two peers of them');
  if (cidr === undefined && endpoints === undefined && networks === undefined)
    fault(path, 'needs endpoints, networks or a cidr');
  if (cidr === undefined) {
    return {
      ...(endpoints === undefined ? {} : { endpoints: parseSelector(endpoints, [...path, 'endpoints']) }),
      ...(networks === undefined ? {} : { networks: parseNetworks(networks, [...path, 'networks']) }),
    };
  }
  const whole = parseCidr(cidr, [...path, 'cidr']);
  if (except === undefined) return { cidr: whole };
  const parts = asList(except, [...path, 'except'], (item, at) => {
    const part = parseCidr(item, at);
    if (!containsPrefix(parsePrefix(whole), parsePrefix(part))) fault(at, `${part} does not lie inside ${whole}`);
    return part;
  });
  return { cidr: whole, except: parts };
}

function parsePortNumber(value: unknown, path: FieldPath): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535) return value;
  return fault(path, `must be a port from 1 to 65535, and is ${shown(value)}`);
}

function parsePort(value: unknown, path: FieldPath): object {
  const { protocol = 'tcp', port, endPort } = asObject(value, path, ['protocol', 'port', 'endPort']);
  const lower = typeof protocol === 'string' ? protocol.toLowerCase() : protocol;
  if (typeof lower !== 'string' || !protocols.includes(lower))
    fault([...path, 'protocol'], `must be one of ${protocols.join(', ')}, and is ${shown(protocol)}`);
  if (lower === 'icmp' && port !== undefined) fault([...path, 'port'], 'has no place with protocol icmp');
  if (port === undefined && endPort !== undefined) fault([...path, 'endPort'], 'needs a port to begin at');
  if (port === undefined) return { protocol: lower };
  const first = parsePortNumber(port, [...path, 'port']);
  if (endPort === undefined) return { protocol: lower, port: first };
  const last = parsePortNumber(endPort, [...path, 'endPort']);
  if (last < first) fault([...path, 'endPort'], `${last} is smaller than port ${first}`);
  return { protocol: lower, port: first, endPort: last };
}

function parseRule(value: unknown, path: FieldPath): object {
  const { peers, ports } = asObject(value, path, ['peers', 'ports']);
  return {
    ...(peers === undefined ? {} : { peers: asList(peers, [...path, 'peers'], parsePeer) }),
    ...(ports === undefined ? {} : { ports: asList(ports, [...path, 'ports'], parsePort, maxPorts) }),
  };
}

function parsePolicyName(value: unknown): string {
  try {
    return parseNetworkName(asText(value, ['name']));
  } catch (error) {
    if (error instanceof PolicyFault) throw error;
    return fault(['name'], error instanceof Error ? error.message.replace(/^name: /, '') : 'is no name');
  }
}

/**
 * Reads a policy in the form that files, requests and records have.
 * Errors: PolicyFault with the field; nothing that is not understood is passed over.
 */
export function parsePolicy(value: unknown): PolicyBody {
  const fields = asObject(value, [], ['name', 'networks', 'selects', 'ingress', 'egress']);
  if (fields['name'] === undefined) fault([], 'needs a name');
  if (fields['selects'] === undefined) fault([], 'needs selects; write {} to select every endpoint');
  if (fields['ingress'] === undefined && fields['egress'] === undefined)
    fault([], 'needs ingress or egress; an empty list permits nothing in that direction');
  const rules = (direction: 'ingress' | 'egress'): object =>
    fields[direction] === undefined ? {} : { [direction]: asList(fields[direction], [direction], parseRule) };
  return {
    name: parsePolicyName(fields['name']),
    ...(fields['networks'] === undefined ? {} : { networks: parseNetworks(fields['networks'], ['networks']) }),
    selects: parseSelector(fields['selects'], ['selects']),
    ...rules('ingress'),
    ...rules('egress'),
  };
}

/** The same for requests. Errors: ERR_INVALID_POLICY. */
export function requirePolicy(value: unknown): PolicyBody {
  try {
    return parsePolicy(value);
  } catch (error) {
    if (!(error instanceof PolicyFault)) throw error;
    const field = formatPath(error.path);
    throw new TsnetError('ERR_INVALID_POLICY', `${field === '' ? 'policy' : field}: ${error.message}`, {
      details: { field },
    });
  }
}
