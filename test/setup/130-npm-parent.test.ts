import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { waitFor } from '../lab/wait.js';

const tool = fileURLToPath(new URL('../../../../tools/setup/npm-parent.mjs', import.meta.url));

/** A script that npm runs in a shell, and that says how it was ended. Its process's number is in the file `pid`. */
async function start(t: Test): Promise<{ readonly npm: ChildProcess; readonly folder: string }> {
  const folder = t.testdir({
    'package.json': JSON.stringify({ name: 'any', version: '1.0.0', scripts: { test: 'node script.mjs; true' } }),
    'script.mjs': `import { writeFileSync } from 'node:fs';
      import { endWithNpm } from ${JSON.stringify(tool)};
      endWithNpm();
      process.on('SIGTERM', () => { writeFileSync('ended', 'SIGTERM'); process.exit(); });
      setInterval(() => undefined, 1000);
      writeFileSync('pid', String(process.pid));`,
  });
  const npm = spawn('npm', ['test'], { cwd: folder, stdio: 'ignore' });
  t.teardown(() => npm.kill('SIGKILL'));
  await waitFor('the script to run', () => existsSync(join(folder, 'pid')), 30_000);
  return { npm, folder };
}

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  t.test(`what npm runs is asked to end once npm has been ended by ${signal}`, async (t) => {
    const { npm, folder } = await start(t);
    const ended = once(npm, 'exit');
    npm.kill(signal);
    await ended;
    await waitFor('the script to end', () => existsSync(join(folder, 'ended')), 30_000);
    t.equal(readFileSync(join(folder, 'ended'), 'utf8'), 'SIGTERM');
  });
}

t.test('without npm above it a tool goes on alone', async (t) => {
  const folder = t.testdir({
    'script.mjs': `import { endWithNpm } from ${JSON.stringify(tool)};
      endWithNpm();
      process.stdout.write('on');`,
  });
  // A shell that ends at once leaves it to the process that all orphans come to.
  const out = join(folder, 'out');
  writeFileSync(out, '');
  const shell = spawn('sh', ['-c', `setsid ${process.execPath} ${join(folder, 'script.mjs')} > ${out} &`]);
  await once(shell, 'exit');
  await waitFor('it to have run', () => readFileSync(out, 'utf8') === 'on', 30_000);
  t.equal(readFileSync(out, 'utf8'), 'on');
});
