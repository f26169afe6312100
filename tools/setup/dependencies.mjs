import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './commands.mjs';
import { elapsed, say } from './progress.mjs';

/**
 * Installs the npm packages when the lockfile has changed since they were installed, and gives tap
 * the plugins of `.taprc` (a build from installed files, without the network).
 */
export async function ensureDependencies(root) {
  await ensureModules(root);
  await ensureTapPlugins(root);
}

async function ensureModules(root) {
  const stampPath = join(root, 'node_modules', '.tsnet-lockfile');
  const lock = readFileSync(join(root, 'package-lock.json'));
  const stamp = `${digest(lock)} node ${process.versions.modules}\n`;
  if (readText(stampPath) === stamp) return;
  if (readText(stampPath) !== undefined || !isInstalled(root, lock)) {
    const startedMs = performance.now();
    say('npm', 'installing the packages of package-lock.json');
    await runNpm(root, ['ci', '--no-fund', '--no-audit', '--ignore-scripts', '--loglevel=error']);
    say('npm', `installed in ${elapsed(startedMs)}`);
  }
  writeFileSync(stampPath, stamp);
}

/** Whether node_modules, as npm itself noted it, has each package of the lockfile in its version. */
function isInstalled(root, lock) {
  const noted = readText(join(root, 'node_modules', '.package-lock.json'));
  if (noted === undefined) return false;
  const installed = JSON.parse(noted).packages ?? {};
  return Object.entries(JSON.parse(lock.toString('utf8')).packages ?? {}).every(
    ([path, entry]) => path === '' || entry.optional === true || installed[path]?.version === entry.version,
  );
}

async function ensureTapPlugins(root) {
  const built = join(root, 'node_modules', '@tapjs', 'test', 'test-built');
  const stampPath = join(built, '.tsnet-plugins');
  const stamp = `${digest(readFileSync(join(root, '.taprc')))}\n`;
  if (readText(stampPath) === stamp && existsSync(join(root, '.tap', 'plugins'))) return;
  const startedMs = performance.now();
  say('tap', 'building the test runner with the plugins of .taprc');
  await run(process.execPath, [join(root, 'node_modules', 'tap', 'dist', 'esm', 'run.mjs'), 'build'], { cwd: root });
  writeFileSync(stampPath, stamp);
  say('tap', `built in ${elapsed(startedMs)}`);
}

function runNpm(root, args) {
  const cli = process.env['npm_execpath'];
  if (cli !== undefined && /npm-cli\.c?js$/.test(cli)) return run(process.execPath, [cli, ...args], { cwd: root });
  return run('npm', args, { cwd: root });
}

function digest(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}

function readText(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}
