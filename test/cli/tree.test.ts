import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import t from 'tap';
import { daemonCommands } from '../../bin/daemons.js';
import { pathOf, specOf } from '../../cli/command.js';
import { runCli } from '../../cli/main.js';
import { newProgram, newTree, type Runner } from '../../cli/tree.js';
import { version } from '../../core/version.js';
import { cleanEnv, golden, root, tsnet } from './program.js';

const newTestProgram = (run: Runner): Command => newProgram(newTree(daemonCommands), version, run);
const walk = (command: Command): readonly Command[] => [command, ...command.commands.flatMap(walk)];

/** What a command line prints, without a process for it. */
async function printedBy(...args: string[]): Promise<string> {
  let stdout = '';
  const output = { write: (text: string) => ((stdout += text), true) };
  const cli = { env: {}, cwd: root, stdout: output, stderr: output, version, libexecDir: `${root}build/libexec` };
  await runCli(args, cli, daemonCommands);
  return stdout;
}

t.test('the help of every command is as written down', async (t) => {
  for (const command of walk(newTestProgram(async () => undefined))) {
    const [, ...words] = pathOf(command).split(' ');
    const { code, stdout, stderr } = await tsnet(['help', ...words]);
    const name = ['help', ...words].join('-');
    t.equal(stdout, golden(name, stdout), name);
    t.same({ code, stderr }, { code: 0, stderr: '' }, name);
    if (command.commands.length === 0)
      t.equal(await printedBy(...words, '--help'), stdout, `${name}: --help is the same`);
  }
});

t.test('the help of a group shows an example of each of its commands', async (t) => {
  const groups = walk(newTestProgram(async () => undefined)).filter(
    (command) => command.commands.length > 0 && command.parent !== null,
  );
  t.ok(groups.length > 3);
  for (const group of groups) {
    const stdout = await printedBy('help', group.name());
    t.equal(await printedBy(group.name(), '--help'), stdout);
    const [, examples = ''] = stdout.split('Examples:');
    for (const inner of group.commands) t.match(examples, `tsnet ${group.name()} ${inner.name()}`);
  }
});

/** The words of a tsnet command line; stops where the shell takes over. */
function wordsOf(line: string): readonly string[] {
  const own = line.replace(/^source <\((.*)\)$/, '$1').split(/ [|>] /)[0] ?? '';
  return own.split(' ');
}

t.test('every command has an example, and every example is a line that it takes', async (t) => {
  for (const command of walk(newTestProgram(async () => undefined))) {
    if (command.commands.length > 0) continue;
    const path = pathOf(command);
    const examples = specOf(command)?.examples ?? [];
    t.ok(examples.length > 0, `${path} has one`);
    for (const { line } of examples) {
      const parsed: string[] = [];
      const program = newTestProgram(async (inner) => void parsed.push(pathOf(inner)));
      const [first, ...args] = wordsOf(line);
      t.equal(first, 'tsnet', line);
      await program.parseAsync([...args], { from: 'user' });
      t.same(parsed, [path], line);
    }
  }
});

t.test('every command prints records in all formats, or is one that prints none', async (t) => {
  const without = walk(newTestProgram(async () => undefined)).filter((command) => specOf(command)?.common === 'none');
  t.same(without.map(pathOf), [
    'tsnet controller',
    'tsnet agent',
    'tsnet dns-server',
    'tsnet completion',
    'tsnet help',
  ]);
});

t.test('the reference pages are what the generator makes', async (t) => {
  const run = promisify(execFile)(process.execPath, ['tools/docs.mjs', '--check'], { cwd: root, env: cleanEnv() });
  await t.resolves(run);
});

t.test('the version is that of package.json', async (t) => {
  const { version: packaged } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { version: string };
  t.equal(version, packaged);
  t.equal((await tsnet(['version'])).stdout, `tsnet ${packaged}\n`);
  t.equal((await tsnet(['--version'])).stdout, `tsnet ${packaged}\n`);
  t.same(JSON.parse((await tsnet(['version', '-o', 'json'])).stdout), {
    version: packaged,
    node: process.versions.node,
  });
});
