import { Option } from 'commander';
import type { ConnectRequest, DetachRequest, DetachResult } from '../../core/api/attach.js';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { NetworkView } from '../../core/api/network.js';
import type { PortRequest } from '../../core/api/port.js';
import { TsnetError } from '../../core/errors.js';
import type { Labels } from '../../core/model.js';
import type { CommandSpec } from '../command.js';
import type { Connections } from '../connection.js';
import { asTsnetError } from '../errors.js';
import { printOne, printValue } from '../output/format.js';
import { changedEndpointView } from '../output/views.js';
import { collect, collectPairs, collectPorts, parseDrain, present } from '../parse.js';
import { parseTarget } from '../target.js';

/** The option of `connect` and `run` that publishes ports. */
export function publishOption(): Option {
  return new Option(
    '-p, --publish <PORTS>',
    'publish [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp], repeatable; host port 0 lets the agent choose',
  ).argParser(collectPorts);
}

/** An attach may wait for a host's first block and the first announcement of its network. */
export const attachTimeoutMs = 30_000;

const network = { name: 'NETWORK', summary: 'name or id of a network', means: 'network' } as const;
const target = { name: 'TARGET', summary: 'pid:N, netns:PATH, or a name in /run/netns', means: 'target' } as const;

interface ConnectOptions {
  readonly name?: string;
  readonly alias?: readonly string[];
  readonly ip?: readonly string[];
  readonly mac?: string;
  readonly ifname?: string;
  readonly label?: Labels;
  readonly publish?: readonly PortRequest[];
  readonly id?: string;
  readonly defaultRoute?: boolean;
  readonly setDns?: boolean;
}

export const connectCommand: CommandSpec<ConnectOptions> = {
  name: 'connect',
  summary: 'connect a running sandbox of this host to a network',
  details:
    'Doing it again is no error: the endpoint of the same network, id and interface name is shown. --set-dns needs a ' +
    'process of the container for TARGET. The file is written in place with what `tsnet dns resolv-conf` prints, ' +
    'follows the networks of the container, and gets its former content back by `tsnet disconnect`, unless somebody ' +
    'else has changed it.',
  args: [network, target],
  options: () => [
    new Option('--name <NAME>', 'name of the endpoint'),
    new Option('--alias <NAME>', 'further name, repeatable').argParser(collect),
    new Option('--ip <ADDR>', 'this address, one for each subnet, repeatable').argParser(collect),
    new Option('--mac <MAC>', 'this MAC address'),
    new Option(
      '--ifname <IFNAME>',
      'name of the interface in the sandbox (default: the first free of eth0, eth1, ...)',
    ),
    publishOption(),
    new Option('--label <K=V>', 'label, repeatable').argParser(collectPairs),
    new Option('--id <ID>', "the caller's id of the attachment (default: made of the sandbox)"),
    new Option('--default-route', 'take the default route even if the sandbox has one'),
    new Option('--no-default-route', 'no default route over this network'),
    new Option('--set-dns', 'write /etc/resolv.conf of the container, until it is disconnected'),
  ],
  examples: [
    { does: 'A process, by name web', line: 'tsnet connect frontend pid:4711 --name web' },
    {
      does: 'A namespace made with `ip netns add blue`, with a fixed address',
      line: 'tsnet connect frontend blue --ip 10.1.0.5 --ifname eth1',
    },
    { does: 'A container that looks up names by tsnet from now on', line: 'tsnet connect frontend pid:4711 --set-dns' },
    { does: 'Port 80 of the process as 8080 of this host', line: 'tsnet connect frontend pid:4711 -p 8080:80' },
  ],
  common: 'calls',
  act: async ({ args: [reference = '', text = ''], options, cli, format, calls }) => {
    const body = present<ConnectRequest>({
      network: reference,
      target: parseTarget(text, cli.cwd),
      id: options.id,
      ifname: options.ifname,
      name: options.name,
      aliases: options.alias,
      addresses: options.ip,
      mac: options.mac,
      labels: options.label,
      ports: options.publish,
      defaultRoute: options.defaultRoute,
      bandwidth: undefined,
      setDns: options.setDns,
    });
    const row = await calls.agent<EndpointView>('POST', '/v1/agent/attach', { body, timeoutMs: attachTimeoutMs });
    await printOne(cli, format, { view: changedEndpointView(row), row });
  },
};

interface DisconnectOptions {
  readonly id?: string;
  readonly ifname?: string;
  readonly drain?: number;
}

export const disconnectCommand: CommandSpec<DisconnectOptions> = {
  name: 'disconnect',
  summary: 'disconnect a sandbox of this host from a network',
  details:
    'Prints the ids of the endpoints removed; that there was none is no error, but that there is no such network is one.',
  args: [network, { ...target, summary: `${target.summary}; not needed with --id`, optional: true }],
  options: () => [
    new Option('--id <ID>', "the caller's id that connect was given"),
    new Option('--ifname <IFNAME>', 'this interface only'),
    new Option(
      '--drain <DURATION>',
      'first let services lead no new connections to it, and wait until those it has are over, for so long at most',
    ).argParser(parseDrain),
  ],
  examples: [
    { does: 'All interfaces of a process on the network', line: 'tsnet disconnect frontend pid:4711' },
    { does: 'By the id given to connect, when the sandbox is gone', line: 'tsnet disconnect frontend --id job-17' },
    { does: 'A backend of services, without a lost request', line: 'tsnet disconnect frontend pid:4711 --drain 30s' },
  ],
  common: 'calls',
  act: async ({ args: [reference = '', text], options, cli, format, calls }) => {
    if (text === undefined && options.id === undefined) {
      throw new TsnetError('ERR_USAGE', 'neither TARGET nor --id is given', { hint: 'See `tsnet help disconnect`.' });
    }
    const body = present<DetachRequest>({
      network: reference,
      target: text === undefined ? undefined : parseTarget(text, cli.cwd),
      id: options.id,
      ifname: options.ifname,
      drainMs: options.drain,
    });
    const timeoutMs = attachTimeoutMs + (options.drain ?? 0);
    const result = await calls.agent<DetachResult>('POST', '/v1/agent/detach', { body, timeoutMs });
    if (result.detached.length === 0) await assertKnown(calls, reference);
    for (const note of result.left ?? []) cli.stderr.write(`warning: ${note}\n`);
    if (!(await printValue(cli, format, result))) cli.stdout.write(result.detached.map((id) => `${id}\n`).join(''));
  },
};

/** A runtime may repeat a detach after its network has gone; a person has mistyped. Errors: ERR_NETWORK_UNKNOWN. */
async function assertKnown(calls: Connections, reference: string): Promise<void> {
  try {
    await calls.agent<NetworkView>('GET', `/v1/networks/${encodeURIComponent(reference)}`);
  } catch (error) {
    if (asTsnetError(error).code === 'ERR_NETWORK_UNKNOWN') throw error;
    // While no controller can be asked nothing speaks against the name.
  }
}
