#!/usr/bin/env node
/**
 * Set-up, then tsnet's main job before your eyes: a cluster of two hosts on this machine, `tsnet create
 * frontend`, a web server on one host and a client on the other. Takes everything down again.
 *
 *   npm run quickstart                 all of it
 *   npm run quickstart -- --keep       leave it up, and say how to enter and how to remove it
 *   npm run quickstart -- --down       remove what was kept
 *   npm run quickstart -- --help       this
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { projectRoot, runTool, setUp } from './setup.mjs';
import { SetupError } from './setup/progress.mjs';

const tsnet = join(projectRoot, 'build', 'bin', 'tsnet');
const help = `npm run quickstart              two hosts on this machine, shown and taken down again
npm run quickstart -- --keep    leave them up, and say how to enter and how to remove them
npm run quickstart -- --down    remove what was kept`;
const page = 'Hello from web on host h1, over the frontend network.\n';

async function main() {
  const options = readOptions();
  if (options.help) return tell(help);
  await setUp();
  const lab = await loadLab();
  await lab.removeLeftovers();
  if (options.down) await takeDown(lab);
  else await show(lab, options.keep);
}

function readOptions() {
  try {
    return parseArgs({
      options: { keep: { type: 'boolean' }, down: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    }).values;
  } catch (error) {
    throw new SetupError(`${error.message.split('. ')[0].replace(/\.$/, '')}; known are --keep, --down and --help.`);
  }
}

/** The lab is part of the tests, and there only once it has been built. */
async function loadLab() {
  const folder = join(projectRoot, 'build', 'js', 'test', 'lab');
  const modules = ['lab.js', 'with-lab.js', 'registration.js', 'snapshot.js', 'wait.js', 'program.js', 'netns.js'];
  return Object.assign({}, ...(await Promise.all(modules.map((name) => import(join(folder, name))))));
}

async function takeDown({ listRegistrations, removeLab }) {
  const kept = listRegistrations().filter(({ owner }) => owner === null);
  for (const registration of kept) await removeLab(registration);
  tell(kept.length === 0 ? 'There is nothing to remove.' : 'Removed.');
}

async function show(modules, keep = false) {
  const { Lab, removeOnSignals, takeRootSnapshot } = modules;
  const before = await takeRootSnapshot();
  tell('\nA cluster of two hosts, made of network namespaces on this machine:');
  const lab = new Lab({ hosts: 2, keep, onStep: (text) => tell(`  · ${text}`) });
  const release = removeOnSignals(lab);
  let finished = false;
  try {
    await lab.start();
    await tour(lab, modules);
    finished = true;
  } catch (error) {
    tell(`\nThis went wrong. The daemons' last words:\n${lab.logs(15)}\n`);
    throw new SetupError(error.message);
  } finally {
    if (finished && keep) lab.keep();
    else await remove(lab, before, takeRootSnapshot);
    release();
  }
  if (keep) explainKept(lab);
}

async function tour(lab, { waitFor }) {
  const [one, two] = [lab.host(1), lab.host(2)];
  tell('\nA network, made on host h1:');
  await command(one, ['create', 'frontend']);
  tell('\nhost h2 knows it as well:');
  await command(two, ['ls']);

  tell('\nA web server in a sandbox of its own on h1:');
  const folder = join(lab.folder, 'www');
  mkdirSync(folder);
  writeFileSync(join(folder, 'index.html'), page);
  const serve = [
    'run',
    '--network',
    'frontend',
    '--name',
    'web',
    '--',
    'busybox',
    'httpd',
    '-f',
    '-p',
    '80',
    '-h',
    folder,
  ];
  startOn(lab, one, 'web', serve);
  const web = await waitFor('web to have an address', async () => {
    const endpoints = await two.json('endpoint', 'ls', 'frontend');
    return endpoints.find(({ name, state }) => name === 'web' && state === 'attached')?.addresses[0];
  });
  await command(two, ['endpoint', 'ls', 'frontend']);

  tell('\nA client on h2 pings it (you should see three answers):');
  await command(two, ['run', '--network', 'frontend', '--', 'ping', '-n', '-c', '3', '-i', '0.2', web]);
  tell('\n…and fetches its page (you should see one line of greeting):');
  const url = `http://${web.includes(':') ? `[${web}]` : web}/`;
  const fetched = await command(two, ['run', '--network', 'frontend', '--', 'busybox', 'wget', '-q', '-O', '-', url]);
  if (!fetched.includes(page)) throw new Error(`the page from ${url} is not the one that web serves`);
  tell('\nThat was one network over two hosts.');
}

/** Shows and runs a tsnet command on a host. */
async function command(host, args) {
  tell(`\n  ${host.name}$ tsnet ${args.join(' ')}`);
  const result = await host.tsnet(...args);
  tell(indent(result.stdout + result.stderr));
  if (result.status !== 0) throw new Error(`tsnet ${args.join(' ')} ended with status ${result.status}`);
  return result.stdout;
}

/** Shows and starts a tsnet command that goes on. */
function startOn(lab, host, name, args) {
  tell(`\n  ${host.name}$ tsnet ${args.join(' ')} &`);
  lab.startDaemon({
    name,
    logPath: lab.logPath(name),
    argv: ['nsenter', `--net=/run/netns/${host.netns}`, '--', tsnet, ...args],
    env: { TSNET_AGENT_SOCKET: host.socket },
  });
}

async function remove(lab, before, takeRootSnapshot) {
  const remains = await lab.remove();
  const after = await takeRootSnapshot();
  if (remains.length > 0) throw new SetupError(`Not everything could be removed: ${remains.join(', ')}.`);
  if (JSON.stringify(before) !== JSON.stringify(after)) {
    throw new SetupError(
      "Everything is removed, but this machine's routes, rules or forwarding have changed meanwhile.",
    );
  }
  tell('Everything is taken down; this machine is as it was.');
}

function explainKept(lab) {
  const host = lab.host(1);
  tell(`
It stays up. To be on host h1 (h2 likewise):

  export TSNET_AGENT_SOCKET=${host.socket}
  nsenter --net=/run/netns/${host.netns}
  ${tsnet} ls

To remove it:

  npm run quickstart -- --down
`);
}

function indent(text) {
  return text.trimEnd().replace(/^/gm, '  ');
}

function tell(text) {
  process.stdout.write(`${text}\n`);
}

await runTool(main);
