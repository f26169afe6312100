import { Option } from 'commander';
import type { ServiceCreate, ServiceUpdate, ServiceView } from '../../core/api/service.js';
import type { Labels, ServiceAffinity, ServiceMode } from '../../core/model.js';
import type { ArgumentSpec, CommandSpec, GroupSpec } from '../command.js';
import { printList, printOne, printRecords, printValue } from '../output/format.js';
import { serviceView } from '../output/service-view.js';
import { collect, collectPairs, parseDurationMs, present } from '../parse.js';
import { parseHealthText, parsePortText, parsePublishText, servicePath } from '../service-text.js';
import { setCommand } from './service-set.js';

const names: ArgumentSpec = {
  name: 'NAME',
  summary: 'name of a service, or NAME.NETWORK',
  means: 'service',
  variadic: true,
};

interface CreateOptions {
  readonly network: string;
  readonly port: readonly string[];
  readonly selector?: Labels;
  readonly backend?: readonly string[];
  readonly mode?: ServiceMode;
  readonly ip?: readonly string[];
  readonly affinity?: ServiceAffinity;
  readonly health?: string;
  readonly publish?: readonly string[];
  readonly drain?: number;
}

const createCommand: CommandSpec<CreateOptions> = {
  name: 'create',
  summary: 'give endpoints of a network one name and one address',
  details:
    'Connections to the address are spread over the backends at the host of the client: a backend sees the address of ' +
    'the client itself, and its replies take no detour. With mode dnsrr the name stands for the addresses of the ' +
    'backends instead.',
  args: [{ name: 'NAME', summary: 'name of the new service, in the DNS of the network' }],
  options: () => [
    new Option('--network <NAME>', 'the network that its backends and clients are on').makeOptionMandatory(),
    new Option('--port <PORT>', 'PORT[:TARGET][/tcp|udp|sctp], repeatable; TARGET is the port of the backends')
      .argParser(collect)
      .makeOptionMandatory(),
    new Option('--selector <K=V>', 'backends are endpoints with this label, repeatable: with all of them').argParser(
      collectPairs,
    ),
    new Option('--backend <ENDPOINT>', 'backends are endpoints with this name, alias or id, repeatable')
      .argParser(collect)
      .conflicts('selector'),
    new Option('--mode <MODE>', 'one address, or those of the backends').choices(['vip', 'dnsrr']),
    new Option('--ip <ADDRESS>', 'the address, one of each family, repeatable; else tsnet chooses').argParser(collect),
    new Option('--affinity <KIND>', 'whether a client keeps its backend').choices(['none', 'client-ip']),
    new Option('--health <CHECK>', 'only backends that answer get connections: tcp or http:/PATH'),
    new Option('--publish <PORT>', 'reach it by HOSTPORT[:PORT] of every host of the network, repeatable').argParser(
      collect,
    ),
    new Option('--drain <DURATION>', 'how long connections to a draining backend may go on, default 30s').argParser(
      parseDurationMs,
    ),
  ],
  examples: [
    {
      does: 'One address for all endpoints with a label',
      line: 'tsnet service create web --network frontend --port 80:8080 --selector app=web',
    },
    {
      does: 'Two endpoints by name, checked, and reachable from outside on port 8080 of each host',
      line: 'tsnet service create shop --network frontend --port 80 --backend shop-1 --backend shop-2 --health http:/ready --publish 8080',
    },
  ],
  common: 'calls',
  act: async ({ args: [name = ''], options, cli, format, calls }) => {
    const { network, port, selector, backend, mode, ip, affinity, health, publish, drain } = options;
    const body = present<ServiceCreate>({
      name,
      network,
      ports: port.map(parsePortText),
      selector,
      backends: backend,
      mode,
      addresses: ip,
      affinity,
      health: health === undefined ? undefined : parseHealthText(health),
      publish: publish?.map(parsePublishText),
      drainMs: drain,
    });
    const row = await calls.cluster<ServiceView>('POST', '/v1/services', { body });
    await printOne(cli, format, { view: serviceView, row });
  },
};

const lsCommand: CommandSpec<{ readonly quiet?: boolean; readonly network?: string }> = {
  name: 'ls',
  summary: 'list services',
  options: () => [
    new Option('--network <NAME>', 'only those of this network'),
    new Option('-q, --quiet', 'NAME.NETWORK only'),
  ],
  examples: [{ does: 'All services, with how many of their backends are ready', line: 'tsnet service ls' }],
  common: 'calls',
  act: async ({ options, cli, format, calls }) => {
    const query = options.network === undefined ? '' : `?network=${encodeURIComponent(options.network)}`;
    const rows = await calls.cluster<readonly ServiceView[]>('GET', `/v1/services${query}`);
    await printList(cli, format, { view: serviceView, rows, quiet: options.quiet === true });
  },
};

const inspectCommand: CommandSpec = {
  name: 'inspect',
  summary: 'show services with their backends',
  args: [names],
  examples: [
    { does: 'Which backends there are, and which get connections', line: 'tsnet service inspect web -o yaml' },
  ],
  common: 'calls',
  act: async ({ cli, format, calls, each }) => {
    const rows: ServiceView[] = [];
    const exit = await each(async (name) => {
      rows.push(await calls.cluster<ServiceView>('GET', servicePath(name)));
    });
    await printRecords(cli, format, { view: serviceView, rows });
    return exit;
  },
};

const drainCommand: CommandSpec<{ readonly undo?: boolean }> = {
  name: 'drain',
  summary: 'give a backend no new connections',
  details:
    'What is connected to it goes on until it ends, or for as long as the service was created with (--drain). Remove ' +
    'the endpoint afterwards, and no request is lost.',
  args: [
    { name: 'NAME', summary: 'name of a service, or NAME.NETWORK', means: 'service' },
    { name: 'ENDPOINT', summary: 'name, alias or id of a backend', means: 'endpoint', variadic: true },
  ],
  options: () => [new Option('--undo', 'give it new connections again')],
  examples: [{ does: 'Before web-1 is replaced', line: 'tsnet service drain web web-1' }],
  common: 'calls',
  act: async ({ args: [name = '', ...endpoints], options, cli, format, calls }) => {
    const body: ServiceUpdate = options.undo === true ? { undrain: endpoints } : { drain: endpoints };
    const row = await calls.cluster<ServiceView>('PATCH', servicePath(name), { body });
    await printOne(cli, format, { view: serviceView, row });
  },
};

const rmCommand: CommandSpec = {
  name: 'rm',
  summary: 'remove services',
  args: [names],
  examples: [{ does: 'Remove two services; their backends stay', line: 'tsnet service rm web shop.frontend' }],
  common: 'calls',
  act: async ({ cli, format, calls, each }) => {
    const removed: string[] = [];
    const isTable = format === 'table' || format === 'wide';
    const exit = await each(async (name) => {
      await calls.cluster('DELETE', servicePath(name));
      removed.push(name);
      if (isTable) cli.stdout.write(`${name}\n`);
    });
    await printValue(cli, format, removed);
    return exit;
  },
};

export const serviceCommands: GroupSpec = {
  name: 'service',
  summary: 'give several endpoints one name and address',
  commands: [createCommand, lsCommand, inspectCommand, setCommand, drainCommand, rmCommand],
};
