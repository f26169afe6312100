/** What a stream must offer to be written to. */
export interface TextOutput {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/** Everything a command takes from the outside; bin/ makes it, tests may make their own. */
export interface CliContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly stdout: TextOutput;
  readonly stderr: TextOutput;
  readonly version: string;
  /** Where the static helpers are, `tsnet-run` among them. */
  readonly libexecDir: string;
}

/** Colour only for people: on a terminal, and not where NO_COLOR or a dumb terminal asks for none. */
export function hasColor(output: TextOutput, env: CliContext['env']): boolean {
  return output.isTTY === true && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';
}
