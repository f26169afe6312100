import { Option } from 'commander';
import type { HostRemoval, HostToken, HostView } from '../../core/api/host.js';
import type { CommandSpec, GroupSpec } from '../command.js';
import { printList, printValue } from '../output/format.js';
import { formatTable } from '../output/table.js';
import { hostView } from '../output/views.js';

const lsCommand: CommandSpec<{ readonly quiet?: boolean }> = {
  name: 'ls',
  summary: 'list hosts and whether they live',
  options: () => [new Option('-q, --quiet', 'names only')],
  examples: [{ does: 'All hosts of the cluster', line: 'tsnet host ls' }],
  common: 'calls',
  act: async ({ options, cli, format, calls }) => {
    const rows = await calls.cluster<readonly HostView[]>('GET', '/v1/hosts');
    await printList(cli, format, { view: hostView, rows, quiet: options.quiet === true });
  },
};

const rmCommand: CommandSpec<{ readonly force?: boolean }> = {
  name: 'rm',
  summary: 'remove hosts that will not come back, with their endpoints and addresses',
  args: [{ name: 'NAME', summary: 'name of a host', means: 'host', variadic: true }],
  options: () => [new Option('--force', 'even if its agent is alive')],
  examples: [{ does: 'Free what a dead host holds', line: 'tsnet host rm node3' }],
  common: 'calls',
  act: async ({ options, cli, format, calls, each }) => {
    const rows: HostRemoval[] = [];
    const exit = await each(async (name) => {
      const query = options.force === true ? '?force=true' : '';
      rows.push(await calls.cluster<HostRemoval>('DELETE', `/v1/hosts/${encodeURIComponent(name)}${query}`));
    });
    if (await printValue(cli, format, rows)) return exit;
    const columns = [
      { title: 'NAME', cell: (row: HostRemoval) => row.name },
      { title: 'BLOCKS', cell: (row: HostRemoval) => row.blocks.toString() },
      { title: 'ENDPOINTS', cell: (row: HostRemoval) => row.endpoints.toString() },
    ];
    if (rows.length > 0) cli.stdout.write(formatTable(rows, columns, false));
    return exit;
  },
};

const tokenCommand: CommandSpec = {
  name: 'token',
  summary: 'make a token of its own for a host',
  details:
    'Prints it, once: the controllers keep no copy. From then on only this token is good for the name, neither an earlier ' +
    'one nor the one that all hosts know. The host need not be there yet.',
  args: [{ name: 'NAME', summary: 'name of a host', means: 'host' }],
  examples: [{ does: 'For the agent on node3', line: 'tsnet host token node3 > node3.token' }],
  common: 'calls',
  act: async ({ args: [name = ''], cli, format, calls }) => {
    const made = await calls.cluster<HostToken>('POST', `/v1/hosts/${encodeURIComponent(name)}/token`, { body: {} });
    if (!(await printValue(cli, format, made))) cli.stdout.write(`${made.token}\n`);
  },
};

export const hostCommands: GroupSpec = {
  name: 'host',
  summary: 'list hosts, remove them, and give them tokens',
  commands: [lsCommand, rmCommand, tokenCommand],
};
