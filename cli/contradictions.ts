import type { Command } from 'commander';
import { TsnetError } from '../core/errors.js';

/** Two options, by their names without dashes, of which only one may be given. */
export type Contradiction = readonly [string, string];

/**
 * Refuses a line that says one thing and its contrary: an option together with its own `--no-` form, of which commander
 * takes whichever comes last, and pairs that a command names. What the environment says is no contradiction: a flag
 * goes before it.
 *
 * Errors: ERR_USAGE while the line is parsed.
 */
export function refuseContradictions(command: Command, named: readonly Contradiction[], help: string): void {
  const names = new Set(command.options.map((option) => option.name()));
  const own = [...names].flatMap((name): Contradiction[] => (names.has(`no-${name}`) ? [[name, `no-${name}`]] : []));
  const given = new Set<string>();
  const contraries = new Map<string, string[]>();
  for (const [a, b] of [...own, ...named]) {
    contraries.set(a, [...(contraries.get(a) ?? []), b]);
    contraries.set(b, [...(contraries.get(b) ?? []), a]);
  }
  for (const [name, others] of contraries) {
    command.on(`option:${name}`, () => {
      given.add(name);
      const other = others.find((each) => given.has(each));
      if (other === undefined) return;
      throw new TsnetError('ERR_USAGE', `--${other} and --${name} contradict each other`, {
        hint: `Give one of them; see \`${help}\`.`,
      });
    });
  }
}
