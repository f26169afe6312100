import { Option } from 'commander';
import type { NetworkView } from '../../core/api/network.js';
import type { PortRequest } from '../../core/api/port.js';
import { TsnetError } from '../../core/errors.js';
import type { Labels } from '../../core/model.js';
import type { Call, CommandSpec } from '../command.js';
import { collect, collectPairs, present } from '../parse.js';
import type { AttachPlan } from '../run/lifecycle.js';
import { matchAddresses } from '../subnets.js';
import { publishOption } from './connect.js';
import { networkPath } from './network.js';

interface RunOptions {
  readonly network?: readonly string[];
  readonly name?: string;
  readonly alias?: readonly string[];
  readonly ip?: readonly string[];
  readonly publish?: readonly PortRequest[];
  readonly label?: Labels;
}

export const runCommandSpec: CommandSpec<RunOptions> = {
  name: 'run',
  summary: 'run a command in a fresh sandbox on networks',
  details:
    'The command has a network namespace of its own, our terminal and our signals. It starts when all networks are ' +
    'there, the first of them with the default route; when it ends it is disconnected. The exit code is the ' +
    "command's, 128 and the signal's number when a signal ended it, 127 when it is not found. Ports are published " +
    'on the first network.',
  args: [{ name: 'COMMAND', summary: 'command with its arguments', means: 'command', variadic: true }],
  options: () => [
    new Option('--network <NETWORK>', 'network to connect to, repeatable').argParser(collect).makeOptionMandatory(),
    new Option('--name <NAME>', 'name of the endpoints'),
    new Option('--alias <NAME>', 'further name, repeatable').argParser(collect),
    new Option('--ip <ADDR>', 'this address, on the network that has a subnet for it, repeatable').argParser(collect),
    publishOption(),
    new Option('--label <K=V>', 'label of the endpoints, repeatable').argParser(collectPairs),
  ],
  examples: [
    { does: 'A web server by name', line: 'tsnet run --network frontend --name web -- python3 -m http.server 80' },
    {
      does: 'The same, reached by port 8080 of this host',
      line: 'tsnet run --network frontend -p 8080:80 -- python3 -m http.server 80',
    },
    { does: 'A shell on two networks', line: 'tsnet run --network frontend --network backend --ip 10.1.0.9 -- bash' },
  ],
  common: 'calls',
  passThrough: true,
  act: async (call) => {
    const { runInSandbox } = await import('../run/lifecycle.js');
    return runInSandbox(call.cli, call.calls, { attaches: await planAttaches(call), command: call.args });
  },
};

async function planAttaches({ options, calls }: Call<RunOptions>): Promise<readonly AttachPlan[]> {
  const networks = options.network ?? [];
  if (new Set(networks).size < networks.length) {
    throw new TsnetError('ERR_USAGE', '--network: the same network is named twice', {
      hint: 'Name each network once.',
    });
  }
  const addresses = await planAddresses();
  return networks.map((network, index) =>
    present<AttachPlan>({
      network,
      name: options.name,
      aliases: options.alias,
      addresses: addresses[index],
      labels: options.label,
      ifname: undefined,
      mac: undefined,
      defaultRoute: undefined,
      ports: index === 0 ? options.publish : undefined,
      bandwidth: undefined,
    }),
  );

  async function planAddresses(): Promise<readonly (readonly string[] | undefined)[]> {
    if (options.ip === undefined) return [];
    if (networks.length === 1) return [options.ip];
    const views = await Promise.all(networks.map((network) => calls.cluster<NetworkView>('GET', networkPath(network))));
    return matchAddresses(options.ip, views).map((matched) => (matched.length === 0 ? undefined : matched));
  }
}
