import { CommanderError, type Command } from 'commander';
import { helpOf, runCommand, type TreeSpec } from './command.js';
import type { CliContext } from './context.js';
import { asTsnetError, fromCommander, printError } from './errors.js';
import { newProgram, newTree } from './tree.js';

/** Runs one command line; resolves with the exit code and never rejects. */
export async function runCli(argv: readonly string[], cli: CliContext, daemons: readonly TreeSpec[]): Promise<number> {
  let exit = 0;
  const program = newProgram(neededTree(newTree(daemons), argv), cli.version, async (command, spec) => {
    exit = await runCommand(command, spec, cli);
  });
  const configure = (command: Command): void => {
    command.configureOutput({
      writeOut: (text) => cli.stdout.write(text),
      writeErr: (text) => cli.stderr.write(text),
      outputError: () => undefined,
      getOutHelpWidth: () => Math.min(cli.stdout.columns ?? 100, 100),
      getErrHelpWidth: () => Math.min(cli.stderr.columns ?? 100, 100),
    });
    command.commands.forEach(configure);
  };
  configure(program);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return exit;
  } catch (thrown) {
    if (thrown instanceof CommanderError && isHelp(thrown)) return thrown.exitCode === 0 ? 0 : 2;
    const error =
      thrown instanceof CommanderError ? fromCommander(thrown, helpFor(program, argv)) : asTsnetError(thrown);
    printError(cli, error, formatAsked(argv));
    if (error.code === 'ERR_INTERNAL' && cli.env['TSNET_DEBUG'] === '1' && thrown instanceof Error)
      cli.stderr.write(`${thrown.stack ?? ''}\n`);
    return error.exit;
  }
}

/** Only the command that is named, where it is known: making all of them costs more than `tsnet ls` itself. */
function neededTree(tree: readonly TreeSpec[], argv: readonly string[]): readonly TreeSpec[] {
  const named = tree.filter((spec) => spec.name === argv[0]);
  return named.some((spec) => 'commands' in spec || spec.wholeTree !== true) ? named : tree;
}

function isHelp(error: CommanderError): boolean {
  return (
    error.code === 'commander.helpDisplayed' || error.code === 'commander.help' || error.code === 'commander.version'
  );
}

/** The help command for the longest known command at the start of the line. */
function helpFor(program: Command, argv: readonly string[]): string {
  let command = program;
  for (const word of argv) {
    const next = command.commands.find((inner) => inner.name() === word);
    if (next === undefined) break;
    command = next;
  }
  return helpOf(command);
}

/** The format asked for on a line that could not be parsed. */
function formatAsked(argv: readonly string[]): string {
  const end = argv.indexOf('--');
  const line = end < 0 ? argv : argv.slice(0, end);
  for (const [index, word] of line.entries()) {
    if (word === '-o' || word === '--output') return line[index + 1] ?? '';
    const attached = /^(?:-o|--output=)(.+)$/.exec(word);
    if (attached?.[1] !== undefined) return attached[1];
  }
  return 'table';
}
