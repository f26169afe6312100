import { spawnSync } from 'node:child_process';
import t from 'tap';
import { cleanEnv, startTsnet } from './program.js';
import { answerCluster, openStubApi } from './stub-api.js';

const rounds = 21;

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;

t.test('tsnet ls answers within twice the time that node takes to do nothing', async (t) => {
  const api = await openStubApi(answerCluster);
  t.teardown(() => api.close());
  const nothingMs: number[] = [];
  const lsMs: number[] = [];
  // In turns, so that whatever else the machine does slows both.
  for (let round = 0; round < rounds; round += 1) {
    const startedMs = performance.now();
    spawnSync(process.execPath, ['-e', '0'], { env: cleanEnv() });
    const betweenMs = performance.now();
    const { code } = await startTsnet(['ls'], { env: api.env }).outcome;
    lsMs.push(performance.now() - betweenMs);
    nothingMs.push(betweenMs - startedMs);
    if (code !== 0) t.fail(`exit code ${code}`);
  }
  const ratio = median(lsMs) / median(nothingMs);
  t.comment(
    `node -e 0: ${median(nothingMs).toFixed(0)} ms, tsnet ls: ${median(lsMs).toFixed(0)} ms, ratio ${ratio.toFixed(2)}`,
  );
  t.ok(ratio < 2, `ratio ${ratio.toFixed(2)}`);
});
