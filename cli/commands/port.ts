import { Option } from 'commander';
import type { PortView } from '../../core/api/port.js';
import type { CommandSpec, GroupSpec } from '../command.js';
import { printList } from '../output/format.js';
import { portView } from '../output/views.js';

const lsCommand: CommandSpec<{ readonly quiet?: boolean }> = {
  name: 'ls',
  summary: 'list the published ports of this host',
  details: 'Host address * stands for all addresses of the host.',
  options: () => [new Option('-q, --quiet', 'ids of the endpoints only')],
  examples: [
    { does: 'What this host publishes, and where it leads', line: 'tsnet port ls' },
    { does: 'Who holds port 8080', line: "tsnet port ls -o json | jq '.[] | select(.hostPort == 8080)'" },
  ],
  common: 'calls',
  act: async ({ options, cli, format, calls }) => {
    const rows = await calls.agent<readonly PortView[]>('GET', '/v1/agent/ports');
    await printList(cli, format, { view: portView, rows, quiet: options.quiet === true });
  },
};

export const portCommands: GroupSpec = {
  name: 'port',
  summary: 'list published ports',
  commands: [lsCommand],
};
