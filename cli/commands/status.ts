import type { AgentStatus, ControllerStatus } from '../../core/api/status.js';
import type { Call, CommandSpec } from '../command.js';
import { asTsnetError, printError } from '../errors.js';
import { printValue } from '../output/format.js';
import { formatRecord, type Column } from '../output/table.js';

interface Status {
  agent: AgentStatus | null;
  controller: ControllerStatus | null;
}

export const statusCommand: CommandSpec = {
  name: 'status',
  summary: "show the state of this host's agent and of the cluster",
  details: 'Exits with 1 when a part that should answer does not, or the agent reports something unrepaired.',
  examples: [
    { does: 'Agent and controller', line: 'tsnet status' },
    { does: 'What is not yet published, for a script', line: 'tsnet status -o json | jq .agent.unpublished' },
  ],
  common: 'calls',
  act: async (call) => {
    const { cli, format, calls } = call;
    const status: Status = { agent: null, controller: null };
    const errors: unknown[] = [];
    if (calls.route.to === 'agent') {
      await calls.agent<AgentStatus>('GET', '/v1/agent/status').then(
        (agent) => (status.agent = agent),
        (error: unknown) => errors.push(error),
      );
    }
    // An agent that does not answer relays nothing either: one error says it.
    if (errors.length === 0) {
      await calls.cluster<ControllerStatus>('GET', '/v1/status').then(
        (controller) => (status.controller = controller),
        (error: unknown) => errors.push(error),
      );
    }
    await printStatus(call, status);
    for (const error of errors) printError(cli, asTsnetError(error), format);
    return errors.length > 0 || (status.agent?.reconcile.failing.length ?? 0) > 0 ? 1 : 0;
  },
};

const agentColumns: readonly Column<AgentStatus>[] = [
  { title: 'AGENT', cell: (agent) => `${agent.host}, version ${agent.version}` },
  { title: 'VTEP', cell: (agent) => agent.vtep ?? 'none yet' },
  { title: 'CONTROLLER', cell: (agent) => agent.controller ?? 'none reachable' },
  { title: 'NETWORKS', cell: (agent) => agent.networks.toString() },
  { title: 'ENDPOINTS', cell: (agent) => agent.endpoints.toString() },
  { title: 'UNPUBLISHED', cell: (agent) => agent.unpublished.toString() },
  {
    title: 'KERNEL',
    cell: ({ reconcile }) =>
      `${reconcile.objects} objects, ${reconcile.repairs} repairs, ${reconcile.failing.length} failing`,
  },
];

const controllerColumns: readonly Column<ControllerStatus>[] = [
  { title: 'CLUSTER', cell: (status) => `version ${status.version}` },
  { title: 'STORE', cell: (status) => `${status.store}, epoch ${status.epoch}, revision ${status.revision}` },
  { title: 'HOSTS', cell: (status) => status.hosts.toString() },
  { title: 'NETWORKS', cell: (status) => status.networks.toString() },
  { title: 'ENDPOINTS', cell: (status) => status.endpoints.toString() },
];

async function printStatus({ cli, format }: Call<unknown>, status: Status): Promise<void> {
  if (await printValue(cli, format, status)) return;
  const { agent, controller } = status;
  const parts: string[] = [];
  if (agent !== null) {
    const troubles = [
      ...agent.reconcile.failing.map(({ object, error }) => ({ title: 'FAILING', text: `${object}: ${error}` })),
      ...agent.warnings.map(({ code, message }) => ({ title: 'WARNING', text: `${message} (${code})` })),
    ];
    parts.push(
      formatRecord(agent, [...agentColumns, ...troubles.map(({ title, text }) => ({ title, cell: () => text }))]),
    );
  }
  if (controller !== null) parts.push(formatRecord(controller, controllerColumns));
  cli.stdout.write(parts.join('\n'));
}

export const versionCommand: CommandSpec = {
  name: 'version',
  summary: 'show the version of this program',
  details: 'Those of agent and controller are in `tsnet status`.',
  examples: [{ does: 'For a script', line: 'tsnet version -o json | jq -r .version' }],
  common: 'output',
  act: async ({ cli, format }) => {
    if (!(await printValue(cli, format, { version: cli.version, node: process.versions.node })))
      cli.stdout.write(`tsnet ${cli.version}\n`);
  },
};
