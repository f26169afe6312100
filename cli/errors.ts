import { CommanderError } from 'commander';
import { fromErrorBody, isErrorBody, toTsnetError, TsnetError } from '../core/errors.js';
import { hasColor, type CliContext } from './context.js';
import { escapeControls } from './output/table.js';

/**
 * Turns anything thrown into a TsnetError. Errors of a lazily loaded bundle are of that bundle's class,
 * so they are known by their shape.
 */
export function asTsnetError(thrown: unknown): TsnetError {
  if (thrown instanceof TsnetError) return thrown;
  if (thrown instanceof CommanderError) return fromCommander(thrown, 'tsnet help');
  return isErrorBody(thrown) ? fromErrorBody(thrown) : toTsnetError(thrown);
}

/** A usage error of commander's in our words; `help` is the command that explains. */
export function fromCommander(error: CommanderError, help: string): TsnetError {
  const [first = '', ...rest] = error.message.replace(/^error: /, '').split('\n');
  // As docker has it.
  const isNetwork = /^unknown command 'networks?'$/.test(first);
  const suggestion = isNetwork
    ? 'Leave it out: `tsnet ls`, `tsnet create`. '
    : rest.join(' ').replace(/^\((.*)\)$/, '$1 ');
  return new TsnetError('ERR_USAGE', first, { hint: `${suggestion}See \`${help}\`.` });
}

/** Prints an error to stderr: as text for people, as its body on one line for programs. */
export function printError(cli: CliContext, error: TsnetError, format: string): void {
  if (format === 'json') {
    cli.stderr.write(`${JSON.stringify(error.toBody())}\n`);
    return;
  }
  const paint = (code: number, text: string): string =>
    hasColor(cli.stderr, cli.env) ? `\u001b[${code}m${text}\u001b[0m` : text;
  cli.stderr.write(`${paint(31, 'error:')} ${escapeControls(error.message)}\n`);
  if (error.hint !== '') cli.stderr.write(`${paint(36, 'hint:')} ${escapeControls(error.hint)}\n`);
}
