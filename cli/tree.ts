import { Command } from 'commander';
import { addCommand, formatExamples, type CommandSpec, type TreeSpec } from './command.js';
import { cniCommands } from './commands/cni.js';
import { completionCommand } from './commands/completion.js';
import { dnsCommands } from './commands/dns.js';
import { endpointCommands } from './commands/endpoint.js';
import { helpCommand } from './commands/help.js';
import { hostCommands } from './commands/host.js';
import { networkCommands } from './commands/network.js';
import { policyCommands } from './commands/policy.js';
import { portCommands } from './commands/port.js';
import { connectCommand, disconnectCommand } from './commands/connect.js';
import { runCommandSpec } from './commands/run.js';
import { serviceCommands } from './commands/service.js';
import { statusCommand, versionCommand } from './commands/status.js';

/** All commands in the order of the help; `daemons` are those that only bin/ can make. */
export function newTree(daemons: readonly TreeSpec[]): readonly TreeSpec[] {
  return [
    ...networkCommands,
    connectCommand,
    disconnectCommand,
    runCommandSpec,
    endpointCommands,
    portCommands,
    serviceCommands,
    policyCommands,
    dnsCommands,
    hostCommands,
    cniCommands,
    statusCommand,
    ...daemons,
    versionCommand,
    completionCommand,
    helpCommand,
  ];
}

/** Called with the command that was parsed. */
export type Runner = (command: Command, spec: CommandSpec<never>) => Promise<void>;

/** The program: what parses the command line, and what help, completion and docs are made from. */
export function newProgram(tree: readonly TreeSpec[], version: string, run: Runner): Command {
  const program = new Command('tsnet')
    .description('A multi-host network for containers of any runtime.')
    .usage('COMMAND')
    .version(`tsnet ${version}`, '-V, --version', 'show the version')
    .helpOption('-h, --help', 'show this help')
    .helpCommand(false)
    .enablePositionalOptions()
    .exitOverride()
    .configureHelp({ subcommandTerm: (command) => command.name(), showGlobalOptions: false })
    .addHelpText('after', '\nEach command has its own help with examples: tsnet help COMMAND.\n');
  for (const spec of tree) {
    if (!('commands' in spec)) {
      addCommand(program, spec, run);
      continue;
    }
    const group = program
      .command(spec.name)
      .summary(spec.summary)
      .description(`${spec.summary.charAt(0).toUpperCase()}${spec.summary.slice(1)}.`);
    group.usage('COMMAND').helpOption('-h, --help', 'show this help').helpCommand(false);
    group.addHelpText('after', () => formatExamples(spec.commands.flatMap(({ examples }) => examples.slice(0, 1))));
    for (const inner of spec.commands) addCommand(group, inner, run);
  }
  return program;
}
