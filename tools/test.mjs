#!/usr/bin/env node
/**
 * Set-up, lint and tests. The last line counts: `N passed, N failed, N skipped`.
 *
 *   npm test                      everything
 *   npm test -- unit cluster/1    only test files whose path has one of these words; no lint
 *   npm run test:long             the tests that take minutes, and only those
 *
 * A file that fails beside others is run once more at the end, alone. When it passes then, it is told as unsteady and the
 * last line has a fourth number, `N unsteady`; `--once` leaves that out. Whole outputs of failed files are in build/test/failed/.
 */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lint } from './lint.mjs';
import { projectRoot, runTool, setUp } from './setup.mjs';
import { elapsed, say, SetupError } from './setup/progress.mjs';
import { runFiles, runSteadily } from './setup/test-pool.mjs';
import { TestReport } from './setup/test-report.mjs';

const outputs = join(projectRoot, 'build', 'test');
const timesPath = join(outputs, 'times.json');

/** Folders whose tests start whole clusters, which have deadlines to meet. */
const clusterFolders = ['cluster', 'faults', 'cni', 'dns'];
const longFolder = 'long';
const kinds = {
  short: { jobs: 5, most: { cluster: 4 }, timeoutMs: 360_000, has: (folder) => folder !== longFolder },
  long: { jobs: 1, most: {}, timeoutMs: 600_000, has: (folder) => folder === longFolder },
};

async function main() {
  const args = process.argv.slice(2);
  const words = args.filter((word) => !word.startsWith('--'));
  await setUp();
  const linted = words.length === 0 && !args.includes('--no-lint') ? lint() : Promise.resolve();
  const lintFault = linted.then(
    () => undefined,
    (error) => error,
  );
  // For the daemons of the tests: bin/hot-code.ts.
  process.env.TSNET_SHORT_LIVED = '1';
  const startedMs = performance.now();
  const kind = args.includes('--long') ? kinds.long : kinds.short;
  const totals = { passed: 0, failed: 0, skipped: 0 };
  const times = readTimes();
  const files = longestFirst(testFiles(kind, words), times);
  say('test', `${files.length} files`);
  const report = new TestReport(projectRoot);
  const run = args.includes('--once') ? runOnce : runSteadily;
  const { results, status } = await run(files.map(compiled), {
    ...kind,
    classOf: (file) => (clusterFolders.includes(file.split('/')[3]) ? 'cluster' : 'part'),
    cwd: projectRoot,
    onEnd: (result) => report.ended(result),
    onEndAlone: (result) => report.endedAlone(result),
  });
  const points = [];
  for (const { file, counted, ms, indented } of results) {
    for (const key of Object.keys(totals)) totals[key] += counted[key];
    if (counted.failed === 0) times[file] = Math.round(ms);
    const point = `${counted.failed > 0 ? 'not ok' : 'ok'} ${points.length + 1} - ${file}`;
    points.push(`# Subtest: ${file}\n${indented}${point} # time=${ms.toFixed(0)}ms\n\n`);
  }
  mkdirSync(outputs, { recursive: true });
  writeFileSync(join(outputs, 'all.tap'), `TAP version 14\n1..${points.length}\n${points.join('')}`);
  writeFileSync(timesPath, JSON.stringify(times));
  say('test', `took ${elapsed(startedMs)}`);
  const fault = await lintFault;
  if (fault !== undefined) {
    process.stderr.write(`error: ${fault.message}\n`);
    process.exitCode = 1;
  }
  if (totals.passed + totals.failed === 0) throw new SetupError('There was no test to run.');
  process.stderr.write(report.summary());
  const unsteady = report.unsteady > 0 ? `, ${report.unsteady} unsteady` : '';
  process.stdout.write(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped${unsteady}\n`);
  if (totals.failed > 0) process.exitCode = 1;
  if (status !== undefined) process.exitCode = status;
}

async function runOnce(files, options) {
  const results = [];
  const onEnd = (result) => {
    results.push(result);
    options.onEnd(result);
  };
  return { status: await runFiles(files, { ...options, onEnd }), results };
}

/** From the sources, so that what is left in build/ of a deleted test is not run. */
function testFiles(kind, words) {
  return readdirSync(join(projectRoot, 'test'), { recursive: true })
    .filter((path) => path.endsWith('.test.ts') && kind.has(path.split('/')[0]))
    .filter((path) => words.length === 0 || words.some((word) => path.includes(word)))
    .sort();
}

function compiled(path) {
  return join('build', 'js', 'test', path.replace(/\.ts$/, '.js'));
}

/** So that no long one is left for the end: by the times of the last run, and where there is none, clusters and long texts first. */
function longestFirst(paths, times) {
  const guess = (path) => {
    const sizeBytes = statSync(join(projectRoot, 'test', path)).size;
    return sizeBytes * (clusterFolders.includes(path.split('/')[0]) ? 3 : 0.3);
  };
  const weights = new Map(paths.map((path) => [path, times[compiled(path)] ?? guess(path)]));
  return [...paths].sort((a, b) => (weights.get(b) ?? 0) - (weights.get(a) ?? 0));
}

function readTimes() {
  try {
    return JSON.parse(readFileSync(timesPath, 'utf8'));
  } catch {
    return {};
  }
}

await runTool(main);
