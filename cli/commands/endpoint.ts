import { Option } from 'commander';
import type { EndpointUpdate } from '../../core/api/attach.js';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { PortRequest } from '../../core/api/port.js';
import { TsnetError } from '../../core/errors.js';
import type { CommandSpec, GroupSpec } from '../command.js';
import { printList, printOne } from '../output/format.js';
import { changedEndpointView, endpointView } from '../output/views.js';
import { collect, collectLabelChanges, collectPorts, present } from '../parse.js';

interface LsOptions {
  readonly host?: string;
  readonly local?: boolean;
  readonly quiet?: boolean;
}

const lsCommand: CommandSpec<LsOptions> = {
  name: 'ls',
  summary: 'list endpoints',
  args: [{ name: 'NETWORK', summary: 'of this network only', means: 'network', optional: true }],
  options: () => [
    new Option('--host <NAME>', 'of this host only'),
    new Option('--local', "this host's own, as its agent knows them: needs no controller").conflicts('host'),
    new Option('-q, --quiet', 'ids only'),
  ],
  contradictions: [['local', 'controller']],
  examples: [
    { does: 'Who is on frontend, on all hosts', line: 'tsnet endpoint ls frontend' },
    { does: 'What this host has, while the cluster is away', line: 'tsnet endpoint ls --local -o wide' },
  ],
  common: 'calls',
  act: async ({ args: [network], options, cli, format, calls }) => {
    const rows =
      options.local === true
        ? await calls.agent<readonly EndpointView[]>('GET', '/v1/agent/endpoints')
        : await listCluster();
    await printList(cli, format, {
      view: endpointView,
      rows: options.local === true && network !== undefined ? rows.filter((row) => row.network === network) : rows,
      quiet: options.quiet === true,
    });

    async function listCluster(): Promise<readonly EndpointView[]> {
      const query = new URLSearchParams(present<Record<string, string>>({ network, host: options.host })).toString();
      return calls.cluster<readonly EndpointView[]>('GET', query === '' ? '/v1/endpoints' : `/v1/endpoints?${query}`);
    }
  },
};

interface SetOptions {
  readonly label?: Readonly<Record<string, string | null>>;
  readonly alias?: readonly string[] | false;
  readonly publish?: readonly PortRequest[] | false;
  readonly drain?: boolean;
}

const setCommand: CommandSpec<SetOptions> = {
  name: 'set',
  summary: 'change labels, aliases, published ports or draining of an endpoint of this host',
  args: [{ name: 'ENDPOINT', summary: 'id or name of an endpoint', means: 'endpoint' }],
  options: () => [
    new Option('--label <K=V>', 'set a label, or remove it with K-, repeatable').argParser(collectLabelChanges),
    new Option('--alias <NAME>', 'have these aliases and no others, repeatable').argParser(collectAliases),
    new Option('--no-alias', 'have no aliases'),
    new Option(
      '-p, --publish <PORTS>',
      'publish [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp] and nothing else, repeatable',
    ).argParser(collectPublished),
    new Option('--no-publish', 'publish nothing'),
    new Option('--drain', 'let no service lead new connections to it'),
    new Option('--no-drain', 'let services lead connections to it again'),
  ],
  examples: [
    { does: 'Two aliases in place of those it had', line: 'tsnet endpoint set web --alias www --alias shop' },
    { does: 'Publish a port, without a new attach', line: 'tsnet endpoint set web -p 8080:80' },
    { does: 'Set a label and remove another', line: 'tsnet endpoint set web --label tier=front --label old-' },
  ],
  common: 'calls',
  act: async ({ args: [endpoint = ''], options, cli, format, calls }) => {
    const aliases = options.alias === false ? [] : Array.isArray(options.alias) ? options.alias : undefined;
    const ports = options.publish === false ? [] : Array.isArray(options.publish) ? options.publish : undefined;
    if (options.label === undefined && aliases === undefined && ports === undefined && options.drain === undefined) {
      throw new TsnetError('ERR_USAGE', 'nothing to change', {
        hint: 'Give --label, --alias, --publish, --drain or their --no- forms; see `tsnet help endpoint set`.',
      });
    }
    const body = present<EndpointUpdate>({ labels: options.label, aliases, ports, draining: options.drain });
    const row = await calls.agent<EndpointView>('PATCH', `/v1/agent/endpoints/${encodeURIComponent(endpoint)}`, {
      body,
    });
    await printOne(cli, format, { view: changedEndpointView(row), row });
  },
};

/** Like `collect`; what came before is `true` or `false` where the option has a `--no-` form. */
function collectAliases(text: string, before: unknown): readonly string[] {
  return collect(text, Array.isArray(before) ? (before as readonly string[]) : []);
}

function collectPublished(text: string, before: unknown): readonly PortRequest[] {
  return collectPorts(text, Array.isArray(before) ? (before as readonly PortRequest[]) : []);
}

export const endpointCommands: GroupSpec = {
  name: 'endpoint',
  summary: 'list endpoints and change them',
  commands: [lsCommand, setCommand],
};
