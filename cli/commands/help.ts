import type { Command } from 'commander';
import { TsnetError } from '../../core/errors.js';
import type { CommandSpec } from '../command.js';

export const helpCommand: CommandSpec = {
  name: 'help',
  summary: 'show help of a command',
  args: [{ name: 'COMMAND', summary: 'words of a command', means: 'command', optional: true, variadic: true }],
  examples: [{ does: 'All about `tsnet endpoint set`', line: 'tsnet help endpoint set' }],
  common: 'none',
  wholeTree: true,
  act: async ({ args, program }) => {
    findCommand(program, args).outputHelp();
  },
};

function findCommand(program: Command, words: readonly string[]): Command {
  let command = program;
  for (const word of words) {
    const next = command.commands.find((inner) => inner.name() === word);
    if (next === undefined)
      throw new TsnetError('ERR_USAGE', `there is no command "${words.join(' ')}"`, { hint: 'See `tsnet help`.' });
    command = next;
  }
  return command;
}
