/**
 * Bundles build/bin/tsnet (the CLI) and what it loads lazily: build/lib/controller.cjs, agent.cjs, yaml.cjs.
 *
 * CommonJS, since Node starts it faster than ES modules; separate files rather than one, since reading and
 * compiling the daemons would slow down every `tsnet ls`. Names are kept, so that stack traces stay readable.
 */
import { build } from 'esbuild';
import { chmod, cp, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

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
  mainFields: ['module', 'main'],
  define: { ...importMeta.define, TSNET_BUNDLED: 'true' },
  legalComments: 'none',
  logLevel: 'warning',
  absWorkingDir: root,
};

/** Lazily imported packages of the CLI become files of their own. */
const lazyPackages = {
  name: 'lazy-packages',
  setup(plugin) {
    plugin.onResolve({ filter: /^yaml$/ }, ({ kind }) => {
      if (kind === 'dynamic-import') return { path: '../lib/yaml.cjs', external: true };
      return undefined;
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

async function bundle({ entry, file, mode, options }) {
  const result = await build({ ...common, entryPoints: [join(root, entry)], outfile: join(out, file), ...options });
  const [output] = result.outputFiles;
  if (output === undefined) throw new Error(`${entry}: esbuild made nothing`);
  await writeChanged(join(out, file), output.contents, mode);
}

const bundles = [
  {
    entry: 'bin/tsnet.ts',
    file: 'bin/tsnet',
    mode: 0o755,
    options: { banner: { js: `#!/usr/bin/env node\n${importMeta.banner}` }, plugins: [lazyPackages] },
  },
  { entry: 'node_modules/yaml/dist/index.js', file: 'lib/yaml.cjs', options: {} },
  ...['controller', 'agent'].map((name) => ({
    entry: `bin/${name}-daemon.ts`,
    file: `lib/${name}.cjs`,
    options: { banner: { js: importMeta.banner } },
  })),
];

// The package.json of the checkout says ES modules; the executable has no ending that says otherwise.
await writeChanged(join(out, 'bin/package.json'), '{ "type": "commonjs" }\n');
const missing = bundles.filter(({ entry }) => !existsSync(join(root, entry)));
for (const { entry } of missing) process.stderr.write(`build: ${entry} is not there, its bundle is left out\n`);
await Promise.all(bundles.filter((item) => !missing.includes(item)).map((item) => bundle(item)));
// etcd3 reads its .proto files at ../proto from where its code is.
await cp(join(root, 'node_modules/etcd3/proto'), join(out, 'proto'), { recursive: true });
