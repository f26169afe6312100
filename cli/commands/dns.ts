import { Option } from 'commander';
import { TsnetError } from '../../core/errors.js';
import { formatType, parseType, typeNames } from '../../lib/dns/constants.js';
import type { DnsNameView, DnsQueryRequest, DnsQueryView, ResolverView } from '../../core/api/dns.js';
import type { CommandSpec, GroupSpec } from '../command.js';
import { printList, printValue } from '../output/format.js';
import { dnsNameView, dnsRecordView } from '../output/views.js';
import { present } from '../parse.js';
import { parseTarget } from '../target.js';

interface QueryOptions {
  readonly from?: string;
  readonly type?: string;
}

/** A target where it looks like one, else a name or id for the agent to find. Errors: ERR_INVALID_TARGET. */
const askerOf = (text: string, cwd: string): string =>
  /^(pid|netns):|\//.test(text) || text === '' ? parseTarget(text, cwd) : text;

/** As the name server compares it. Errors: ERR_USAGE. */
function readType(text: string): string {
  const type = parseType(text);
  if (type !== null) return formatType(type);
  throw new TsnetError('ERR_USAGE', `--type "${text}" is no record type`, {
    hint: `Write one of ${typeNames().join(', ')}, or TYPE and its number.`,
  });
}

/** For scripts: to be told from an error. */
const exitWithoutRecord = 3;

const queryCommand: CommandSpec<QueryOptions> = {
  name: 'query',
  summary: 'ask the name server of this host, with reasons',
  details:
    'Shows each record with the endpoint that it stands for, its host and generation, and why the answer is what it ' +
    'is. Without --from the names of all networks that this host carries are seen. Exits with 0 ' +
    'when there is a record; 3 when there is none (NXDOMAIN, NODATA), the host does not know (FORWARDED), or SANDBOX ' +
    'may not ask (REFUSED); 1 for an error.',
  args: [{ name: 'NAME', summary: 'a name, such as web, web.frontend or web.frontend.tsnet.internal' }],
  options: () => [
    new Option(
      '--from <SANDBOX>',
      'as this sandbox of this host: pid:N, netns:PATH, a name in /run/netns, or name or id of an endpoint',
    ),
    new Option('--type <TYPE>', 'record type (default: A and AAAA, PTR for a reverse name)').argParser(readType),
  ],
  examples: [
    { does: 'Where web leads to, for the sandbox of client', line: 'tsnet dns query web --from client' },
    { does: 'Which ports web has', line: 'tsnet dns query web --type SRV' },
  ],
  common: 'calls',
  act: async ({ args: [name = ''], options, cli, format, calls }) => {
    const from = options.from === undefined ? undefined : askerOf(options.from, cli.cwd);
    const body = present<DnsQueryRequest>({ name, type: options.type, from });
    const view = await calls.agent<DnsQueryView>('POST', '/v1/agent/dns/query', { body });
    const exit = view.status === 'NOERROR' ? 0 : exitWithoutRecord;
    if (await printValue(cli, format, view)) return exit;
    cli.stdout.write(`${view.status}: ${view.reason}\n`);
    if (view.records.length > 0)
      await printList(cli, format, { view: dnsRecordView, rows: view.records, quiet: false });
    return exit;
  },
};

const lsCommand: CommandSpec<{ readonly quiet?: boolean }> = {
  name: 'ls',
  summary: 'list the names that this host answers',
  options: () => [new Option('-q, --quiet', 'names only')],
  examples: [{ does: 'All names, with where they lead', line: 'tsnet dns ls' }],
  common: 'calls',
  act: async ({ options, cli, format, calls }) => {
    const rows = await calls.agent<readonly DnsNameView[]>('GET', '/v1/agent/dns');
    await printList(cli, format, { view: dnsNameView, rows, quiet: options.quiet === true });
  },
};

const resolvConfCommand: CommandSpec = {
  name: 'resolv-conf',
  summary: 'print the resolv.conf for a sandbox of this host',
  args: [
    { name: 'SANDBOX', summary: 'pid:N, netns:PATH, a name in /run/netns, or name or id of an endpoint of this host' },
  ],
  examples: [
    { does: 'For a container whose runtime writes it itself', line: 'tsnet dns resolv-conf pid:4711 > resolv.conf' },
  ],
  common: 'calls',
  act: async ({ args: [sandbox = ''], cli, format, calls }) => {
    const query = new URLSearchParams({ target: askerOf(sandbox, cli.cwd) }).toString();
    const view = await calls.agent<ResolverView>('GET', `/v1/agent/resolver?${query}`);
    if (!(await printValue(cli, format, view))) cli.stdout.write(view.text);
  },
};

export const dnsCommands: GroupSpec = {
  name: 'dns',
  summary: 'look at names',
  commands: [queryCommand, lsCommand, resolvConfCommand],
};
