/**
 * A command line without the test runner's hook: tap loads itself into every Node that a test starts, which makes
 * its start several times as long and writes files as whoever runs it.
 */
export function plain(argv: readonly string[]): readonly [program: string, args: string[]] {
  return ['/usr/bin/env', ['-u', 'NODE_OPTIONS', ...argv]];
}
