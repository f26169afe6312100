import { spawnSync } from 'node:child_process';
import { cleanEnv, startTsnet } from '../test/cli/program.js';
import { answerCluster, openStubApi } from '../test/cli/stub-api.js';
import type { Benchmark, Samples, Subject } from './harness.js';

/** `tsnet ls` as a whole process, answered from memory on a unix socket, against Node doing nothing. */
export async function withCli(run: (benchmark: Benchmark) => Promise<boolean>): Promise<boolean> {
  const api = await openStubApi(answerCluster);
  const node = (): Promise<void> => {
    spawnSync(process.execPath, ['-e', '0'], { env: cleanEnv() });
    return Promise.resolve();
  };
  const ls = async (): Promise<void> => {
    const { code } = await startTsnet(['ls'], { env: api.env }).outcome;
    if (code !== 0) throw new Error(`tsnet ls ended with ${code}`);
  };
  try {
    return await run({
      title: 'cli: tsnet ls as a whole process against node -e 0',
      units: { 'wall ms': 'ms' },
      subjects: [newSubject('tsnet ls', ls), newSubject('node -e 0', node)],
      rounds: 31,
      comparisons: [{ metric: 'wall ms', of: 'tsnet ls', to: 'node -e 0', atMost: 2 }],
    });
  } finally {
    await api.close();
  }
}

function newSubject(name: string, act: () => Promise<void>): Subject {
  return {
    name,
    round: async (): Promise<Samples> => {
      const startedMs = performance.now();
      await act();
      return { 'wall ms': [performance.now() - startedMs] };
    },
  };
}
