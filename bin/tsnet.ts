import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCli } from '../cli/main.js';
import { version } from '../core/version.js';
import { daemonCommands } from './daemons.js';

// Whoever reads our output may stop reading, as in `tsnet ls | head -1`.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  process.stderr.write(
    `error: standard output: ${error.message}\nhint: What was asked for may be done: look before you repeat it.\n`,
  );
  process.exit(1);
});
process.stderr.on('error', () => undefined);

const libexecDir = process.env['TSNET_LIBEXEC'] ?? join(dirname(fileURLToPath(import.meta.url)), '../libexec');

void runCli(
  process.argv.slice(2),
  { env: process.env, cwd: process.cwd(), stdout: process.stdout, stderr: process.stderr, version, libexecDir },
  daemonCommands,
).then((exit) => {
  process.exitCode = exit;
});
