/**
 * A command line without the test runner's hook: tap loads itself into every Node that a test starts, which makes
 * its start several times as long and writes files as whoever runs it. `nodeOptions` takes the hook's place.
 */
export function plain(argv: readonly string[], nodeOptions?: string): readonly [program: string, args: string[]] {
  const instead = nodeOptions === undefined ? ['-u', 'NODE_OPTIONS'] : [`NODE_OPTIONS=${nodeOptions}`];
  return ['/usr/bin/env', [...instead, ...argv]];
}
