import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { capture, holdingSignals, InterruptError, run } from './commands.mjs';
import { elapsed, say, SetupError } from './progress.mjs';

const policyPath = '/usr/sbin/policy-rc.d';
const environment = {
  ...process.env,
  DEBIAN_FRONTEND: 'noninteractive',
  NEEDRESTART_SUSPEND: '1',
  LC_ALL: 'C.UTF-8',
};
const apart = { detached: true };
const aptOptions = ['-y', '-q', '-o', 'DPkg::Lock::Timeout=300', '--no-install-recommends'];

/** The packages of the list, in its order: of some sections, each begun by a line `# NAME: …`, or of all. */
export function parsePackageList(text, sections) {
  let isWanted = sections === undefined;
  return text.split('\n').flatMap((line) => {
    const section = /^# (\w+): /.exec(line)?.[1];
    if (section !== undefined && sections !== undefined) isWanted = sections.includes(section);
    const name = line.replace(/#.*/, '').trim();
    return name !== '' && isWanted ? [name] : [];
  });
}

/**
 * Installs what is missing of the list, or of some of its sections; returns the names installed. `notePath` is where it notes meanwhile what was
 * there before: a run that was killed is finished by the next.
 */
export async function ensurePackages(listPath, notePath, sections) {
  const wanted = parsePackageList(readFileSync(listPath, 'utf8'), sections);
  const missing = missingPackages(wanted);
  removeStalePlaceholder();
  if (missing.length === 0 && !existsSync(notePath)) return [];
  if (capture('apt-get', ['--version']).missing) {
    throw new SetupError(
      `There is no apt-get here: install what corresponds to these Debian packages: ${missing.join(', ')}.`,
    );
  }
  const startedMs = performance.now();
  say('packages', missing.length > 0 ? `installing ${missing.join(' ')}` : 'finishing what was cut short');
  const folder = `${notePath}.policy`;
  await holdingSignals(async (check) => {
    if (missing.length > 0 && !allKnown(missing)) await run('apt-get', ['update', '-q'], { env: environment });
    await check();
    const before = noteBefore(notePath);
    try {
      if (missing.length > 0) await installHeldBack(missing, folder);
    } finally {
      // Also of an installation that was cut.
      disableUnits([...listPackages()].filter((name) => !before.has(name)));
      for (const path of [folder, notePath]) rmSync(path, { recursive: true, force: true });
    }
  });
  say('packages', `installed in ${elapsed(startedMs)}; no service was started or enabled`);
  return missing;
}

/** All packages that are installed, by name. */
function listPackages() {
  const query = capture('dpkg-query', ['-W', '-f', '${db:Status-Abbrev} ${Package}\n'], apart);
  const installed = new Set();
  for (const line of query.stdout.split('\n')) {
    const [status, name] = line.trim().split(/\s+/);
    if (status === 'ii' || status === 'hi') installed.add(name);
  }
  return installed;
}

/** The packages that were there before, as the first of the runs noted that have not come to an end. */
function noteBefore(path) {
  if (existsSync(path)) return new Set(readFileSync(path, 'utf8').split('\n'));
  const names = listPackages();
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, [...names].join('\n'));
  renameSync(`${path}.new`, path);
  return names;
}

function missingPackages(wanted) {
  const installed = listPackages();
  return wanted.filter((name) => !installed.has(name));
}

function allKnown(names) {
  return capture('apt-get', ['install', '--simulate', ...aptOptions, ...names], { env: environment }).ok;
}

/**
 * Installs with all services held back. Debian asks `policy-rc.d` before a package starts a service;
 * ours says no, and is seen by apt alone: it is bound over the real file in a private mount
 * namespace. Where the machine has none, an empty file that is not executable, which Debian treats as
 * none, is put there to bind over, and removed afterwards.
 */
async function installHeldBack(names, folder) {
  mkdirSync(folder, { recursive: true });
  const policy = join(folder, 'policy-rc.d');
  writeFileSync(policy, '#!/bin/sh\nexit 101\n');
  chmodSync(policy, 0o755);
  const madePlaceholder = makePlaceholder();
  const install = ['apt-get', 'install', ...aptOptions, ...names];
  // The script's text is fixed: paths and names reach it as its arguments.
  const script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"';
  const inPrivate = ['--mount', '--propagation', 'private', '/bin/sh', '-c', script, 'hold-back', policy, policyPath];
  try {
    try {
      await run('unshare', [...inPrivate, ...install], { env: environment });
    } catch (error) {
      if (error instanceof InterruptError) throw error;
      await run('apt-get', ['update', '-q'], { env: environment });
      await run('unshare', [...inPrivate, ...install], { env: environment });
    }
  } finally {
    if (madePlaceholder) unlinkSync(policyPath);
  }
}

function makePlaceholder() {
  try {
    closeSync(openSync(policyPath, 'wx', 0o444));
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

/** What a set-up killed half-way leaves: an empty policy-rc.d that is not executable. */
function removeStalePlaceholder() {
  const found = statSync(policyPath, { throwIfNoEntry: false });
  if (found !== undefined && found.size === 0 && (found.mode & 0o777) === 0o444) unlinkSync(policyPath);
}

/**
 * Held back now, and not enabled for the next boot either; units that were there before stay as they are. In a session
 * apart, so that a Ctrl-C at the terminal does not reach it.
 */
function disableUnits(names) {
  if (names.length === 0) return;
  for (const line of capture('dpkg', ['-L', ...names], apart).stdout.split('\n')) {
    const unit = /^(?:\/usr)?\/lib\/systemd\/system\/([^/]+\.(?:service|socket|timer))$/.exec(line)?.[1];
    // The helper wants to know for whom it works.
    const asPackage = { ...apart, env: { ...environment, DPKG_MAINTSCRIPT_PACKAGE: names[0] } };
    if (unit !== undefined) capture('deb-systemd-helper', ['disable', unit], asPackage);
  }
}
