import { resolve } from 'node:path';
import { InvalidArgumentError, Option } from 'commander';
import type { CommandSpec } from '../cli/command.js';
import { collectList, formatDuration, parseDurationMs, parseServer, parseWhole } from '../cli/parse.js';
import { controllerDefaults, type ControllerOptions } from '../controller/options.js';
import { TsnetError } from '../core/errors.js';
import { parseHostName } from '../core/name.js';
import type { LogLevel } from '../lib/log.js';
import { logLevelOption } from './options.js';

interface ControllerFlags {
  readonly listen?: readonly string[];
  readonly dataDir: string;
  readonly etcd?: readonly string[];
  readonly subnetPool?: readonly string[];
  readonly vxlanPort: number;
  readonly liveness: number;
  readonly hostsManageNetworks: boolean;
  readonly requireLoopbackToken?: boolean;
  readonly ownHostTokens?: boolean;
  readonly skydns?: string | true;
  readonly skydnsDomain: string;
  readonly logLevel: LogLevel;
}

const skyDnsDefaults = { prefix: '/skydns', domain: 'tsnet.internal' } as const;

function parsePrefix(text: string): string {
  if (/^(?:\/[A-Za-z0-9_.-]+)+$/.test(text) && !`${text}/`.startsWith('/tsnet/')) return text;
  throw new InvalidArgumentError('a prefix begins with a slash and ends without one, as /skydns, and is not /tsnet');
}

export const controllerCommand: CommandSpec<ControllerFlags> = {
  name: 'controller',
  summary: 'run a controller',
  details:
    'Any number of controllers may run on one etcd. Without --etcd it starts the etcd of this system in its data ' +
    'directory. The tokens are there too: admin.token and host.token. Lists may be written with commas.',
  options: () => [
    new Option(
      '--listen <URL>',
      `http://ADDRESS:PORT or unix:PATH, repeatable (default: ${controllerDefaults.listen.join(',')})`,
    )
      .argParser(collectList)
      .env('TSNET_LISTEN'),
    new Option('--data-dir <DIR>', 'tokens, and the data of an etcd of its own')
      .default(controllerDefaults.dataDir)
      .env('TSNET_DATA_DIR'),
    new Option('--etcd <URL>', 'endpoint of an etcd that is there already, repeatable')
      .argParser(collectList)
      .env('TSNET_ETCD'),
    new Option(
      '--subnet-pool <CIDR:LENGTH>',
      `where subnets are taken from when none is given, repeatable (default: ${controllerDefaults.subnetPools.join(',')})`,
    )
      .argParser(collectList)
      .env('TSNET_SUBNET_POOL'),
    new Option('--vxlan-port <PORT>', 'UDP port of VXLAN, for a new store only')
      .argParser(parseWhole(1, 65_535))
      .default(controllerDefaults.vxlanPort)
      .env('TSNET_VXLAN_PORT'),
    new Option('--liveness <DURATION>', 'a silent host is down after this')
      .argParser(parseDurationMs)
      .default(controllerDefaults.livenessMs, formatDuration(controllerDefaults.livenessMs))
      .env('TSNET_LIVENESS'),
    new Option('--no-hosts-manage-networks', 'only the admin token may create, change and remove networks'),
    new Option('--require-loopback-token', 'ask for a token over loopback too'),
    new Option(
      '--own-host-tokens',
      'take from hosts only tokens of their own (see `tsnet host token`), not host.token',
    ),
    new Option(
      '--skydns [PREFIX]',
      `write names below this prefix of etcd (default: ${skyDnsDefaults.prefix}) for CoreDNS's etcd plugin; on every controller alike`,
    )
      .argParser(parsePrefix)
      .env('TSNET_SKYDNS'),
    new Option('--skydns-domain <DOMAIN>', 'domain of these names')
      .default(skyDnsDefaults.domain)
      .env('TSNET_SKYDNS_DOMAIN'),
    logLevelOption(controllerDefaults.logLevel),
  ],
  examples: [
    { does: 'For one machine, or to try', line: 'tsnet controller --data-dir /var/lib/tsnet/controller' },
    {
      does: 'For a cluster, on three etcd members',
      line: 'tsnet controller --listen http://10.0.0.1:7420 --etcd http://10.0.0.1:2379,http://10.0.0.2:2379,http://10.0.0.3:2379',
    },
  ],
  common: 'none',
  act: async ({ options, cli }) => {
    if (options.skydns === undefined && options.skydnsDomain !== skyDnsDefaults.domain)
      throw new TsnetError('ERR_USAGE', '--skydns-domain says nothing without --skydns', {
        hint: 'Give --skydns as well; see `tsnet help controller`.',
      });
    const controller: ControllerOptions = {
      listen: (options.listen ?? controllerDefaults.listen).map((place) => parseServer(place, cli.cwd)),
      dataDir: resolve(cli.cwd, options.dataDir),
      etcd: options.etcd ?? controllerDefaults.etcd,
      subnetPools: options.subnetPool ?? controllerDefaults.subnetPools,
      vxlanPort: options.vxlanPort,
      livenessMs: options.liveness,
      hostsManageNetworks: options.hostsManageNetworks,
      requireLoopbackToken: options.requireLoopbackToken ?? controllerDefaults.requireLoopbackToken,
      ownHostTokens: options.ownHostTokens ?? controllerDefaults.ownHostTokens,
      skyDns:
        options.skydns === undefined
          ? null
          : {
              prefix: options.skydns === true ? skyDnsDefaults.prefix : options.skydns,
              domain: parseHostName(options.skydnsDomain, '--skydns-domain'),
            },
      logLevel: options.logLevel,
    };
    // Loaded now only: the daemon's code would slow down every other command.
    const { runControllerDaemon } = await import('./controller-daemon.js');
    await runControllerDaemon(controller);
  },
};
