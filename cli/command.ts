import { Argument, type Command, Option } from 'commander';
import { refuseContradictions, type Contradiction } from './contradictions.js';
import { asTsnetError, printError } from './errors.js';
import { Connections } from './connection.js';
import type { CliContext } from './context.js';
import { formats, type Format } from './output/format.js';

/** What an argument stands for; completion offers these. */
export type Meaning = 'network' | 'target' | 'host' | 'endpoint' | 'policy' | 'service' | 'command' | 'shell';

export interface ArgumentSpec {
  /** Upper-case name as in the usage line. */
  readonly name: string;
  readonly summary: string;
  readonly means?: Meaning;
  readonly optional?: boolean;
  readonly variadic?: boolean;
  readonly choices?: readonly string[];
}

export interface Example {
  readonly does: string;
  readonly line: string;
}

/** One command, as data: the source of parsing, help, completion and docs/cli.md. */
export interface CommandSpec<Options = unknown> {
  readonly name: string;
  readonly summary: string;
  /** What the summary does not say. */
  readonly details?: string;
  readonly args?: readonly ArgumentSpec[];
  readonly options?: () => readonly Option[];
  readonly examples: readonly Example[];
  /** Whether it prints records (-o) and makes calls (--controller, --token-file). */
  readonly common: 'calls' | 'output' | 'none';
  /** Options after the first argument belong to the command named there. */
  readonly passThrough?: boolean;
  /** Options that exclude each other on one line, beside each and its `--no-` form. */
  readonly contradictions?: readonly Contradiction[];
  /** It looks at the other commands, so they have to be made as well. */
  readonly wholeTree?: boolean;
  /** Runs it; the exit code where it is not 0. Errors are thrown. */
  readonly act: (call: Call<Options>) => Promise<number | void>;
}

/** A group of commands, such as `endpoint`. */
export interface GroupSpec {
  readonly name: string;
  readonly summary: string;
  readonly commands: readonly CommandSpec<never>[];
}

export type TreeSpec = CommandSpec<never> | GroupSpec;

/** One run of a command. */
export interface Call<Options> {
  readonly args: readonly string[];
  readonly options: Options;
  readonly format: Format;
  readonly cli: CliContext;
  readonly calls: Connections;
  readonly program: Command;
  /** Does something for each of the arguments, going on past errors; 1 when one failed. */
  readonly each: (act: (argument: string) => Promise<void>) => Promise<number>;
}

interface CommonOptions {
  readonly output?: Format;
  readonly controller?: string;
  readonly tokenFile?: string;
}

const specs = new WeakMap<Command, CommandSpec<never>>();

/** The spec a command was made from; undefined for groups. */
export function specOf(command: Command): CommandSpec<never> | undefined {
  return specs.get(command);
}

const commonGroup = 'Common options:';

function outputOption(): Option {
  return new Option('-o, --output <FORMAT>', 'how to print').choices(formats).default('table').helpGroup(commonGroup);
}

function callOptions(): readonly Option[] {
  return [
    new Option('--controller <URL>', 'ask this controller, http://HOST:PORT or unix:PATH, several with commas')
      .env('TSNET_CONTROLLER')
      .helpGroup(commonGroup),
    new Option('--token-file <FILE>', 'token for the controller').env('TSNET_TOKEN_FILE').helpGroup(commonGroup),
  ];
}

/** Adds a command to its parent. */
export function addCommand<Options>(
  parent: Command,
  spec: CommandSpec<Options>,
  run: (command: Command, spec: CommandSpec<Options>) => Promise<void>,
): Command {
  const command = parent.command(spec.name).summary(spec.summary).description(sentence(spec));
  specs.set(command, spec as CommandSpec<never>);
  for (const argument of spec.args ?? []) command.addArgument(newArgument(argument));
  for (const option of spec.options?.() ?? []) command.addOption(option);
  if (spec.common !== 'none') command.addOption(outputOption());
  if (spec.common === 'calls') for (const option of callOptions()) command.addOption(option);
  refuseContradictions(command, spec.contradictions ?? [], helpOf(command));
  command.helpOption('-h, --help', 'show this help').addHelpText('after', () => formatExamples(spec.examples));
  command.usage(usageOf(spec));
  if (spec.passThrough === true) command.passThroughOptions();
  command.action(() => run(command, spec));
  return command;
}

/** Runs a parsed command. */
export async function runCommand<Options>(
  command: Command,
  spec: CommandSpec<Options>,
  cli: CliContext,
): Promise<number> {
  const options = command.opts<Options & CommonOptions>();
  const format = options.output ?? 'table';
  const calls = new Connections(cli, { controller: options.controller, tokenFile: options.tokenFile });
  const args = command.args;
  const each = async (act: (argument: string) => Promise<void>): Promise<number> => {
    let exit = 0;
    for (const argument of args) {
      try {
        await act(argument);
      } catch (error) {
        exit = 1;
        printError(cli, asTsnetError(error), format);
      }
    }
    return exit;
  };
  return (await spec.act({ args, options, format, cli, calls, program: rootOf(command), each })) ?? 0;
}

/** The words that lead to a command, `tsnet endpoint ls`. */
export function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

/** The command that explains a command, `tsnet help endpoint ls`. */
export function helpOf(command: Command): string {
  return pathOf(command).replace(/^tsnet/, 'tsnet help');
}

function rootOf(command: Command): Command {
  return command.parent === null ? command : rootOf(command.parent);
}

function newArgument(spec: ArgumentSpec): Argument {
  const name = spec.variadic === true ? `${spec.name}...` : spec.name;
  const argument = new Argument(spec.optional === true ? `[${name}]` : `<${name}>`, spec.summary);
  return spec.choices === undefined ? argument : argument.choices(spec.choices);
}

function sentence(spec: CommandSpec<never> | CommandSpec): string {
  const first = `${spec.summary.charAt(0).toUpperCase()}${spec.summary.slice(1)}.`;
  return spec.details === undefined ? first : `${first}\n\n${spec.details}`;
}

/** The usage line after the command's name. */
export function usageOf(spec: CommandSpec<never> | CommandSpec): string {
  const args = (spec.args ?? []).map((argument) => {
    const name = argument.variadic === true ? `${argument.name}...` : argument.name;
    return argument.optional === true ? `[${name}]` : name;
  });
  return ['[OPTION...]', ...(spec.passThrough === true ? ['--'] : []), ...args].join(' ');
}

/** The examples at the end of a help text. */
export function formatExamples(examples: readonly Example[]): string {
  return `\nExamples:\n${examples.map(({ does, line }) => `  # ${does}\n  ${line}\n`).join('')}`;
}
