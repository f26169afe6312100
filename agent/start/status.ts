import type { AgentStatus } from '../../core/api/status.js';
import type { TsnetError } from '../../core/errors.js';
import { version } from '../../core/version.js';
import type { AgentParts } from './interface.js';
import type { Traffic } from './traffic.js';

type Warning = AgentStatus['warnings'][number];

/** What the agent says of itself. */
export function agentStatus({ host, traffic, attaching: { carry }, joins }: AgentParts): AgentStatus {
  const { journal, state, underlay, reconciler, sync } = host;
  const { datapath, firewall } = traffic;
  const { controller, cursor, unpublished, warnings } = sync.status();
  const { objects, repairs, failing } = reconciler.status();
  return {
    version,
    host: host.name,
    vtep: underlay.lastVtep,
    controller,
    cursor,
    endpoints: [...journal.endpoints()].length,
    networks: [...datapath.realised()].length,
    unpublished,
    reconcile: {
      objects,
      repairs,
      failing: failing.map(({ object, code, message }) => ({ object, error: `${message} (${code})` })),
    },
    firewall: { repairs: firewall.repairs },
    warnings: [
      ...[...host.warnings, ...state.warnings].map(({ code, message }) => ({ code, message })),
      ...warnings,
      ...underlay.warnings,
      ...carry.warnings(),
      ...trafficWarnings(traffic),
      ...joins.warnings,
      ...(traffic.dns?.warnings ?? []),
    ],
  };
}

function trafficWarnings({ firewall, bridgeNetfilter, policies, services }: Traffic): readonly Warning[] {
  return [
    ...firewall.warnings,
    ...bridgeNetfilter.warnings,
    ...failed('policies are not enforced', policies.failure),
    ...failed('services do not work', services.failure),
    ...services.warnings,
  ];
}

function failed(what: string, failure: TsnetError | null): readonly Warning[] {
  return failure === null ? [] : [{ code: failure.code, message: `${what}: ${failure.message}` }];
}
