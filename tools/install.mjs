#!/usr/bin/env node
/**
 * Puts what was built in place for the systemd units. The folder is exchanged as a whole: a running agent keeps
 * the files that it has open, and nobody starts half of a version.
 *
 *   npm run install:host                     to /usr/local and /etc/systemd/system
 *   npm run install:host -- --prefix DIR     to another folder; the units name it
 *   npm run install:host -- --units DIR      units to another folder
 *   npm run install:host -- --remove         takes it away again; data, tokens and settings stay
 */
import { existsSync } from 'node:fs';
import { cp, lstat, mkdir, readdir, readFile, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { projectRoot, runTool } from './setup.mjs';
import { say, SetupError } from './setup/progress.mjs';

/** What `tsnet` needs of build/. */
const parts = ['bin', 'lib', 'libexec', 'cni', 'proto', 'native/tsnet.node'];

async function main() {
  const options = readOptions();
  const prefix = resolve(options.prefix);
  const folder = join(prefix, 'lib', 'tsnet');
  const link = join(prefix, 'bin', 'tsnet');
  await checkLink(link, folder);
  const units = await readUnits(prefix);
  if (options.remove) {
    await rm(link, { force: true });
    await rm(folder, { recursive: true, force: true });
    for (const { name } of units) await rm(join(options.units, name), { force: true });
    say('remove', `${folder}, ${link} and the units are gone; /etc/tsnet and /var/lib/tsnet stay`);
    return;
  }
  await exchange(folder);
  await mkdir(join(prefix, 'bin'), { recursive: true });
  await replace(link, (path) => symlink(join(folder, 'bin', 'tsnet'), path));
  await mkdir(options.units, { recursive: true });
  for (const { name, text } of units) await replace(join(options.units, name), (path) => writeFile(path, text));
  say('install', `${folder}, ${link}, ${units.map(({ name }) => join(options.units, name)).join(', ')}`);
  say('next', 'systemctl daemon-reload; then start or restart tsnet-controller and tsnet-agent');
}

function readOptions() {
  const options = { prefix: { type: 'string' }, units: { type: 'string' }, remove: { type: 'boolean' } };
  try {
    const { values } = parseArgs({ options });
    return { prefix: '/usr/local', units: '/etc/systemd/system', remove: false, ...values };
  } catch (error) {
    throw new SetupError(`${error.message.split('. ')[0]}; known are --prefix, --units and --remove.`);
  }
}

/** A `tsnet` that is somebody else's is left alone. */
async function checkLink(link, folder) {
  const found = await lstat(link).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSymbolicLink() || (await readlink(link)) !== join(folder, 'bin', 'tsnet'))
    throw new SetupError(`${link} is there and is not ours: move it away, or give another --prefix.`);
}

async function readUnits(prefix) {
  const folder = join(projectRoot, 'packaging', 'systemd');
  const names = (await readdir(folder)).filter((name) => name.endsWith('.service'));
  return Promise.all(
    names.map(async (name) => {
      const text = await readFile(join(folder, name), 'utf8');
      return { name, text: text.replaceAll('/usr/local/bin/tsnet', join(prefix, 'bin', 'tsnet')) };
    }),
  );
}

async function exchange(folder) {
  const build = join(projectRoot, 'build');
  const missing = parts.filter((part) => !existsSync(join(build, part)));
  if (missing.length > 0) throw new SetupError(`build/${missing[0]} is missing: run npm run setup first.`);
  const [fresh, old] = [`${folder}.new`, `${folder}.old`];
  for (const left of [fresh, old]) await rm(left, { recursive: true, force: true });
  for (const part of parts)
    await cp(join(build, part), join(fresh, part), { recursive: true, preserveTimestamps: true });
  if (existsSync(folder)) await rename(folder, old);
  await rename(fresh, folder);
  await rm(old, { recursive: true, force: true });
}

async function replace(path, make) {
  await rm(`${path}.new`, { force: true });
  await make(`${path}.new`);
  await rename(`${path}.new`, path);
}

await runTool(main);
