import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NetworkView } from '../core/api/network.js';
import { NetlinkConnection } from '../lib/netlink/connection.js';
import { loadNative } from '../native/index.js';
import type { LabHost } from '../test/lab/host.js';
import type { Lab } from '../test/lab/lab.js';
import { netnsPath } from '../test/lab/netns.js';
import type { Sandbox } from '../test/lab/sandbox.js';
import { netlinkAttacher, newHandmadeHost } from './attach.js';
import { inLab } from './bench-lab.js';
import { gatewayOf, namedOf, startServers, type Named } from './dns-servers.js';
import { agentAttacher, Attaching, attachesPerRound, attachPeriodMs } from './dns-attaching.js';
import { NameWatch } from './dns-watch.js';
import { dnsperf, type PerfOptions, type ServerPlace } from './dnsperf.js';
import type { Benchmark, Samples, Subject } from './harness.js';
import { quantile } from './stats.js';

type Run = (benchmark: Benchmark) => Promise<boolean>;

const rounds = Number(process.env['TSNET_BENCH_ROUNDS'] ?? 9);
const networkName = 'net';
const namedEndpoints = 200;
const rateSeconds = 2;
/** Enough for a p99 of 2000 answers at the slowest. */
const latencySeconds = 2;
const busyPerSecond = 5000;
const calmPerSecond = 500;
/** Names of one round of the third part: far enough apart that each is published for itself, and in batches. */
const publishedPerRound = 40;
const publishPeriodMs = 60;

interface World {
  readonly lab: Lab;
  readonly host: LabHost;
  readonly network: NetworkView;
  readonly client: Sandbox;
  readonly named: readonly Named[];
  readonly questions: string;
}

/**
 * Names: how many local ones a second, beside dnsmasq and aardvark-dns; what attaching and answering cost each other; and
 * how soon a name that one host gave is answered on another.
 */
export function withDns(run: Run): Promise<boolean> {
  return inLab({ hosts: 2 }, async (lab) => {
    const world = await newWorld(lab);
    let kept = await answering(world, run);
    kept = (await run(attachingWhileAsked(world))) && kept;
    kept = (await askedWhileAttaching(world, run)) && kept;
    return (await publishing(world, run)) && kept;
  });
}

async function newWorld(lab: Lab): Promise<World> {
  const host = lab.host(1);
  const network = await host.create({ name: networkName, subnets: [{ subnet: '10.64.0.0/16' }] });
  const client = await lab.sandbox();
  await host.attach(networkName, client, { name: 'web-0' });
  for (let number = 1; number < namedEndpoints; number += 1) {
    await host.attach(networkName, await lab.sandbox(), { name: `web-${number}` });
  }
  const named = await namedOf(host, networkName);
  if (named.length !== namedEndpoints) throw new Error(`${named.length} names instead of ${namedEndpoints}`);
  const questions = join(lab.folder, 'questions');
  writeFileSync(questions, named.map(({ name }) => `${name} A\n`).join(''));
  return { lab, host, network, client, named, questions };
}

/** Latency is measured at half the rate that the same server had just before, so that no queue builds up. */
async function answering(world: World, run: Run): Promise<boolean> {
  const places = await startServers(world);
  const { client, questions } = world;
  const subjects = Object.entries(places).map(([name, place]): Subject => {
    return {
      name,
      round: async (): Promise<Samples> => {
        const { perSecond } = await dnsperf(client, place, { questions, seconds: rateSeconds });
        const rate = Math.round(perSecond / 2);
        const { latenciesMs } = await dnsperf(client, place, { questions, seconds: latencySeconds, rate });
        return { queries: [perSecond], 'p99 at half': [quantile(latenciesMs, 0.99)] };
      },
    };
  });
  return run({
    title: `dns: ${namedEndpoints} local names by UDP, and latency at half the rate of each`,
    part: 'rate',
    units: { queries: '/s', 'p99 at half': 'ms' },
    subjects,
    rounds,
    comparisons: [
      { metric: 'queries', of: 'tsnet', to: 'dnsmasq', atLeast: 0.5 },
      { metric: 'queries', of: 'tsnet', to: 'aardvark' },
      { metric: 'p99 at half', of: 'tsnet', to: 'dnsmasq' },
      { metric: 'p99 at half', of: 'tsnet', to: 'aardvark' },
    ],
  });
}

const tsnetPlace = ({ network }: World): ServerPlace => ({ address: gatewayOf(network), port: 53 });

/** Asks at a steady rate, and how long each answer took. */
async function asking(world: World, how: Omit<PerfOptions, 'questions'>): Promise<readonly number[]> {
  const { client, questions } = world;
  return (await dnsperf(client, tsnetPlace(world), { questions, ...how })).latenciesMs;
}

/** Both subjects attach in the same way; beside one of them the name server is asked all the time. */
function attachingWhileAsked(world: World): Benchmark {
  const { lab, host } = world;
  const attaching = new Attaching(lab, 'dns', agentAttacher(host, networkName));
  const measure = async (during: () => Promise<unknown>): Promise<Samples> => {
    const { attachMs } = await attaching.round(during);
    return { 'attach ms': attachMs, 'attach p99': [quantile(attachMs, 0.99)] };
  };
  const busy = `at ${busyPerSecond}/s`;
  const seconds = Math.ceil((attachesPerRound * attachPeriodMs) / 1000);
  return {
    title: `dns: attach while names are asked for ${busyPerSecond} times a second`,
    part: 'attach',
    units: { 'attach ms': 'ms', 'attach p99': 'ms' },
    subjects: [
      { name: 'without', round: () => measure(async () => undefined) },
      { name: busy, round: () => measure(() => asking(world, { rate: busyPerSecond, seconds })) },
    ],
    rounds,
    warmups: 2,
    comparisons: [{ metric: 'attach p99', of: busy, to: 'without', atMost: 2 }],
  };
}

/**
 * Beside the agent's attaches those that netlink alone makes, of the same objects, elsewhere on the same machine: what
 * answers wait then they wait for the kernel.
 */
async function askedWhileAttaching(world: World, run: Run): Promise<boolean> {
  const { lab, host } = world;
  const seconds = Math.ceil((attachesPerRound * attachPeriodMs) / 1000);
  const measure = async (): Promise<Samples> => {
    const latenciesMs = await asking(world, { rate: calmPerSecond, seconds, onTime: true });
    return { 'answer p99': [quantile(latenciesMs, 0.99)], 'answer p50': [quantile(latenciesMs, 0.5)] };
  };
  const native = loadNative();
  const netns = await newHandmadeHost(lab, 'netlink');
  const connection = await NetlinkConnection.open(native, { netns: { path: netnsPath(netns) } });
  const bare = { ...(await netlinkAttacher(native, connection)), close: () => undefined };
  const rate = `${1000 / attachPeriodMs}`;
  const [byAgent, byNetlink] = [`at ${rate} attaches/s`, `at ${rate}/s by netlink`];
  const busy = (name: string, attaching: Attaching): Subject => {
    return { name, round: async () => (await attaching.round(measure)).other };
  };
  try {
    return await run({
      title: `dns: answers while sandboxes are attached ${rate} times a second`,
      part: 'answers',
      units: { 'answer p50': 'ms', 'answer p99': 'ms' },
      subjects: [
        { name: 'without', round: measure },
        busy(byAgent, new Attaching(lab, 'asked', agentAttacher(host, networkName))),
        busy(byNetlink, new Attaching(lab, 'bare', async () => bare)),
      ],
      rounds,
      comparisons: [
        { metric: 'answer p99', of: byAgent, to: 'without', atMost: 2 },
        { metric: 'answer p99', of: byNetlink, to: 'without' },
        { metric: 'answer p99', of: byAgent, to: byNetlink },
      ],
    });
  } finally {
    connection.close();
  }
}

/** The name is asked for on the other host each millisecond from before the attach begins. */
async function publishing({ lab, host, network }: World, run: Run): Promise<boolean> {
  const other = lab.host(2);
  const watcher = await lab.sandbox();
  await other.attach(networkName, watcher, { name: 'watcher' });
  const watch = await NameWatch.start(watcher, gatewayOf(network), lab.folder);
  let made = 0;
  const native = loadNative();
  const round = async (): Promise<Samples> => {
    const resolveMs: number[] = [];
    const paths: string[] = [];
    for (let number = 0; number < publishedPerRound; number += 1) {
      const name = `fresh-${(made += 1)}`;
      const path = netnsPath(`${lab.prefix}${name}`);
      await native.netnsCreate(path);
      paths.push(path);
      const seen = watch.appears(name);
      await host.api.call('POST', '/v1/agent/attach', {
        body: { network: networkName, target: `netns:${path}`, name },
      });
      const attachedNs = process.hrtime.bigint();
      resolveMs.push(Math.max(0, Number((await seen) - attachedNs) / 1e6));
      await new Promise((resolve) => setTimeout(resolve, publishPeriodMs));
    }
    for (const path of paths) {
      await host.api.call('POST', '/v1/agent/detach', { body: { network: networkName, target: `netns:${path}` } });
      await native.netnsDelete(path);
    }
    return { 'resolves ms': resolveMs, 'resolves p99': [quantile(resolveMs, 0.99)] };
  };
  try {
    return await run({
      title: 'dns: from the end of an attach on one host until its name resolves on another',
      part: 'freshness',
      units: { 'resolves ms': 'ms', 'resolves p99': 'ms' },
      subjects: [{ name: 'tsnet', round }],
      rounds,
      comparisons: [],
      limits: [{ metric: 'resolves p99', of: 'tsnet', atMost: 50 }],
    });
  } finally {
    await watch.end();
  }
}
