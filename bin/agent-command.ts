import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { Option } from 'commander';
import { agentDefaults, dnsDefaults, type AgentOptions, type DnsOptions } from '../agent/options.js';
import type { CommandSpec } from '../cli/command.js';
import { collectList, formatDuration, parseDurationMs, parseServer } from '../cli/parse.js';
import { parseAddr } from '../core/addr.js';
import { TsnetError } from '../core/errors.js';
import { parseHostName } from '../core/name.js';
import type { LogLevel } from '../lib/log.js';
import { logLevelOption } from './options.js';

interface AgentFlags {
  readonly controller?: readonly string[];
  readonly hostName?: string;
  readonly underlay?: string;
  readonly dataDir: string;
  readonly runDir: string;
  readonly tokenFile?: string;
  readonly quarantine: number;
  readonly audit: number;
  readonly dockerUser: boolean;
  readonly dns: boolean;
  readonly dnsDomain: string;
  readonly dnsUpstream?: readonly string[];
  readonly logLevel: LogLevel;
}

export const agentCommand: CommandSpec<AgentFlags> = {
  name: 'agent',
  summary: 'run the agent of this host',
  details: 'It needs root. Its socket is RUN-DIR/agent.sock. Lists may be written with commas.',
  options: () => [
    new Option(
      '--controller <URL>',
      `controllers, tried in order, repeatable (default: ${agentDefaults.controllers.join(',')})`,
    )
      .argParser(collectList)
      .env('TSNET_CONTROLLER'),
    new Option('--host-name <NAME>', "name of this host in the cluster (default: the system's)").env('TSNET_HOST_NAME'),
    new Option(
      '--underlay <IFACE|ADDRESS>',
      'interface or address that carries VXLAN (default: where the default route goes)',
    ).env('TSNET_UNDERLAY'),
    new Option('--data-dir <DIR>', 'journal of endpoints and address blocks')
      .default(agentDefaults.dataDir)
      .env('TSNET_DATA_DIR'),
    new Option('--run-dir <DIR>', 'where agent.sock is').default(agentDefaults.runDir).env('TSNET_RUN_DIR'),
    new Option('--token-file <FILE>', 'host token, for controllers that are not on loopback').env('TSNET_TOKEN_FILE'),
    new Option('--quarantine <DURATION>', 'how long a released address rests')
      .argParser(parseDurationMs)
      .default(agentDefaults.quarantineMs, formatDuration(agentDefaults.quarantineMs))
      .env('TSNET_QUARANTINE'),
    new Option('--audit <DURATION>', 'how often all kernel objects are compared')
      .argParser(parseDurationMs)
      .default(agentDefaults.auditMs, formatDuration(agentDefaults.auditMs))
      .env('TSNET_AUDIT'),
    new Option('--no-docker-user', "put no rule into Docker's DOCKER-USER chain"),
    new Option('--no-dns', 'run no name server for the sandboxes of this host'),
    new Option('--dns-domain <DOMAIN>', 'domain of all names, the same on every host')
      .default(dnsDefaults.domain)
      .env('TSNET_DNS_DOMAIN'),
    new Option(
      '--dns-upstream <ADDRESS>',
      "who is asked for other names, ADDRESS or ADDRESS#PORT, repeatable (default: the host's resolv.conf)",
    )
      .argParser(collectList)
      .env('TSNET_DNS_UPSTREAM'),
    logLevelOption(agentDefaults.logLevel),
  ],
  contradictions: [
    ['no-dns', 'dns-domain'],
    ['no-dns', 'dns-upstream'],
  ],
  examples: [
    { does: 'Beside a controller on the same machine', line: 'tsnet agent' },
    {
      does: 'On a host of a cluster',
      line: 'tsnet agent --controller http://10.0.0.1:7420,http://10.0.0.2:7420 --underlay eth1 --token-file /etc/tsnet/host.token',
    },
  ],
  common: 'none',
  act: async ({ options, cli }) => {
    if (process.geteuid?.() !== 0) throw new TsnetError('ERR_NOT_ROOT', 'the agent needs root');
    const { tokenFile = null, underlay = null } = options;
    const runDir = resolve(cli.cwd, options.runDir);
    const agent: AgentOptions = {
      controllers: (options.controller ?? agentDefaults.controllers).map((base) => parseServer(base, cli.cwd)),
      hostName: parseHostName(options.hostName ?? hostname(), '--host-name'),
      underlay,
      dataDir: resolve(cli.cwd, options.dataDir),
      runDir,
      tokenFile: tokenFile === null ? null : resolve(cli.cwd, tokenFile),
      quarantineMs: options.quarantine,
      auditMs: options.audit,
      dockerUser: options.dockerUser,
      dns: options.dns ? dnsOptions(options, runDir) : null,
      logLevel: options.logLevel,
    };
    // Loaded now only: the daemon's code would slow down every other command.
    const { runAgentDaemon } = await import('./agent-daemon.js');
    await runAgentDaemon(agent);
  },
};

/** This very program runs the name server, as a process of its own. */
function dnsOptions(flags: AgentFlags, runDir: string): DnsOptions {
  const script = process.argv[1];
  const self = script === undefined ? [process.execPath] : [process.execPath, script];
  const upstreams = flags.dnsUpstream ?? [];
  for (const server of upstreams) parseAddr(server.split('#', 1)[0] ?? '', '--dns-upstream');
  return {
    program: [...self, 'dns-server', '--run-dir', runDir, '--log-level', flags.logLevel],
    domain: parseHostName(flags.dnsDomain, '--dns-domain'),
    upstreams,
  };
}
