#!/usr/bin/env node
/**
 * Everything between a fresh clone and a built tsnet: Debian packages, npm packages, addon, TypeScript,
 * bundle. Each step looks first and does nothing where nothing has changed. Plain Node without
 * dependencies, since it runs before there are any.
 *
 *   node tools/setup.mjs           all of it, as root
 *   node tools/setup.mjs --host    the same without the Debian packages of the tests: for a machine that is to run tsnet
 *   node tools/setup.mjs --build   without Debian packages and kernel checks, as anybody
 */
import { existsSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { forgetExtraAuthorities } from './setup/authorities.mjs';
import { ensureBuild } from './setup/compile.mjs';
import { ensureDependencies } from './setup/dependencies.mjs';
import { endWithNpm } from './setup/npm-parent.mjs';
import { ensurePackages } from './setup/packages.mjs';
import { elapsed, say, SetupError } from './setup/progress.mjs';
import { checkKernel, checkMachine, checkRoot } from './setup/requirements.mjs';

export const projectRoot = dirname(dirname(fileURLToPath(import.meta.url)));

/** Sets the machine and the checkout up; nothing is downloaded after it. */
export async function setUp({ buildOnly = false, hostOnly = false } = {}) {
  const startedMs = performance.now();
  checkMachine();
  if (!existsSync(join(projectRoot, 'package-lock.json')))
    throw new SetupError('package-lock.json is missing: this is not a whole checkout.');
  if (!buildOnly) {
    checkRoot();
    const note = join(projectRoot, 'build', '.tsnet-packages-before');
    const sections = hostOnly ? ['run', 'build'] : undefined;
    await ensurePackages(join(projectRoot, 'packaging', 'debian-packages.txt'), note, sections);
    checkKernel();
  }
  await ensureDependencies(projectRoot);
  const built = await ensureBuild(projectRoot);
  forgetExtraAuthorities();
  say('set-up', built ? `done in ${elapsed(startedMs)}` : `up to date (looked for ${elapsed(startedMs)})`);
}

/** Runs a tool's main function, for as long as npm does where that started it; a SetupError is one sentence, exit status 1. */
export async function runTool(main) {
  endWithNpm();
  try {
    await main();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`error: ${error.message}\n`);
    process.exitCode = 1;
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const has = (option) => process.argv.includes(option);
  await runTool(() => setUp({ buildOnly: has('--build'), hostOnly: has('--host') }));
}
