import { TsnetError } from '../core/errors.js';
import type { ServiceDefinition } from '../core/service/parse.js';
import type { Txn } from '../lib/etcd/txn.js';
import { settingsOf, type ControllerContext } from './context.js';
import { putPublishedGuard } from './store/services.js';

/**
 * Refuses a port that hosts need for the cluster itself: every host would lead what comes for a controller to the
 * service's backends, tokens included. Errors: ERR_PORT_IN_USE.
 */
export function checkGuarded(context: ControllerContext, { publish = [] }: ServiceDefinition): void {
  const { vxlanPort, guarded = [] } = settingsOf(context);
  for (const { hostPort, protocol } of publish) {
    const isVxlan = protocol === 'udp' && hostPort === vxlanPort;
    if (!isVxlan && !(protocol === 'tcp' && guarded.some(({ port }) => port === hostPort))) continue;
    const holder = isVxlan ? 'VXLAN' : 'a controller or its etcd';
    throw new TsnetError('ERR_PORT_IN_USE', `publish: port ${hostPort}/${protocol} is held by ${holder}`, {
      details: { field: 'publish', value: hostPort, holder },
      hint: 'Choose another port: this one is needed by the cluster itself.',
    });
  }
}

/** Refuses a port of hosts that another service has. Errors: ERR_PORT_IN_USE. */
export function checkPublished(context: ControllerContext, { publish = [], network, name }: ServiceDefinition): void {
  for (const { value } of context.mirror.tables.service.all()) {
    if (value.network === network && value.name === name) continue;
    const clash = publish.find(({ hostPort, protocol }) =>
      value.publish?.some((other) => other.hostPort === hostPort && other.protocol === protocol),
    );
    if (clash !== undefined)
      throw new TsnetError(
        'ERR_PORT_IN_USE',
        `publish: port ${clash.hostPort}/${clash.protocol} is published by service "${value.name}"`,
        { details: { field: 'publish', value: clash.hostPort, holder: value.name } },
      );
  }
}

/**
 * Claims the ports of hosts that a service publishes, for all networks. Whoever claims some compares and puts one guard:
 * once the mirror has what was there at the last time, it has every port that is claimed.
 * Errors: ERR_PORT_IN_USE; ERR_STORE_UNREACHABLE where the mirror does not hear of the store.
 */
export async function claimPublished(context: ControllerContext, txn: Txn, service: ServiceDefinition): Promise<void> {
  if ((service.publish ?? []).length === 0) return;
  const claimedAt = await putPublishedGuard(txn);
  if (!(await context.mirror.reached(claimedAt)))
    throw new TsnetError('ERR_STORE_UNREACHABLE', 'publish: the store does not say which ports other services have');
  checkPublished(context, service);
}
