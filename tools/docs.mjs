/**
 * Writes docs/cli.md from the command tree and docs/errors.md from the error registry; with --check it
 * writes nothing and exits with 1 when one of them is not what it would write. Run after `tsc -b`.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const load = (path) => import(pathToFileURL(join(root, 'build/js', path)).href);

const [{ pathOf, specOf, usageOf }, { newProgram, newTree }, { daemonCommands }, { errorRegistry }] = await Promise.all(
  ['cli/command.js', 'cli/tree.js', 'bin/daemons.js', 'core/errors.js'].map(load),
);

const cell = (text) => text.replace(/\|/g, '\\|').replace(/</g, '&lt;');
const table = (header, rows) =>
  [header, header.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');

function leaves(command) {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
}

function optionRow(option) {
  const notes = [
    option.argChoices === undefined ? [] : `one of ${option.argChoices.map((choice) => `\`${choice}\``).join(', ')}`,
    option.defaultValue === undefined || option.defaultValue === true
      ? []
      : `default \`${option.defaultValueDescription ?? option.defaultValue}\``,
    option.envVar === undefined ? [] : `or \`${option.envVar}\``,
    option.mandatory ? 'required' : [],
  ].flat();
  const flags = `\`${option.flags.replace(/[<>]/g, '')}\``.replace(/\|/g, '\\|');
  return [flags, cell([option.description, ...notes].join('; '))];
}

function commandSection(command) {
  const spec = specOf(command);
  const own = command.options.filter((option) => option.helpGroupHeading === undefined);
  const common = command.options
    .filter((option) => option.helpGroupHeading !== undefined)
    .map((option) => `\`${option.long}\``);
  return [
    `## ${pathOf(command)}`,
    `    ${pathOf(command)} ${usageOf(spec)}`,
    cell(command.description()),
    (spec.args ?? []).length === 0
      ? []
      : table(
          ['argument', ''],
          spec.args.map((argument) => [`\`${argument.name}\``, cell(argument.summary)]),
        ),
    own.length === 0 ? [] : table(['option', ''], own.map(optionRow)),
    common.length === 0 ? [] : `Also ${common.join(', ')}: see [common options](#common-options).`,
    spec.examples.map(({ does, line }) => `    # ${does}\n    ${line}`).join('\n'),
  ]
    .flat()
    .join('\n\n');
}

function formatCli() {
  const program = newProgram(newTree(daemonCommands), '', async () => undefined);
  const commands = leaves(program);
  const common = commands[0].options.filter((option) => option.helpGroupHeading !== undefined);
  const link = (command) => `[${pathOf(command)}](#${pathOf(command).replace(/ /g, '-')})`;
  return `${[
    '# The tsnet command line',
    'Made from the command tree by `node tools/docs.mjs`.',
    table(
      ['command', ''],
      commands.map((command) => [link(command), cell(command.summary())]),
    ),
    '## Where calls go',
    'Calls about the cluster go to the controller named with `--controller` or `TSNET_CONTROLLER`; else to the agent of\n' +
      'this host, at `TSNET_AGENT_SOCKET` or `/run/tsnet/agent.sock` if that is there, which relays them; else to\n' +
      '`http://127.0.0.1:7420`. `connect`, `disconnect`, `run`, `endpoint set` and `endpoint ls --local` always go to the\n' +
      'agent. A token is sent to controllers only. `TSNET_LIBEXEC` names the folder of `tsnet-run` where it is not beside\n' +
      'the executable.',
    '## Output and errors',
    'Records go to stdout: `table`, `wide` (more columns), `json` or `yaml`; lists and `inspect` are arrays there. Errors go\n' +
      'to stderr as `error:` and `hint:`, with `-o json` as one line of JSON each. Exit codes: 0; 1 for an error; 2 for a\n' +
      'command line that is wrong; `tsnet run` exits as its command does. `NO_COLOR` is honoured. All codes are in\n' +
      '[errors.md](errors.md).',
    '## Common options',
    table(['option', ''], common.map(optionRow)),
    ...commands.map(commandSection),
  ].join('\n\n')}\n`;
}

/** The registry's own order and the comments that part it into areas. */
function areasOf(source) {
  const areas = [];
  for (const line of source.slice(source.indexOf('export const errorRegistry')).split('\n')) {
    const area = /^ {2}\/\/ (.+)$/.exec(line)?.[1];
    if (area !== undefined) areas.push({ area, codes: [] });
    const code = /^ {2}(ERR_[A-Z0-9_]+):/.exec(line)?.[1];
    if (code !== undefined) areas.at(-1)?.codes.push(code);
  }
  return areas;
}

async function formatErrors() {
  const areas = areasOf(await readFile(join(root, 'core/errors.ts'), 'utf8'));
  const listed = areas.flatMap(({ codes }) => codes);
  const lost = Object.keys(errorRegistry).filter((code) => !listed.includes(code));
  if (lost.length > 0) throw new Error(`core/errors.ts: no area for ${lost.join(', ')}`);
  const section = (code) => {
    const { http, exit, cni, retryable, hint } = errorRegistry[code];
    const again = retryable ? 'yes: the same call may succeed later' : 'no: something has to change first';
    return `### ${code}\n\n${cell(hint)}\n\n${table(['HTTP', 'exit', 'CNI', 'retry'], [[http, exit, cni, again]])}`;
  };
  return `${[
    '# Errors',
    'Made from `core/errors.ts` by `node tools/docs.mjs`.',
    'Every error has a stable code, a message that names the field and the value, and a hint. The API answers with\n' +
      '`{"code", "message", "hint", "details"}`, the CLI prints `error:` and `hint:` (the same body with `-o json`), CNI has its\n' +
      'own numbers. Below, per code: what to do, HTTP status, exit code of the CLI, CNI code, and whether to try again.',
    ...areas.flatMap(({ area, codes }) => [
      `## ${area.charAt(0).toUpperCase()}${area.slice(1)}`,
      ...codes.map(section),
    ]),
  ].join('\n\n')}\n`;
}

const check = process.argv.includes('--check');
const pages = { 'docs/cli.md': formatCli(), 'docs/errors.md': await formatErrors() };
for (const [path, text] of Object.entries(pages)) {
  const file = join(root, path);
  const before = await readFile(file, 'utf8').catch(() => '');
  if (before === text) continue;
  if (check) {
    process.stderr.write(`${relative(process.cwd(), file)} is not up to date: run node tools/docs.mjs\n`);
    process.exitCode = 1;
  } else {
    await writeFile(file, text);
  }
}
