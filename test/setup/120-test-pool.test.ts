import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { runProgram } from '../lab/program.js';

const root = fileURLToPath(new URL('../../../../', import.meta.url));

const failing = `TAP version 14
# Subtest: outer
    # Subtest: inner
        ok 1 - well
        not ok 2 - should be equal
          ---
          at:
            fileName: test/some.test.ts
            lineNumber: 7
          source: |
            t.equal(one, 2)
          diff: |
            -2
            +1
          ...
        1..2
    not ok 1 - inner # time=1ms
      ---
      at:
        fileName: test/some.test.ts
        lineNumber: 5
      ...
    1..1
not ok 1 - outer # time=2ms

1..1
`;
const passing = 'TAP version 14\n# Subtest: outer\n    ok 1 - well\n    1..1\nok 1 - outer # time=1ms\n\n1..1\n';
const print = (tap: string): string => `process.stdout.write(${JSON.stringify(tap)});`;
const fail = `${print(failing)}process.exitCode = 1;`;

/** What test files do: each a program that prints TAP. */
const programs: Readonly<Record<string, string>> = {
  'a-passes': print(passing),
  'b-fails': fail,
  'c-fails-once': `import { existsSync, writeFileSync } from 'node:fs';
    if (existsSync('failed')) ${print(passing)} else { writeFileSync('failed', ''); ${fail} }`,
  'd-dies': 'throw new Error("out of order");',
};

interface Outcome {
  readonly runs: readonly string[];
  readonly last: Readonly<Record<string, number>>;
  readonly unsteady: number;
  readonly summary: string;
  readonly told: string;
  readonly folder: string;
}

/** Runs files by the pool, as `npm test` does. */
async function run(t: Test, names: readonly string[], jobs = 4): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-pool-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'build/js/test'), { recursive: true });
  const files = names.map((name) => `build/js/test/${name}.test.mjs`);
  for (const name of names) writeFileSync(join(folder, `build/js/test/${name}.test.mjs`), programs[name] ?? '');
  const script = `
    const { runSteadily } = await import(${JSON.stringify(join(root, 'tools/setup/test-pool.mjs'))});
    const { TestReport } = await import(${JSON.stringify(join(root, 'tools/setup/test-report.mjs'))});
    const report = new TestReport(${JSON.stringify(folder)});
    const runs = [];
    const { results } = await runSteadily(${JSON.stringify(files)}, {
      jobs: ${jobs}, most: {}, classOf: () => 'part', timeoutMs: 60_000, cwd: ${JSON.stringify(folder)},
      onEnd: (result) => { runs.push(result.file); report.ended(result); },
      onEndAlone: (result) => { runs.push(result.file + ' alone'); report.endedAlone(result); },
    });
    const last = Object.fromEntries(results.map(({ file, counted }) => [file, counted.failed]));
    console.log(JSON.stringify({ runs, last, unsteady: report.unsteady, summary: report.summary() }));`;
  const { status, stdout, stderr } = await runProgram(process.execPath, ['--input-type=module', '-e', script]);
  t.equal(status, 0, 'the pool has ended by itself');
  const short = (text: string): string => text.replaceAll(/build\/js\/test\/([\w-]+)\.test\.mjs/g, '$1');
  return { ...(JSON.parse(short(stdout)) as Outcome), told: short(stderr), folder };
}

t.test('a file that fails beside others is run again alone, and told as unsteady where it passes', async (t) => {
  const { runs, last, unsteady, summary, told, folder } = await run(t, Object.keys(programs));
  t.same(runs.slice(4).sort(), ['b-fails alone', 'c-fails-once alone', 'd-dies alone']);
  t.same(last, { 'a-passes': 0, 'b-fails': 1, 'c-fails-once': 0, 'd-dies': 1 });
  t.equal(unsteady, 1);
  t.match(
    summary,
    /^unsteady: c-fails-once failed beside others and passed alone; what failed: outer > inner > should be equal \(test\/some\.test\.ts:7\); output in build\/test\/failed\/c-fails-once\.tap$/m,
  );
  t.match(
    summary,
    /^FAILED {4}b-fails: status 1; whole output: build\/test\/failed\/b-fails-alone\.tap\n {4}outer > inner > should be equal\n {8}test\/some\.test\.ts:7\n {8}diff: \|\n {8} {2}-2\n {8} {2}\+1\n(?! )/m,
    'failing points alone, with place and difference',
  );
  t.notMatch(summary, /a-passes/);
  t.match(told, /FAILED .*d-dies: .*\n[^]*out of order/, 'without any point the end of what it said');
  for (const name of ['b-fails', 'b-fails-alone', 'c-fails-once', 'd-dies'])
    t.ok(existsSync(join(folder, `build/test/failed/${name}.tap`)), `the whole output of ${name}`);
  t.match(readFileSync(join(folder, 'build/test/failed/d-dies.tap'), 'utf8'), /# Standard error:\n[^]*out of order/);
});

t.test('a file that had nobody beside it is not run again', async (t) => {
  t.same((await run(t, ['b-fails'])).runs, ['b-fails']);
  t.same((await run(t, ['b-fails', 'c-fails-once'], 1)).runs, ['b-fails', 'c-fails-once']);
});
