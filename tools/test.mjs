#!/usr/bin/env node
/**
 * Set-up, lint and tests. The last line counts: `N passed, N failed, N skipped`.
 *
 *   npm test                      everything
 *   npm test -- unit cluster/1    only test files whose path has one of these words; no lint
 *   npm run test:long             the tests that take minutes, and only those
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { lint } from './lint.mjs';
import { projectRoot, runTool, setUp } from './setup.mjs';
import { elapsed, say, SetupError } from './setup/progress.mjs';
import { countTap } from './setup/tap-count.mjs';

const tap = join(projectRoot, 'node_modules', 'tap', 'dist', 'esm', 'run.mjs');
const outputs = join(projectRoot, 'build', 'test');

/** Groups run one after another, the files of a group side by side; whole clusters have deadlines to meet. */
const clusterFolders = ['cluster', 'faults'];
const longFolder = 'long';
const groups = [
  { name: 'parts', jobs: 3, has: (folder) => !clusterFolders.includes(folder) && folder !== longFolder },
  { name: 'clusters', jobs: 2, has: (folder) => clusterFolders.includes(folder) },
];
const longGroup = { name: 'long', jobs: 1, has: (folder) => folder === longFolder };

async function main() {
  const args = process.argv.slice(2);
  const words = args.filter((word) => !word.startsWith('--'));
  await setUp();
  if (words.length === 0 && !args.includes('--no-lint')) await lint();
  const startedMs = performance.now();
  const totals = { passed: 0, failed: 0, skipped: 0 };
  for (const group of args.includes('--long') ? [longGroup] : groups) {
    const counted = await runGroup(group, words);
    for (const key of Object.keys(totals)) totals[key] += counted[key];
  }
  say('test', `took ${elapsed(startedMs)}`);
  if (totals.passed + totals.failed === 0) throw new SetupError('There was no test to run.');
  process.stdout.write(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped\n`);
  if (totals.failed > 0) process.exitCode = 1;
}

async function runGroup(group, words) {
  const files = compiledTests(group, words);
  if (files.length === 0) return { passed: 0, failed: 0, skipped: 0 };
  say('test', `${group.name}: ${files.length} files`);
  mkdirSync(outputs, { recursive: true });
  const output = join(outputs, `${group.name}.tap`);
  rmSync(output, { force: true });
  const timeout = group === longGroup ? ['--timeout=600'] : [];
  const code = await spawnTap(['run', `--jobs=${group.jobs}`, `--output-file=${output}`, ...timeout, ...files]);
  const counted = existsSync(output) ? countTap(readFileSync(output, 'utf8')) : { passed: 0, failed: 0, skipped: 0 };
  // The runner's own failure, with no failed test to show for it, is still one.
  if (code !== 0 && counted.failed === 0) counted.failed = 1;
  return counted;
}

/** From the sources, so that what is left in build/ of a deleted test is not run. */
function compiledTests(group, words) {
  return readdirSync(join(projectRoot, 'test'), { recursive: true })
    .filter((path) => path.endsWith('.test.ts') && group.has(path.split('/')[0]))
    .filter((path) => words.length === 0 || words.some((word) => path.includes(word)))
    .map((path) => join('build', 'js', 'test', path.replace(/\.ts$/, '.js')))
    .sort();
}

function spawnTap(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [tap, ...args], { cwd: projectRoot, stdio: 'inherit' });
    const forward = (signal) => child.kill(signal);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, forward);
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 1));
  });
}

await runTool(main);
