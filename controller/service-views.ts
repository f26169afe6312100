import type { ServiceView } from '../core/api/service.js';
import { TsnetError } from '../core/errors.js';
import type { Endpoint, Service } from '../core/model.js';
import { backendState, isSelectedBy } from '../core/service/backend.js';
import { servicesMeant } from '../core/service/ref.js';
import { findNetwork, requireReady, settingsOf, type ControllerContext } from './context.js';
import { hostState } from './liveness.js';

const shownName = ({ name, id }: Endpoint): string => `${name ?? ''} ${id}`;

/** What users see of a service, with the endpoints that it is for. */
export function serviceView(context: ControllerContext, service: Service): ServiceView {
  const { mirror } = context;
  const { livenessMs } = settingsOf(context);
  const endpoints = [...mirror.tables.endpoint.group(service.network).values()].map(({ value }) => value);
  const selected = endpoints
    .filter((endpoint) => isSelectedBy(service, endpoint))
    .sort((a, b) => (shownName(a) < shownName(b) ? -1 : 1));
  const down = new Set(
    selected.map(({ host }) => host).filter((host) => hostState(mirror, host, livenessMs) === 'down'),
  );
  return {
    name: service.name,
    mode: service.mode,
    addresses: service.addresses,
    ports: service.ports,
    ...(service.selector === undefined ? {} : { selector: service.selector }),
    ...(service.backends === undefined ? {} : { backends: service.backends }),
    affinity: service.affinity,
    ...(service.health === undefined ? {} : { health: service.health }),
    ...(service.publish === undefined ? {} : { publish: service.publish }),
    drainMs: service.drainMs,
    createdAt: service.createdAt,
    generation: service.generation,
    network: mirror.tables.network.get('', service.network)?.value.name ?? service.network,
    ...heldPorts(context, service),
    endpoints: selected.map((endpoint) => ({
      endpoint: endpoint.id,
      name: endpoint.name,
      host: endpoint.host,
      addresses: endpoint.addresses,
      state: backendState(service, endpoint, down),
    })),
  };
}

/** Hosts that say they do not have a published port for the service. */
function heldPorts({ mirror }: ControllerContext, { network, publish = [] }: Service): Pick<ServiceView, 'held'> {
  if (publish.length === 0) return {};
  const held = [...mirror.tables.carrier.group(network).values()].flatMap(({ value }) =>
    (value.held ?? [])
      .filter((one) => publish.some((each) => each.hostPort === one.hostPort && each.protocol === one.protocol))
      .map((one) => ({ ...one, host: value.host })),
  );
  return held.length === 0 ? {} : { held: held.sort((a, b) => (a.host < b.host ? -1 : 1)) };
}

/** All services, or those of one network. Errors: ERR_NETWORK_UNKNOWN. */
export async function listServiceViews(
  context: ControllerContext,
  network: string | undefined,
): Promise<ServiceView[]> {
  requireReady(context);
  const id = network === undefined ? undefined : (await findNetwork(context, network)).id;
  return [...context.mirror.tables.service.all()]
    .map(({ value }) => value)
    .filter((service) => id === undefined || service.network === id)
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((service) => serviceView(context, service));
}

/** A service by NAME where only one network has one of that name, or by NAME.NETWORK. Errors: ERR_SERVICE_UNKNOWN. */
export function lookUpService(context: ControllerContext, ref: string): Service {
  requireReady(context);
  const { service: services, network: networks } = context.mirror.tables;
  const all = [...services.all()].map(({ value: service }) => ({
    service,
    network: { name: networks.get('', service.network)?.value.name ?? '' },
  }));
  const [first, ...others] = servicesMeant(all, ref);
  if (first !== undefined && others.length === 0) return first.service;
  const details = { details: { field: 'service', value: ref } };
  if (first === undefined) throw new TsnetError('ERR_SERVICE_UNKNOWN', `service: "${ref}" does not exist`, details);
  throw new TsnetError('ERR_SERVICE_UNKNOWN', `service: "${ref}" is there on ${others.length + 1} networks`, details);
}

/** Errors: ERR_SERVICE_UNKNOWN. */
export function findService(context: ControllerContext, ref: string): ServiceView {
  return serviceView(context, lookUpService(context, ref));
}

/** The service that has an address, for people. */
export function serviceAt({ mirror }: ControllerContext, network: string, address: string): string {
  const all = [...mirror.tables.service.group(network).values()].map(({ value }) => value);
  const found = all.find(({ addresses }) => addresses.includes(address));
  return found === undefined ? 'a service' : `service ${found.name}`;
}

export function serviceUnknown(ref: string): TsnetError {
  return new TsnetError('ERR_SERVICE_UNKNOWN', `service: "${ref}" does not exist`, {
    details: { field: 'service', value: ref },
  });
}
