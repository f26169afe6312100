import type { ServiceUpdate, ServiceView } from '../core/api/service.js';
import { TsnetError } from '../core/errors.js';
import type { Endpoint, Service } from '../core/model.js';
import { isNamed, isSelectedBy } from '../core/service/backend.js';
import { changeService, isRedefined } from '../core/service/change.js';
import { commit, networkUnknown, readNetwork, type ControllerContext } from './context.js';
import { lookUpService, serviceUnknown, serviceView } from './service-views.js';
import { checkGuarded, claimPublished } from './service-ports.js';
import { getService, putService } from './store/services.js';

/**
 * Changes what a service is, and has backends drain or no longer; name, mode and addresses stay.
 * Errors: ERR_SERVICE_UNKNOWN, ERR_ENDPOINT_UNKNOWN, ERR_PORT_IN_USE, those of `parseService`; ERR_STALE_GENERATION where
 * the update was meant for another generation.
 */
export async function updateService(
  context: ControllerContext,
  ref: string,
  update: ServiceUpdate,
): Promise<ServiceView> {
  const { network: networkId, name } = lookUpService(context, ref);
  const service = await commit(context, `service ${name}`, async (txn) => {
    const before = await getService(txn, networkId, name);
    if (before === undefined) throw serviceUnknown(ref);
    checkGeneration(before, update);
    let after: Service = before;
    if (isRedefined(update)) {
      const network = await readNetwork(txn, networkId);
      if (network === undefined) throw networkUnknown(networkId);
      const definition = changeService(before, update, network);
      if (update.publish !== undefined || update.ports !== undefined) {
        checkGuarded(context, definition);
        await claimPublished(context, txn, definition);
      }
      const { v, generation, addresses, draining, createdAt } = before;
      after = { v, generation, ...definition, addresses, draining, createdAt };
    }
    const endpoints = [...context.mirror.tables.endpoint.group(networkId).values()].map(({ value }) => value);
    after = { ...after, generation: before.generation + 1, draining: drainingAfter(after, endpoints, update) };
    putService(txn, after);
    return after;
  });
  return serviceView(context, service);
}

function checkGeneration({ name, generation: current }: Service, { generation }: ServiceUpdate): void {
  if (generation === undefined || generation === current) return;
  throw new TsnetError('ERR_STALE_GENERATION', `generation: service "${name}" has ${current}, not ${generation}`, {
    details: { field: 'generation', value: generation, current },
  });
}

function drainingAfter(
  service: Service,
  endpoints: readonly Endpoint[],
  { drain = [], undrain = [] }: ServiceUpdate,
): string[] {
  const idsOf = (refs: readonly string[], field: string): string[] =>
    refs.flatMap((one) => meant(service, endpoints, one, field));
  const added = idsOf(drain, 'drain');
  const ended = new Set(idsOf(undrain, 'undrain'));
  const isThere = new Set(endpoints.map(({ id }) => id));
  const kept = service.draining.filter((id) => isThere.has(id));
  return [...new Set([...kept, ...added])].filter((id) => !ended.has(id));
}

function meant(service: Service, endpoints: readonly Endpoint[], ref: string, field: string): string[] {
  const found = endpoints.filter((endpoint) => isSelectedBy(service, endpoint) && isNamed(endpoint, ref));
  if (found.length > 0) return found.map(({ id }) => id);
  throw new TsnetError('ERR_ENDPOINT_UNKNOWN', `${field}: service "${service.name}" has no backend "${ref}"`, {
    details: { field, value: ref },
  });
}
