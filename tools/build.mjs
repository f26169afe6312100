/**
 * Makes build/bin/tsnet. It loads build/lib/cli-HASH.cjs, the bundled CLI, with V8's compiled code beside it; the
 * CLI loads build/lib/controller-HASH.cjs, agent-HASH.cjs, dns-HASH.cjs and yaml-HASH.cjs when it needs them.
 *
 * CommonJS, since Node starts it faster than ES modules; separate files rather than one, since reading and
 * compiling the daemons would slow down every `tsnet ls`. Names are kept, so that stack traces stay readable.
 * Their names hold their contents' hashes: the executable is replaced at one instant and never meets compiled code of
 * another bundle, which V8 tells apart by length only.
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

/** What the CLI imports lazily and is too big for its own file: specifier → [entry, name of the bundle]. */
const lazy = {
  yaml: ['node_modules/yaml/dist/index.js', 'yaml'],
  './controller-daemon.js': ['bin/controller-daemon.ts', 'controller'],
  './agent-daemon.js': ['bin/agent-daemon.ts', 'agent'],
  './dns-daemon.js': ['bin/dns-daemon.ts', 'dns'],
};

/** `stems`: specifier → name of the bundle with its hash. */
const lazyBundles = (stems) => ({
  name: 'lazy-bundles',
  setup(plugin) {
    plugin.onResolve({ filter: /.*/ }, ({ kind, path }) => {
      const stem = kind === 'dynamic-import' ? stems[path] : undefined;
      return stem === undefined ? undefined : { path: `../lib/${stem}.cjs`, external: true };
    });
  },
});

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

/** The executable: what compiles the bundles, from V8's cache where that was made by this very Node. */
const loader = (stem) => `#!/usr/bin/env node
'use strict';
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const { Script } = require('node:vm');
const lib = join(__dirname, '../lib/');
const loaded = new Map();
function load(stem, module) {
  const filename = lib + stem + '.cjs';
  let cachedData;
  try {
    cachedData = readFileSync(lib + stem + '.' + process.version + '.cache');
  } catch {
    // Compiled anew, then: slower by some milliseconds.
  }
  const source = '(function (exports, require, module, __filename, __dirname) {' + readFileSync(filename, 'utf8') + '\\n})';
  const run = new Script(source, { filename, cachedData }).runInThisContext();
  run(module.exports, requireBundled, module, filename, lib.slice(0, -1));
  return module.exports;
}
function requireBundled(path) {
  const bundled = /^\\.\\.\\/lib\\/([\\w-]+)\\.cjs$/.exec(path);
  if (bundled === null) return require(path);
  const [, stem] = bundled;
  if (!loaded.has(stem)) loaded.set(stem, load(stem, { exports: {} }));
  return loaded.get(stem);
}
load('${stem}', module);
`;

/** Writes a bundle and V8's compiled code of it; its name with its hash. */
async function writeBundle(name, code, cacheTool) {
  const stem = `${name}-${createHash('sha256').update(code).digest('hex').slice(0, 12)}`;
  const file = join(out, 'lib', `${stem}.cjs`);
  const cache = join(out, 'lib', `${stem}.${process.version}.cache`);
  await writeChanged(file, code);
  const hasCache = await access(cache).then(
    () => true,
    () => false,
  );
  if (cacheTool !== undefined && !hasCache) {
    await promisify(execFile)(process.execPath, [join(root, cacheTool), file, `${cache}.new`]);
    await rename(`${cache}.new`, cache);
  }
  return stem;
}

async function buildAll() {
  const lazyStems = await Promise.all(
    Object.entries(lazy).map(async ([specifier, [entry, name]]) => {
      const cacheTool = name === 'yaml' ? undefined : 'tools/code-cache-whole.mjs';
      return [specifier, await writeBundle(name, await bundle(entry), cacheTool)];
    }),
  );
  const code = await bundle('bin/tsnet.ts', [lazyBundles(Object.fromEntries(lazyStems)), noChildProcess]);
  const stem = await writeBundle('cli', code, 'tools/code-cache.mjs');
  await writeChanged(join(out, 'bin/tsnet'), loader(stem), 0o755);
  const stems = [stem, ...lazyStems.map(([, lazyStem]) => lazyStem)];
  const old = (await readdir(join(out, 'lib'))).filter((file) => !stems.some((one) => file.startsWith(`${one}.`)));
  await Promise.all(old.map((file) => rm(join(out, 'lib', file), { force: true })));
}

// The package.json of the checkout says ES modules; the executable has no ending that says otherwise.
await writeChanged(join(out, 'bin/package.json'), '{ "type": "commonjs" }\n');
// etcd3 reads its .proto files at ../proto from where its code is.
await cp(join(root, 'node_modules/etcd3/proto'), join(out, 'proto'), { recursive: true });
await buildAll();
