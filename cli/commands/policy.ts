import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Option } from 'commander';
import type { PolicyAnswer, PolicyBody, PolicyQuestion, PolicyView } from '../../core/api/policy.js';
import { TsnetError } from '../../core/errors.js';
import type { Labels, PolicyPeer, PolicyPort, PolicyProtocol, PolicyRule } from '../../core/model.js';
import { formatPath, parsePolicy, PolicyFault } from '../../core/policy/parse.js';
import type { ArgumentSpec, CommandSpec, GroupSpec } from '../command.js';
import type { Connections } from '../connection.js';
import type { CliContext } from '../context.js';
import { printList, printOne, printRecords, printValue } from '../output/format.js';
import { policyAnswerView, policyView } from '../output/policy-views.js';
import { readPolicyFile } from '../policy-file.js';
import { collect, collectPairs } from '../parse.js';

const policyPath = (name: string): string => `/v1/policies/${encodeURIComponent(name)}`;
const names: ArgumentSpec = { name: 'NAME', summary: 'name of a policy', means: 'policy', variadic: true };

interface CreateOptions {
  readonly file?: string;
  readonly replace?: boolean;
  readonly network?: readonly string[];
  readonly select?: Labels;
  readonly denyIngress?: boolean;
  readonly denyEgress?: boolean;
  readonly from?: readonly string[];
  readonly to?: readonly string[];
  readonly port?: readonly string[];
}

function usage(message: string): never {
  throw new TsnetError('ERR_USAGE', message, { hint: 'See `tsnet help policy create`, or write it into a file.' });
}

/** `K=V[,K=V]`, `network:NAME`, a subnet, or `any`. */
function parsePeerText(text: string): PolicyPeer | null {
  if (text === 'any') return null;
  if (text.startsWith('network:')) return { networks: [text.slice('network:'.length)] };
  if (text.includes('/') && !text.includes('=')) return { cidr: text };
  if (!text.includes('=')) usage(`"${text}" is no peer: write K=V, network:NAME, a subnet, or any`);
  const matchLabels = text.split(',').reduce<Labels>((before, pair) => collectPairs(pair, before), {});
  return { endpoints: { matchLabels } };
}

/** `PORT[-END][/PROTOCOL]` or `PROTOCOL`. */
function parsePortText(text: string): PolicyPort {
  if (/^(tcp|udp|sctp|icmp)$/.test(text)) return { protocol: text as PolicyProtocol };
  const match = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/.exec(text);
  if (match === null) usage(`"${text}" is no port: write PORT[-END][/tcp|udp|sctp], or a protocol`);
  const [, first, last, protocol = 'tcp'] = match;
  return {
    protocol: protocol as PolicyProtocol,
    port: Number(first),
    ...(last === undefined ? {} : { endPort: Number(last) }),
  };
}

function ruleOf(peers: readonly string[] | undefined, ports: readonly string[] | undefined): PolicyRule {
  const parsed = (peers ?? []).map(parsePeerText);
  if (parsed.includes(null) && parsed.length > 1) usage('"any" leaves nothing for another peer to add: give it alone');
  return {
    ...(parsed.length === 0 || parsed.includes(null) ? {} : { peers: parsed.filter((peer) => peer !== null) }),
    ...(ports === undefined ? {} : { ports: ports.map(parsePortText) }),
  };
}

function policyOfOptions(name: string, options: CreateOptions): PolicyBody {
  const { network, select, denyIngress, denyEgress, from, to, port } = options;
  const ingress = denyIngress === true ? [] : from === undefined ? undefined : [ruleOf(from, port)];
  const egress = denyEgress === true ? [] : to === undefined ? undefined : [ruleOf(to, port)];
  const body = {
    name,
    ...(network === undefined ? {} : { networks: network }),
    selects: select === undefined ? {} : { matchLabels: select },
    ...(ingress === undefined ? {} : { ingress }),
    ...(egress === undefined ? {} : { egress }),
  };
  if (ingress === undefined && egress === undefined)
    usage('nothing is said of ingress or egress: give --from, --to, --deny-ingress or --deny-egress');
  if (port !== undefined && from === undefined && to === undefined)
    usage('--port is for what is permitted, and nothing is: give --from or --to');
  try {
    return parsePolicy(body);
  } catch (error) {
    if (!(error instanceof PolicyFault)) throw error;
    throw new TsnetError('ERR_INVALID_POLICY', `${formatPath(error.path)}: ${error.message}`);
  }
}

async function readText(cli: CliContext, file: string): Promise<string> {
  if (file === '-') {
    const parts: Buffer[] = [];
    for await (const part of process.stdin) parts.push(Buffer.from(part as Uint8Array));
    return Buffer.concat(parts).toString('utf8');
  }
  try {
    return await readFile(resolve(cli.cwd, file), 'utf8');
  } catch (error) {
    throw new TsnetError('ERR_USAGE', `${file} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

/** Makes all policies or none: what was made before one that is refused is taken back. */
async function putAll(calls: Connections, bodies: readonly PolicyBody[], replaces: boolean): Promise<PolicyView[]> {
  const before = replaces && bodies.length > 1 ? await calls.cluster<readonly PolicyView[]>('GET', '/v1/policies') : [];
  const rows: PolicyView[] = [];
  try {
    for (const body of bodies) {
      const [method, path] = replaces ? (['PUT', policyPath(body.name)] as const) : (['POST', '/v1/policies'] as const);
      rows.push(await calls.cluster<PolicyView>(method, path, { body }));
    }
    return rows;
  } catch (error) {
    for (const { name } of rows.reverse()) {
      const old = before.find((each) => each.name === name);
      if (old === undefined) await calls.cluster('DELETE', policyPath(name));
      else await calls.cluster('PUT', policyPath(name), { body: bodyOf(old) });
    }
    throw error;
  }
}

function bodyOf({ name, networks, selects, ingress, egress }: PolicyView): PolicyBody {
  return {
    name,
    ...(networks === undefined ? {} : { networks }),
    selects,
    ...(ingress === undefined ? {} : { ingress }),
    ...(egress === undefined ? {} : { egress }),
  };
}

const createCommand: CommandSpec<CreateOptions> = {
  name: 'create',
  summary: 'create policies from options or from a file',
  details:
    'A policy selects endpoints by labels. Once selected in a direction, an endpoint has only the connections that some ' +
    'policy permits; replies are always let through. A file holds one policy or more, as YAML or JSON, and is refused ' +
    'as a whole where anything in it is not understood. docs/policy.md has the form.',
  args: [{ name: 'NAME', summary: 'name of the new policy; not with --file', optional: true }],
  options: () => [
    new Option('-f, --file <FILE>', 'read policies from this file; - is standard input'),
    new Option('--replace', 'put it in the place of the policy with its name'),
    new Option('--network <NAME>', 'only endpoints of this network, repeatable').argParser(collect),
    new Option('--select <K=V>', 'endpoints with this label, repeatable; none: all').argParser(collectPairs),
    new Option('--from <PEER>', 'permit connections from K=V[,K=V], network:NAME, CIDR or any, repeatable').argParser(
      collect,
    ),
    new Option('--to <PEER>', 'permit connections to such a peer, repeatable').argParser(collect),
    new Option('--port <PORT>', 'to these ports only, PORT[-END][/tcp|udp|sctp] or icmp, repeatable').argParser(
      collect,
    ),
    new Option('--deny-ingress', 'permit nothing that comes in').conflicts('from'),
    new Option('--deny-egress', 'permit nothing that goes out').conflicts('to'),
  ],
  contradictions: (['network', 'select', 'from', 'to', 'port', 'deny-ingress', 'deny-egress'] as const).map((name) => [
    'file',
    name,
  ]),
  examples: [
    {
      does: 'Nobody reaches the stores of backend',
      line: 'tsnet policy create shut --network backend --select role=store --deny-ingress',
    },
    {
      does: 'But the front, on one port',
      line: 'tsnet policy create front-to-store --select role=store --from role=front --port 5432',
    },
    { does: 'All policies of a file', line: 'tsnet policy create -f policies.yaml' },
  ],
  common: 'calls',
  act: async ({ args: [name], options, cli, format, calls }) => {
    const { file, replace } = options;
    if ((name === undefined) === (file === undefined)) usage('give either a name or a file');
    const bodies =
      file !== undefined ? readPolicyFile(await readText(cli, file), file) : [policyOfOptions(name ?? '', options)];
    const rows = await putAll(calls, bodies, replace === true);
    for (const row of rows)
      for (const warning of row.warnings) cli.stderr.write(`warning: policy ${row.name}: ${warning}\n`);
    const [only] = rows;
    if (only !== undefined && rows.length === 1) await printOne(cli, format, { view: policyView, row: only });
    else await printRecords(cli, format, { view: policyView, rows });
  },
};

const lsCommand: CommandSpec<{ readonly quiet?: boolean }> = {
  name: 'ls',
  summary: 'list policies',
  options: () => [new Option('-q, --quiet', 'names only')],
  examples: [{ does: 'All policies, with how many endpoints each selects', line: 'tsnet policy ls' }],
  common: 'calls',
  act: async ({ options, cli, format, calls }) => {
    const rows = await calls.cluster<readonly PolicyView[]>('GET', '/v1/policies');
    await printList(cli, format, { view: policyView, rows, quiet: options.quiet === true });
  },
};

const inspectCommand: CommandSpec = {
  name: 'inspect',
  summary: 'show policies in full',
  args: [names],
  examples: [{ does: 'One policy with its rules', line: 'tsnet policy inspect front-to-store -o yaml' }],
  common: 'calls',
  act: async ({ cli, format, calls, each }) => {
    const rows: PolicyView[] = [];
    const exit = await each(async (name) => {
      rows.push(await calls.cluster<PolicyView>('GET', policyPath(name)));
    });
    await printRecords(cli, format, { view: policyView, rows });
    return exit;
  },
};

const rmCommand: CommandSpec = {
  name: 'rm',
  summary: 'remove policies',
  args: [names],
  examples: [{ does: 'Remove two policies', line: 'tsnet policy rm shut front-to-store' }],
  common: 'calls',
  act: async ({ cli, format, calls, each }) => {
    const removed: string[] = [];
    const isTable = format === 'table' || format === 'wide';
    const exit = await each(async (name) => {
      await calls.cluster('DELETE', policyPath(name));
      removed.push(name);
      if (isTable) cli.stdout.write(`${name}\n`);
    });
    await printValue(cli, format, removed);
    return exit;
  },
};

function parseAsked(text: string): Pick<PolicyQuestion, 'port' | 'protocol'> {
  if (text === 'icmp') return { protocol: 'icmp', port: 0 };
  const match = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/.exec(text);
  if (match === null) usage(`"${text}" is no port: write PORT/PROTOCOL, such as 80/tcp, or icmp`);
  const port = Number(match[1]);
  if (port < 1 || port > 65_535) usage(`"${text}" is no port: ports are from 1 to 65535`);
  return { protocol: (match[2] ?? 'tcp') as PolicyProtocol, port };
}

const explainCommand: CommandSpec = {
  name: 'explain',
  summary: 'say which rule decides about a connection',
  details:
    'Both ends must allow it: what the one may reach, and what the other may be reached by. Exits with 0 either way.',
  args: [
    { name: 'FROM', summary: 'name or id of an endpoint, or any address', means: 'endpoint' },
    { name: 'TO', summary: 'the end that is connected to', means: 'endpoint' },
    { name: 'PORT/PROTOCOL', summary: 'such as 80/tcp, or icmp' },
  ],
  examples: [{ does: 'Whether and why web reaches the store', line: 'tsnet policy explain web store 5432/tcp' }],
  common: 'calls',
  act: async ({ args: [from = '', to = '', port = ''], cli, format, calls }) => {
    const body: PolicyQuestion = { from, to, ...parseAsked(port) };
    const rows = await calls.cluster<readonly PolicyAnswer[]>('POST', '/v1/policies/explain', { body });
    await printList(cli, format, { view: policyAnswerView, rows, quiet: false });
  },
};

export const policyCommands: GroupSpec = {
  name: 'policy',
  summary: 'say which endpoints may connect to which',
  commands: [createCommand, lsCommand, inspectCommand, rmCommand, explainCommand],
};
