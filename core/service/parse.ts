import { canonicalAddr } from '../addr.js';
import type { ServiceCreate } from '../api/service.js';
import { checkFeature } from '../desired/feature.js';
import { TsnetError } from '../errors.js';
import type { Labels, Network, Service, ServiceHealth, ServicePort, ServicePublish } from '../model.js';
import { checkLabels, parseEndpointName } from '../name.js';

/** What a service is, before it has addresses. */
export type ServiceDefinition = Omit<Service, 'v' | 'generation' | 'createdAt' | 'addresses' | 'draining'>;

const defaultDrainMs = 30_000;
const httpPath = /^\/[\x21-\x7e]{0,1023}$/;

/** The error for a field of a service. */
export function invalidService(field: string, why: string): TsnetError {
  return new TsnetError('ERR_INVALID_SERVICE', `${field}: ${why}`, { details: { field } });
}

function parsePorts({ ports, mode }: ServiceCreate): ServicePort[] {
  const parsed = ports.map(({ port, target = port, protocol = 'tcp' }) => ({ port, target, protocol }));
  if (parsed.length === 0) throw invalidService('ports', 'a service needs a port');
  const keys = parsed.map(({ port, protocol }) => `${port}/${protocol}`);
  const twice = keys.find((key, at) => keys.indexOf(key) !== at);
  if (twice !== undefined) throw invalidService('ports', `${twice} is there twice`);
  const moved = mode === 'dnsrr' ? parsed.find(({ port, target }) => port !== target) : undefined;
  if (moved !== undefined)
    throw invalidService(
      'ports',
      `with mode dnsrr clients connect to backends: ${moved.port} cannot lead to ${moved.target}`,
    );
  return parsed;
}

function parsePublish({ publish = [], mode }: ServiceCreate, ports: readonly ServicePort[]): ServicePublish[] {
  if (mode === 'dnsrr' && publish.length > 0) throw invalidService('publish', 'needs mode vip');
  const parsed = publish.map(({ hostPort, port }) => {
    // One number may be there for several protocols.
    const [only = hostPort, ...others] = new Set(ports.map((each) => each.port));
    const wanted = port ?? (others.length === 0 ? only : hostPort);
    const found = ports.filter((each) => each.port === wanted);
    const [first] = found;
    if (first === undefined) throw invalidService('publish', `the service has no port ${wanted}`);
    return found.map(({ protocol }) => ({ hostPort, port: first.port, protocol }));
  });
  const all = parsed.flat();
  const keys = all.map(({ hostPort, protocol }) => `${hostPort}/${protocol}`);
  const twice = keys.find((key, at) => keys.indexOf(key) !== at);
  if (twice !== undefined) throw invalidService('publish', `${twice} is there twice`);
  return all;
}

function parseHealth(health: ServiceHealth | undefined, ports: readonly ServicePort[]): ServiceHealth | undefined {
  if (health === undefined) return undefined;
  if (!ports.some(({ protocol }) => protocol === 'tcp'))
    throw invalidService('health', 'is asked over TCP, and the service has no TCP port');
  if (health.type === 'tcp') {
    if (health.path !== undefined) throw invalidService('health', 'a path has no place with tcp');
    return { type: 'tcp' };
  }
  const { path = '/' } = health;
  if (!httpPath.test(path)) throw invalidService('health', 'the path must begin with "/" and have no white space');
  return { type: 'http', path };
}

function parseSelection({ selector, backends }: ServiceCreate): Pick<Service, 'selector' | 'backends'> {
  const labels: Labels = selector ?? {};
  checkLabels(labels, 'selector');
  const hasLabels = Object.keys(labels).length > 0;
  if (hasLabels && backends !== undefined && backends.length > 0)
    throw invalidService('backends', 'cannot stand with a selector');
  if (hasLabels) return { selector: labels };
  if (backends === undefined || backends.length === 0)
    throw invalidService('selector', 'nothing says which endpoints are backends: give a selector or backends');
  return { backends: [...new Set(backends)] };
}

/**
 * Reads what a service's author says of it.
 *
 * Errors: ERR_INVALID_SERVICE, ERR_INVALID_NAME, ERR_PORT_INTERNAL, ERR_DRIVER_UNSUPPORTED for a virtual address where the driver has none.
 */
export function parseService(
  request: ServiceCreate,
  network: Pick<Network, 'id' | 'name' | 'driver' | 'internal'>,
): ServiceDefinition {
  const { mode = 'vip', affinity = 'none', drainMs = defaultDrainMs } = request;
  const name = parseEndpointName(request.name);
  if (mode === 'vip') checkFeature(network.driver, 'service-vip');
  if (mode === 'dnsrr' && affinity !== 'none') throw invalidService('affinity', 'needs mode vip');
  if (mode === 'dnsrr' && (request.addresses ?? []).length > 0) throw invalidService('addresses', 'need mode vip');
  const ports = parsePorts({ ...request, mode });
  const publish = parsePublish({ ...request, mode }, ports);
  if (publish.length > 0 && network.internal)
    throw new TsnetError('ERR_PORT_INTERNAL', `publish: network "${network.name}" is internal`, {
      details: { field: 'publish' },
    });
  const health = parseHealth(request.health, ports);
  if (health !== undefined && network.driver === 'macvlan') checkFeature(network.driver, 'service-health');
  return {
    name,
    network: network.id,
    mode,
    ports,
    ...parseSelection(request),
    affinity,
    ...(health === undefined ? {} : { health }),
    ...(publish.length === 0 ? {} : { publish }),
    drainMs,
  };
}

/** The fixed addresses that were asked for, canonical. Errors: ERR_INVALID_ADDRESS. */
export function fixedAddresses({ addresses = [] }: ServiceCreate): string[] {
  return addresses.map((text, at) => canonicalAddr(text, `addresses[${at}]`));
}
