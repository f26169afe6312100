import { resolve } from 'node:path';
import { Option } from 'commander';
import { agentDefaults } from '../agent/options.js';
import type { CommandSpec } from '../cli/command.js';
import { TsnetError } from '../core/errors.js';
import type { LogLevel } from '../lib/log.js';
import { logLevelOption } from './options.js';

interface DnsFlags {
  readonly runDir: string;
  readonly resolvConf: string;
  readonly logLevel: LogLevel;
}

export const dnsServerCommand: CommandSpec<DnsFlags> = {
  name: 'dns-server',
  summary: 'run the name server of this host',
  details:
    'The agent starts it by itself where none runs. It is a process of its own: it goes on answering what it last ' +
    'knew while the agent is away. Its socket is RUN-DIR/dns.sock.',
  options: () => [
    new Option('--run-dir <DIR>', "the agent's run directory").default(agentDefaults.runDir).env('TSNET_RUN_DIR'),
    new Option('--resolv-conf <FILE>', 'where the name servers of the host stand').default('/etc/resolv.conf'),
    logLevelOption(agentDefaults.logLevel),
  ],
  examples: [{ does: 'As a service of its own, before the agent', line: 'tsnet dns-server' }],
  common: 'none',
  act: async ({ options, cli }) => {
    if (process.geteuid?.() !== 0) throw new TsnetError('ERR_NOT_ROOT', 'the name server needs root');
    const { runDnsDaemon } = await import('./dns-daemon.js');
    const { resolvConf, logLevel } = options;
    await runDnsDaemon({
      runDir: resolve(cli.cwd, options.runDir),
      resolvConf: resolve(cli.cwd, resolvConf),
      logLevel,
    });
  },
};
