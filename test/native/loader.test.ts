import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import t, { type Test } from 'tap';

import { loadNative } from '../../native/index.js';

const loaderFile = fileURLToPath(new URL('../../native/index.js', import.meta.url));
const addonFile = fileURLToPath(new URL('../../../native/tsnet.node', import.meta.url));

function withFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-loader-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  return folder;
}

function run(file: string, env: NodeJS.ProcessEnv = {}): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [file], { encoding: 'utf8', env: { ...process.env, ...env } });
}

const program = `console.log(typeof loadNative().netlinkOpen, loadNative() === loadNative());`;

t.test('the addon is loaded once', (t) => {
  t.equal(loadNative(), loadNative());
  t.type(loadNative().netlinkExchange, 'function');
  t.end();
});

t.test('an addon that is not built is a clear error', (t) => {
  const folder = withFolder(t);
  copyFileSync(loaderFile, join(folder, 'loader.js'));
  writeFileSync(join(folder, 'main.js'), `import { loadNative } from './loader.js'; ${program}`);
  const { status, stderr } = run(join(folder, 'main.js'));
  t.equal(status, 1);
  t.match(
    stderr,
    `Error: the native addon is not built: no native/tsnet.node at or above ${folder}; run: npm run build`,
  );
  t.equal(run(join(folder, 'main.js'), { TSNET_NATIVE: addonFile }).stdout, 'function true\n');
  const wrong = run(join(folder, 'main.js'), { TSNET_NATIVE: join(folder, 'package.json') });
  t.match(wrong.stderr, `Error: cannot load the native addon ${folder}/package.json: `);
  t.end();
});

for (const format of ['cjs', 'esm'] as const) {
  t.test(`a bundle in build/lib or build/bin finds it (${format})`, async (t) => {
    const folder = withFolder(t);
    mkdirSync(join(folder, 'build/native'), { recursive: true });
    symlinkSync(addonFile, join(folder, 'build/native/tsnet.node'));
    writeFileSync(join(folder, 'main.js'), `import { loadNative } from ${JSON.stringify(loaderFile)}; ${program}`);
    for (const place of ['build/lib', 'build/bin']) {
      const outfile = join(folder, place, format === 'cjs' ? 'main.cjs' : 'main.mjs');
      await build({
        entryPoints: [join(folder, 'main.js')],
        bundle: true,
        platform: 'node',
        format,
        outfile,
        logOverride: { 'empty-import-meta': 'silent' },
      });
      t.match(run(outfile), { status: 0, stdout: 'function true\n', stderr: '' });
    }
  });
}
