import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { run } from './commands.mjs';
import { elapsed, say, SetupError } from './progress.mjs';

const sources = ['core', 'lib', 'native', 'controller', 'agent', 'cni-plugin', 'cli', 'bin', 'test', 'bench', 'tools'];
const files = ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.base.json'];
const products = ['build/bin/tsnet', 'build/cni/tsnet', 'build/js/bin', 'build/js/test'];

/** Builds addon, TypeScript and bundle, unless nothing they are made of has changed since. */
export async function ensureBuild(root) {
  const stampPath = join(root, 'build', '.tsnet-sources');
  const stamp = fingerprint(root);
  const present = products.every((path) => existsSync(join(root, path)));
  if (present && existsSync(stampPath) && readFileSync(stampPath, 'utf8') === stamp) return false;
  rmSync(stampPath, { force: true });
  mkdirSync(join(root, 'build'), { recursive: true });
  await step('native', 'make', ['-C', 'native', '--no-print-directory', `--jobs=${availableParallelism()}`], root);
  await step('cni', 'make', ['-C', 'cni-plugin', '--no-print-directory'], root);
  await step('tsc', process.execPath, [join('node_modules', 'typescript', 'bin', 'tsc'), '-b'], root);
  await step('bundle', process.execPath, [join('tools', 'build.mjs')], root);
  for (const path of products) {
    if (!existsSync(join(root, path)))
      throw new SetupError(`The build ended without an error, but ${path} is not there.`);
  }
  writeFileSync(stampPath, stamp);
  return true;
}

async function step(name, program, args, root) {
  const startedMs = performance.now();
  await run(program, args, { cwd: root });
  say(name, `built in ${elapsed(startedMs)}`);
}

/** Paths, sizes and times of everything the build reads. */
function fingerprint(root) {
  const hash = createHash('sha256');
  for (const name of files) addFile(hash, join(root, name));
  for (const name of sources) addFolder(hash, join(root, name));
  return `${hash.digest('hex')} node ${process.versions.modules}\n`;
}

function addFolder(hash, folder) {
  if (!existsSync(folder)) return;
  const entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) addFolder(hash, path);
    else if (entry.isFile()) addFile(hash, path);
  }
}

function addFile(hash, path) {
  const { size, mtimeMs } = statSync(path);
  hash.update(`${path}\0${size}\0${mtimeMs}\n`);
}
