import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import ts from 'typescript';
import { interfaceVersion } from '../../native/index.js';

const root = fileURLToPath(new URL('../../../..', import.meta.url));
const tsnet = join(root, 'build/bin/tsnet');

/** Of what `native/api.ts` declared, without comments, when `interfaceVersion` got this number. */
const known = { version: 2, api: '706a812548d7cd2e' };

function hashOfApi(): string {
  const file = join(root, 'native/api.ts');
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest);
  const text = ts.createPrinter({ removeComments: true }).printFile(source);
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

t.test('the number of the interface is raised when it changes', (t) => {
  const advice =
    'api.ts has changed: raise interfaceVersion in native/index.ts and native/src/addon.cc, then note both here';
  t.same({ version: interfaceVersion, api: hashOfApi() }, known, advice);
  t.end();
});

/** An addon that has another number, or none as those of before had. */
function buildAddon(t: Test, version: number | null): string {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-addon-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const set =
    version === null
      ? ''
      : `napi_value it; napi_create_int32(env, ${version}, &it); napi_set_named_property(env, exports, "interfaceVersion", it);`;
  const source = `#include <node_api.h>
    napi_value napi_register_module_v1(napi_env env, napi_value exports) { (void)env; ${set} return exports; }`;
  writeFileSync(join(folder, 'addon.c'), source);
  const file = join(folder, 'tsnet.node');
  const include = join(root, 'node_modules/node-api-headers/include');
  const { status, stderr } = spawnSync(
    'gcc',
    ['-shared', '-fPIC', '-isystem', include, '-o', file, join(folder, 'addon.c')],
    { encoding: 'utf8' },
  );
  t.equal(status, 0, stderr);
  return file;
}

for (const [age, version] of [
  ['older', null],
  ['older', interfaceVersion - 1],
  ['newer', interfaceVersion + 1],
] as const) {
  t.test(`an agent does not start with an addon that is ${age} than it: ${version ?? 'no number'}`, (t) => {
    const addon = buildAddon(t, version);
    const folder = mkdtempSync(join(tmpdir(), 'tsnet-agent-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const args = ['agent', '--controller', 'http://127.0.0.1:1', '--data-dir', folder, '--run-dir', folder];
    const { status, stderr } = spawnSync(tsnet, args, {
      encoding: 'utf8',
      timeout: 30_000,
      env: { ...process.env, TSNET_NATIVE: addon },
    });
    t.equal(status, 1);
    t.match(stderr, `the native addon ${addon} is ${age} than this program`);
    t.match(stderr, 'npm run build');
    t.match(stderr, /^hint: Program and addon are built together: /m);
    t.end();
  });
}
