import type { Command } from 'commander';
import { specOf, type Meaning } from '../command.js';

/** One command as completion scripts need it. */
export interface CompletionNode {
  /** Words after `tsnet`; empty for the program itself. */
  readonly path: string;
  readonly words: readonly CompletionWord[];
  readonly options: readonly CompletionOption[];
  /** What each argument means; the last one repeats when the command takes several. */
  readonly args: readonly Meaning[];
  readonly isVariadic: boolean;
}

export interface CompletionWord {
  readonly word: string;
  readonly summary: string;
}

export interface CompletionOption {
  readonly flags: readonly string[];
  readonly summary: string;
  readonly takesValue: boolean;
  readonly choices: readonly string[];
  readonly isFile: boolean;
  readonly means: Meaning | null;
}

/** Walks the tree: a node for the program and for each command below. */
export function completionNodes(command: Command, path: readonly string[] = []): readonly CompletionNode[] {
  const spec = specOf(command);
  const node: CompletionNode = {
    path: path.join(' '),
    words:
      command.commands.length > 0
        ? command.commands.map((inner) => ({ word: inner.name(), summary: inner.summary() }))
        : choicesOf(command),
    options: [
      ...command.options.map((option) => ({
        flags: [option.short, option.long].filter((flag) => flag !== undefined),
        summary: option.description,
        takesValue: option.required || option.optional,
        choices: option.argChoices ?? [],
        isFile: /<(FILE|DIR)>/.test(option.flags),
        means: option.long === '--network' ? ('network' as const) : null,
      })),
      {
        flags: ['-h', '--help'],
        summary: 'show this help',
        takesValue: false,
        choices: [],
        isFile: false,
        means: null,
      },
    ],
    args: (spec?.args ?? []).map((argument) => argument.means ?? 'command'),
    isVariadic: spec?.args?.some((argument) => argument.variadic === true) ?? false,
  };
  return [node, ...command.commands.flatMap((inner) => completionNodes(inner, [...path, inner.name()]))];
}

function choicesOf(command: Command): readonly CompletionWord[] {
  return command.registeredArguments.flatMap((argument) =>
    (argument.argChoices ?? []).map((word) => ({ word, summary: '' })),
  );
}

/** The command whose output lists what an argument may be, one a line; null for none. */
export const listings: Readonly<Record<Meaning, string | null>> = {
  network: 'tsnet ls -q',
  host: 'tsnet host ls -q',
  endpoint: 'tsnet endpoint ls --local -q',
  policy: 'tsnet policy ls -q',
  service: 'tsnet service ls -q',
  target: 'ls /run/netns',
  command: null,
  shell: null,
};
