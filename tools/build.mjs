/**
 * Makes build/bin/tsnet. It loads build/lib/cli-HASH.cjs, the bundled CLI, with V8's compiled code beside it; the
 * CLI loads build/lib/controller.cjs, agent.cjs and yaml.cjs when it needs them.
 *
 * CommonJS, since Node starts it faster than ES modules; separate files rather than one, since reading and
 * compiling the daemons would slow down every `tsnet ls`. Names are kept, so that stack traces stay readable.
 * The name of the CLI's file holds its content's hash: the executable is replaced at one instant and never meets
 * compiled code of another bundle, which V8 tells apart by length only.
 */
import { build } from 'esbuild';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, chmod, cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const out = join(root, 'build');

/** esbuild leaves import.meta empty in CommonJS. */
const importMeta = {
  banner: "const __importMetaUrl = require('node:url').pathToFileURL(__filename).href;",
  define: { 'import.meta.url': '__importMetaUrl' },
};

const common = {
  bundle: true,
  write: false,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  // As require(): names of a CommonJS file need no guessing then.
  supported: { 'dynamic-import': false },
  mainFields: ['module', 'main'],
  define: importMeta.define,
  legalComments: 'none',
  logLevel: 'warning',
  absWorkingDir: root,
};

/** What the CLI imports lazily and is too big for its own file: specifier → [entry, bundle]. */
const lazy = {
  yaml: ['node_modules/yaml/dist/index.js', 'lib/yaml.cjs'],
  './controller-daemon.js': ['bin/controller-daemon.ts', 'lib/controller.cjs'],
  './agent-daemon.js': ['bin/agent-daemon.ts', 'lib/agent.cjs'],
  './dns-daemon.js': ['bin/dns-daemon.ts', 'lib/dns.cjs'],
};

const lazyBundles = {
  name: 'lazy-bundles',
  setup(plugin) {
    plugin.onResolve({ filter: /.*/ }, ({ kind, path }) => {
      const target = kind === 'dynamic-import' ? lazy[path] : undefined;
      return target === undefined ? undefined : { path: `../${target[1]}`, external: true };
    });
  },
};

async function writeChanged(path, text, mode = 0o644) {
  const before = await readFile(path).catch(() => undefined);
  if (before !== undefined && before.equals(Buffer.from(text))) return;
  await mkdir(dirname(path), { recursive: true });
  // By rename: a daemon that runs from the old file keeps it.
  await writeFile(`${path}.new`, text, { mode });
  await chmod(`${path}.new`, mode);
  await rename(`${path}.new`, path);
}

async function bundle(entry, plugins = []) {
  const options = {
    ...common,
    entryPoints: [join(root, entry)],
    outfile: join(out, 'out.cjs'),
    banner: { js: importMeta.banner },
    plugins,
  };
  const { outputFiles } = await build(options);
  const [output] = outputFiles;
  if (output === undefined) throw new Error(`${entry}: esbuild made nothing`);
  return output.contents;
}

/** Commander loads it at once, to start subcommands that are programs of their own; there are none. */
const noChildProcess = {
  name: 'no-child-process',
  setup(plugin) {
    plugin.onResolve({ filter: /^node:child_process$/ }, ({ importer }) =>
      importer.includes('/node_modules/commander/') ? { path: 'none', namespace: 'none' } : undefined,
    );
    plugin.onLoad({ filter: /.*/, namespace: 'none' }, () => ({ contents: 'module.exports = {};' }));
  },
};

/** The executable: what compiles the CLI, from V8's cache where that was made by this very Node. */
const loader = (name) => `#!/usr/bin/env node
'use strict';
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const { Script } = require('node:vm');
const stem = join(__dirname, '../lib/${name}');
const filename = stem + '.cjs';
let cachedData;
try {
  cachedData = readFileSync(stem + '.' + process.version + '.cache');
} catch {
  // Compiled anew, then: slower by some milliseconds.
}
const source = '(function (exports, require, module, __filename, __dirname) {' + readFileSync(filename, 'utf8') + '\\n})';
new Script(source, { filename, cachedData }).runInThisContext()(exports, require, module, filename, __dirname);
`;

async function buildCli() {
  const code = await bundle('bin/tsnet.ts', [lazyBundles, noChildProcess]);
  const name = `cli-${createHash('sha256').update(code).digest('hex').slice(0, 12)}`;
  const cache = `${name}.${process.version}.cache`;
  await writeChanged(join(out, 'lib', `${name}.cjs`), code);
  const hasCache = await access(join(out, 'lib', cache)).then(
    () => true,
    () => false,
  );
  if (!hasCache) {
    const made = join(out, 'lib', `${cache}.new`);
    await promisify(execFile)(process.execPath, [
      join(root, 'tools/code-cache.mjs'),
      join(out, 'lib', `${name}.cjs`),
      made,
    ]);
    await rename(made, join(out, 'lib', cache));
  }
  await writeChanged(join(out, 'bin/tsnet'), loader(name), 0o755);
  const old = (await readdir(join(out, 'lib'))).filter(
    (file) => file.startsWith('cli-') && !file.startsWith(`${name}.`),
  );
  await Promise.all(old.map((file) => rm(join(out, 'lib', file), { force: true })));
}

// The package.json of the checkout says ES modules; the executable has no ending that says otherwise.
await writeChanged(join(out, 'bin/package.json'), '{ "type": "commonjs" }\n');
// etcd3 reads its .proto files at ../proto from where its code is.
await cp(join(root, 'node_modules/etcd3/proto'), join(out, 'proto'), { recursive: true });
await Promise.all([
  buildCli(),
  ...Object.values(lazy).map(async ([entry, file]) => writeChanged(join(out, file), await bundle(entry))),
]);
