import { Option } from 'commander';
import type { ServiceUpdate, ServiceView } from '../../core/api/service.js';
import { TsnetError } from '../../core/errors.js';
import type { Labels, ServiceAffinity } from '../../core/model.js';
import type { CommandSpec } from '../command.js';
import { printOne } from '../output/format.js';
import { serviceView } from '../output/service-view.js';
import { collect, collectPairs, parseDurationMs, present } from '../parse.js';
import { parseHealthText, parsePortText, parsePublishText, servicePath } from '../service-text.js';

interface SetOptions {
  readonly port?: readonly string[];
  readonly selector?: Labels;
  readonly backend?: readonly string[];
  readonly affinity?: ServiceAffinity;
  readonly health?: string | boolean;
  readonly publish?: readonly string[] | boolean;
  readonly drain?: number;
  readonly generation?: number;
}

/** Like `collect`; what came before is `true` or `false` where the option has a `--no-` form. */
function collectPublished(text: string, before: unknown): readonly string[] {
  return collect(text, Array.isArray(before) ? (before as readonly string[]) : []);
}

function parseGeneration(text: string): number {
  if (/^[1-9][0-9]{0,14}$/.test(text)) return Number(text);
  throw new TsnetError('ERR_USAGE', `"${text}" is no generation`, { hint: 'See `tsnet service inspect -o json`.' });
}

/** Changes a service in place. */
export const setCommand: CommandSpec<SetOptions> = {
  name: 'set',
  summary: 'change a service that is there, which keeps its address',
  details:
    'What is given takes the place of all that was there of its kind; the rest stays. Connections that are open go on: to ' +
    'a backend that the service no longer selects as long as to one that drains.',
  args: [{ name: 'NAME', summary: 'name of a service, or NAME.NETWORK', means: 'service' }],
  options: () => [
    new Option('--port <PORT>', 'have these ports and no others: PORT[:TARGET][/tcp|udp|sctp], repeatable').argParser(
      collect,
    ),
    new Option('--selector <K=V>', 'backends are endpoints with this label, repeatable: with all of them').argParser(
      collectPairs,
    ),
    new Option('--backend <ENDPOINT>', 'backends are endpoints with this name, alias or id, repeatable')
      .argParser(collect)
      .conflicts('selector'),
    new Option('--affinity <KIND>', 'whether a client keeps its backend').choices(['none', 'client-ip']),
    new Option('--health <CHECK>', 'only backends that answer get connections: tcp or http:/PATH'),
    new Option('--no-health', 'backends are not checked'),
    new Option('--publish <PORT>', 'have these ports of hosts and no others: HOSTPORT[:PORT], repeatable').argParser(
      collectPublished,
    ),
    new Option('--no-publish', 'have no ports of hosts'),
    new Option('--drain <DURATION>', 'how long connections to a draining backend may go on').argParser(parseDurationMs),
    new Option('--generation <NUMBER>', 'only if it still has this generation').argParser(parseGeneration),
  ],
  examples: [
    { does: 'Lead clients to another version', line: 'tsnet service set web --selector app=web --selector version=2' },
    {
      does: 'Another port of the backends, and a check',
      line: 'tsnet service set web --port 80:8081 --health http:/ready',
    },
  ],
  common: 'calls',
  act: async ({ args: [name = ''], options, cli, format, calls }) => {
    const { port, selector, backend, affinity, health, publish, drain, generation } = options;
    const change = present<ServiceUpdate>({
      ports: port?.map(parsePortText),
      selector,
      backends: backend,
      affinity,
      health: health === false ? null : typeof health === 'string' ? parseHealthText(health) : undefined,
      publish: publish === false ? [] : Array.isArray(publish) ? publish.map(parsePublishText) : undefined,
      drainMs: drain,
      drain: undefined,
      undrain: undefined,
      generation: undefined,
    });
    if (Object.keys(change).length === 0)
      throw new TsnetError('ERR_USAGE', 'nothing to change', { hint: 'See `tsnet help service set`.' });
    const body = { ...change, ...(generation === undefined ? {} : { generation }) };
    const row = await calls.cluster<ServiceView>('PATCH', servicePath(name), { body });
    await printOne(cli, format, { view: serviceView, row });
  },
};
