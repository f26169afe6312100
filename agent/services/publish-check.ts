import type { ServiceCreate, ServiceUpdate } from '../../core/api/service.js';
import { TsnetError } from '../../core/errors.js';
import type { Network, Service } from '../../core/model.js';
import { changeService } from '../../core/service/change.js';
import { parseService } from '../../core/service/parse.js';
import { servicesMeant } from '../../core/service/ref.js';
import type { RelayedCall } from '../local-api/relay.js';
import type { ClusterState } from '../state/cluster-state.js';
import type { FindHolder } from './held-ports.js';

export interface PublishCheckOptions {
  readonly host: string;
  readonly state: Pick<ClusterState, 'networkByRef' | 'networks' | 'service' | 'servicesOf' | 'network'>;
  readonly isCarried: (network: string) => boolean;
  readonly find: FindHolder;
}

const path = /^\/v1\/services(?:\/([^/?]+))?(?:\?|$)/;

interface Wish {
  readonly network: Network;
  readonly publish: NonNullable<Service['publish']>;
}

/**
 * Refuses a service that is made or changed through this host and publishes a port which something else has here. Of
 * other hosts only they themselves know: there such a port is left to who has it, and the service says so.
 */
export function newPublishCheck(options: PublishCheckOptions): (call: RelayedCall) => Promise<void> {
  const { host, isCarried, find } = options;
  return async (call) => {
    const wish = wishOf(options, call);
    if (wish === null || wish.publish.length === 0 || !isCarried(wish.network.id)) return;
    const held = await find(wish.publish);
    if (held === null) return;
    const { hostPort, protocol, holder } = held;
    throw new TsnetError(
      'ERR_PORT_IN_USE',
      `publish: port ${hostPort}/${protocol} is held on host ${host} by ${holder}`,
      { details: { field: 'publish', value: hostPort, holder, host } },
    );
  };
}

/** What a call would publish that is not published yet; null where it is none, or one that a controller will refuse. */
function wishOf({ state }: PublishCheckOptions, { method, path: url, body }: RelayedCall): Wish | null {
  const match = path.exec(url);
  if (match === null || typeof body !== 'object' || body === null) return null;
  try {
    const [, ref] = match;
    if (ref === undefined) return method === 'POST' ? created(state, body as ServiceCreate) : null;
    return method === 'PATCH' ? changed(state, decodeURIComponent(ref), body as ServiceUpdate) : null;
  } catch {
    // Nothing has checked the body yet: what is wrong with it is for the controller to say.
    return null;
  }
}

function created(state: PublishCheckOptions['state'], body: ServiceCreate): Wish | null {
  const network = state.networkByRef(body.network);
  if (network === undefined || state.service(network.id, body.name) !== undefined) return null;
  return { network, publish: parseService(body, network).publish ?? [] };
}

function changed(state: PublishCheckOptions['state'], ref: string, body: ServiceUpdate): Wish | null {
  const all = [...state.networks()].flatMap((network) =>
    [...state.servicesOf(network.id)].map((service) => ({ network, service })),
  );
  const [found, ...others] = servicesMeant(all, ref);
  if (found === undefined || others.length > 0) return null;
  const { network, service } = found;
  const before = new Set((service.publish ?? []).map(({ hostPort, protocol }) => `${hostPort}/${protocol}`));
  const { publish = [] } = changeService(service, body, network);
  return { network, publish: publish.filter(({ hostPort, protocol }) => !before.has(`${hostPort}/${protocol}`)) };
}
