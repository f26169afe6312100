import { Option } from 'commander';
import type { EndpointDetails, EndpointView } from '../../core/api/endpoint.js';
import type { NetworkCreate, NetworkUpdate, NetworkView } from '../../core/api/network.js';
import { TsnetError } from '../../core/errors.js';
import type { DriverName, Labels } from '../../core/model.js';
import type { ArgumentSpec, CommandSpec } from '../command.js';
import type { Connections } from '../connection.js';
import { asTsnetError } from '../errors.js';
import { printList, printOne, printShown, printValue, shownRecord, type Shown } from '../output/format.js';
import { endpointDetailsView, networkView } from '../output/views.js';
import { collect, collectLabelChanges, collectPairs, parseWhole, present } from '../parse.js';
import { matchSubnets, type SubnetOptions } from '../subnets.js';

export const networkPath = (reference: string): string => `/v1/networks/${encodeURIComponent(reference)}`;

const networks: ArgumentSpec = { name: 'NAME', summary: 'name or id of a network', means: 'network', variadic: true };

const subnetOptions = (subnet: string): readonly Option[] => [
  new Option('--subnet <CIDR>', subnet).argParser(collect),
  new Option('--gateway <ADDR>', 'gateway of the subnet that contains it, repeatable').argParser(collect),
  new Option(
    '--ip-range <CIDR>',
    'give out addresses of this part only of the subnet that contains it, repeatable',
  ).argParser(collect),
];

interface CreateOptions extends SubnetOptions {
  readonly driver?: DriverName;
  readonly ipv6?: boolean;
  readonly internal?: boolean;
  readonly mtu?: number;
  readonly label?: Labels;
  readonly dns?: readonly string[];
  readonly opt?: Readonly<Record<string, string>>;
  readonly join?: readonly string[];
}

const createCommand: CommandSpec<CreateOptions> = {
  name: 'create',
  summary: 'create a network',
  details: "Without --subnet it gets one IPv4 subnet from the cluster's pool, and with --ipv6 an IPv6 one as well.",
  args: [{ name: 'NAME', summary: 'name of the new network' }],
  options: () => [
    new Option('--driver <DRIVER>', 'overlay (default), bridge or macvlan').choices(['overlay', 'bridge', 'macvlan']),
    ...subnetOptions('IPv4 or IPv6 subnet, repeatable'),
    new Option('--ipv6', 'add an IPv6 subnet from the pool when none is given'),
    new Option('--internal', 'no way out of the network'),
    new Option('--mtu <BYTES>', 'MTU inside the network').argParser(parseWhole(576, 65_535)),
    new Option('--label <K=V>', 'label, repeatable').argParser(collectPairs),
    new Option(
      '--dns <ADDR>',
      "forward names that are not tsnet's to this server, not to those of the hosts, repeatable",
    ).argParser(collect),
    new Option('--opt <K=V>', 'option of the driver, repeatable').argParser(collectPairs),
    new Option('--join <NETWORK>', 'let it and that network route to each other, repeatable').argParser(collect),
  ],
  examples: [
    { does: 'An overlay across all hosts, with a subnet from the pool', line: 'tsnet create frontend' },
    {
      does: 'Both families, gateway and address range chosen',
      line: 'tsnet create backend --subnet 10.1.0.0/24 --gateway 10.1.0.254 --ip-range 10.1.0.128/25 --subnet fd00:1::/64',
    },
    { does: 'Outside names by two servers of its own', line: 'tsnet create frontend --dns 10.0.0.53 --dns 10.0.1.53' },
    {
      does: 'On the LAN behind an interface of each host',
      line: 'tsnet create lan --driver macvlan --subnet 198.51.100.0/24 --opt parent=eth1',
    },
  ],
  common: 'calls',
  act: async ({ args: [name = ''], options, cli, format, calls }) => {
    const subnets = matchSubnets(options);
    const body = present<NetworkCreate>({
      name,
      driver: options.driver,
      subnets: subnets.length === 0 ? undefined : subnets,
      ipv6: options.ipv6,
      internal: options.internal,
      mtu: options.mtu,
      labels: options.label,
      options: driverOptions(options),
      join: options.join,
    });
    const row = await calls.cluster<NetworkView>('POST', '/v1/networks', { body });
    await printOne(cli, format, { view: networkView, row });
  },
};

/** Errors: ERR_USAGE where --dns and --opt say different things. */
function driverOptions({ dns, opt }: CreateOptions): Readonly<Record<string, string>> | undefined {
  if (dns === undefined) return opt;
  if (opt?.['dns'] === undefined) return { ...opt, dns: dns.join(',') };
  throw new TsnetError('ERR_USAGE', '--dns and --opt dns= say the same thing twice', { hint: 'Give --dns alone.' });
}

const lsCommand: CommandSpec<{ readonly quiet?: boolean }> = {
  name: 'ls',
  summary: 'list networks',
  options: () => [new Option('-q, --quiet', 'names only')],
  examples: [
    { does: 'All networks of the cluster', line: 'tsnet ls' },
    { does: 'With gateways, VNI and labels', line: 'tsnet ls -o wide' },
  ],
  common: 'calls',
  act: async ({ options, cli, format, calls }) => {
    const rows = await calls.cluster<readonly NetworkView[]>('GET', '/v1/networks');
    await printList(cli, format, { view: networkView, rows, quiet: options.quiet === true });
  },
};

const inspectCommand: CommandSpec = {
  name: 'inspect',
  summary: 'show networks and endpoints in full',
  details:
    "What is no network is looked for among the endpoints: by id, name, caller's id or target. Those of this host are " +
    'shown with the resolver settings of their sandbox.',
  args: [{ name: 'NAME', summary: 'name or id of a network or an endpoint', means: 'network', variadic: true }],
  examples: [
    { does: 'Everything about one network', line: 'tsnet inspect frontend' },
    { does: 'Its first subnet, for a script', line: "tsnet inspect frontend -o json | jq -r '.[0].subnets[0].subnet'" },
    { does: 'Which name servers the sandbox of web asks', line: "tsnet inspect web -o json | jq '.[0].resolver'" },
  ],
  common: 'calls',
  act: async ({ cli, format, calls, each }) => {
    const records: Shown[] = [];
    const exit = await each(async (reference) => {
      try {
        const row = await calls.cluster<NetworkView>('GET', networkPath(reference));
        records.push(shownRecord(networkView, row));
      } catch (error) {
        const { code } = asTsnetError(error);
        // An agent knows its own endpoints while the cluster is away.
        const endpoint = code === 'ERR_USAGE' ? undefined : await findEndpoint(calls, reference);
        if (endpoint === undefined) throw error;
        records.push(shownRecord(endpointDetailsView, endpoint));
      }
    });
    await printShown(cli, format, records);
    return exit;
  },
};

/** An endpoint of this host, or of another one where only that has the name. */
async function findEndpoint(calls: Connections, reference: string): Promise<EndpointDetails | undefined> {
  try {
    return await calls.agent<EndpointDetails>('GET', `/v1/agent/endpoints/${encodeURIComponent(reference)}`);
  } catch {
    const all = await calls.cluster<readonly EndpointView[]>('GET', '/v1/endpoints').catch(() => []);
    const [only, ...others] = all.filter(({ id, name }) => id === reference || name === reference);
    return others.length === 0 ? only : undefined;
  }
}

const rmCommand: CommandSpec = {
  name: 'rm',
  summary: 'remove networks',
  details: 'A network with endpoints is refused; the others named are removed all the same.',
  args: [networks],
  examples: [{ does: 'Remove two networks', line: 'tsnet rm frontend backend' }],
  common: 'calls',
  act: async ({ cli, format, calls, each }) => {
    const removed: string[] = [];
    const isTable = format === 'table' || format === 'wide';
    const exit = await each(async (reference) => {
      await calls.cluster('DELETE', networkPath(reference));
      removed.push(reference);
      if (isTable) cli.stdout.write(`${reference}\n`);
    });
    await printValue(cli, format, removed);
    return exit;
  },
};

interface UpdateOptions extends SubnetOptions {
  readonly label?: Readonly<Record<string, string | null>>;
  readonly join?: readonly string[];
  readonly unjoin?: readonly string[];
}

const updateCommand: CommandSpec<UpdateOptions> = {
  name: 'update',
  summary: 'change labels of a network, add subnets to it, or join it to others',
  args: [{ name: 'NAME', summary: 'name or id of a network', means: 'network' }],
  options: () => [
    new Option('--label <K=V>', 'set a label, or remove it with K-, repeatable').argParser(collectLabelChanges),
    ...subnetOptions('add this subnet, repeatable'),
    new Option('--join <NETWORK>', 'let it and that network route to each other, repeatable').argParser(collect),
    new Option('--unjoin <NETWORK>', 'keep it and that network apart again, repeatable').argParser(collect),
  ],
  examples: [
    { does: 'Set one label and remove another', line: 'tsnet update frontend --label tier=web --label old-' },
    { does: 'More addresses', line: 'tsnet update frontend --subnet 10.2.0.0/24' },
    { does: 'Let it and another network reach each other', line: 'tsnet update frontend --join backend' },
  ],
  common: 'calls',
  act: async ({ args: [reference = ''], options, cli, format, calls }) => {
    const subnets = matchSubnets(options);
    const isJoin = options.join !== undefined || options.unjoin !== undefined;
    if (options.label === undefined && subnets.length === 0 && !isJoin) {
      throw new TsnetError('ERR_USAGE', 'nothing to change', {
        hint: 'Give --label, --subnet, --join or --unjoin; see `tsnet help update`.',
      });
    }
    const both = options.join?.find((network) => options.unjoin?.includes(network) === true);
    if (both !== undefined) {
      throw new TsnetError('ERR_USAGE', `--join and --unjoin: ${both} is named by both`, {
        hint: 'Say which of them is meant; see `tsnet help update`.',
      });
    }
    const body = present<NetworkUpdate>({
      labels: options.label,
      addSubnets: subnets.length === 0 ? undefined : subnets,
      join: options.join,
      unjoin: options.unjoin,
    });
    const row = await calls.cluster<NetworkView>('PATCH', networkPath(reference), { body });
    await printOne(cli, format, { view: networkView, row });
  },
};

export const networkCommands: readonly CommandSpec<never>[] = [
  createCommand,
  lsCommand,
  inspectCommand,
  rmCommand,
  updateCommand,
];
