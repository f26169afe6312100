import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DnsNameView } from '../core/api/dns.js';
import type { NetworkView } from '../core/api/network.js';
import type { Lab } from '../test/lab/lab.js';
import type { LabHost } from '../test/lab/host.js';
import { enterArgs, netnsPath } from '../test/lab/netns.js';
import { execIn, type Sandbox } from '../test/lab/sandbox.js';
import { waitFor } from '../test/lab/wait.js';
import type { ServerPlace } from './dnsperf.js';

/** The endpoints of a network with the names that are asked for. */
export interface Named {
  readonly name: string;
  readonly address: string;
}

interface StartOptions {
  readonly lab: Lab;
  readonly host: LabHost;
  readonly network: NetworkView;
  readonly named: readonly Named[];
  /** Asks until the server answers. */
  readonly client: Sandbox;
}

const ports = { dnsmasq: 5301, aardvark: 5302 } as const;
/** As tsnet's answers. */
const ttl = 2;

/** Each server in the same namespace, on the same address, with the same names; tsnet's is there already. */
export async function startServers(options: StartOptions): Promise<Readonly<Record<string, ServerPlace>>> {
  const address = gatewayOf(options.network);
  const places = {
    tsnet: { address, port: 53 },
    dnsmasq: { address, port: ports.dnsmasq },
    aardvark: { address, port: ports.aardvark },
  };
  startDnsmasq(options, places.dnsmasq);
  startAardvark(options, places.aardvark);
  const { client, named } = options;
  for (const [server, place] of Object.entries(places)) {
    for (const { name, address: wanted } of [named[0], named.at(-1)].filter((each) => each !== undefined)) {
      await waitFor(`${server} to know ${name}`, async () => (await lookUp(client, place, name)) === wanted, 20_000);
    }
  }
  return places;
}

export function gatewayOf({ subnets }: NetworkView): string {
  return subnets[0]?.gateway ?? '';
}

async function lookUp(from: Sandbox, { address, port }: ServerPlace, name: string): Promise<string> {
  const words = ['+short', '+tries=1', '+time=1', '-p', String(port), `@${address}`, name, 'A'];
  return (await execIn(from, 'dig', ...words)).stdout.trim();
}

function startDnsmasq({ lab, host, named }: StartOptions, { address, port }: ServerPlace): void {
  const file = join(lab.folder, 'dnsmasq.hosts');
  writeFileSync(file, named.map((each) => `${each.address} ${each.name}\n`).join(''));
  const listen = [`--listen-address=${address}`, `--port=${port}`, '--bind-interfaces'];
  const names = [`--addn-hosts=${file}`, '--no-hosts', '--no-resolv', `--local-ttl=${ttl}`];
  const rest = ['--keep-in-foreground', '--conf-file=/dev/null', '--pid-file=', '--user=root'];
  start({ lab, host, name: 'dnsmasq', argv: ['dnsmasq', ...listen, ...names, ...rest] });
}

/** One file a network: where to listen, then a line for each container; the client's own has to be among them. */
function startAardvark({ lab, host, named }: StartOptions, { address, port }: ServerPlace): void {
  const folder = join(lab.folder, 'aardvark');
  mkdirSync(folder);
  const lines = named.map((each, number) => `${number.toString(16).padStart(64, '0')} ${each.address}  ${each.name}\n`);
  writeFileSync(join(folder, 'net'), `${address}\n${lines.join('')}`);
  const argv = ['/usr/lib/podman/aardvark-dns', '--config', folder, '--port', String(port), 'run'];
  start({ lab, host, name: 'aardvark-dns', argv });
}

function start(server: { lab: Lab; host: LabHost; name: string; argv: readonly string[] }): void {
  const { lab, host, name, argv } = server;
  const netns = enterArgs(netnsPath(host.netns));
  lab.startDaemon({ name, logPath: lab.logPath(name), argv: [...netns, ...argv], env: {} });
}

/** The names that a host answers for a network, each with one address. */
export async function namedOf(host: LabHost, network: string): Promise<Named[]> {
  const views = await host.api.call<DnsNameView[]>('GET', '/v1/agent/dns');
  return views
    .filter((view) => view.network === network)
    .flatMap(({ name, addresses }) => ({ name: name.slice(0, name.indexOf('.')), address: addresses[0] ?? '' }))
    .filter(({ name }) => name.startsWith('web-'));
}
