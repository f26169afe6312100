import { join } from 'node:path';
import { scheduler } from 'node:timers/promises';
import type { NativeApi } from '../native/api.js';
import { loadNative } from '../native/index.js';
import { cniEnv, referenceDir, shimPath } from '../test/cni/program.js';
import type { LabHost } from '../test/lab/host.js';
import type { Lab } from '../test/lab/lab.js';
import { enterArgs, netnsPath } from '../test/lab/netns.js';
import { inLab } from './bench-lab.js';
import type { Benchmark, Samples, Subject } from './harness.js';
import { buildSpawner, spawnCalls, type Call, type Spawned } from './spawn.js';
import { quantile } from './stats.js';

const perRound = 20;
const starts = 200;
/** p99 of a hundred is the second longest, which swung by half from run to run. */
const perTail = 300;
const atATime = 8;
/** Added without ports at so many a time: 32 took a tenth of a second, and a publication in it or not decided the figure. */
const crowd = 128;
const manyEndpoints = 1000;
const fewEndpoints = 10;
/** A bridge has 1023 ports. */
const perNetwork = 500;
const firstHostPort = 20_000;
/** The kernel takes links and namespaces apart in the background: what is measured next is not to wait for that. */
const settleMs = 1000;
/** Rounds of each kind before the first that counts. Agents run for months: what is measured is compiled code. */
const warmUps = 60;

interface Container {
  readonly id: string;
  readonly path: string;
  /** Published, where ports are. */
  readonly hostPort: number;
}

/** A chain of plugins as a runtime has it. */
interface Chain {
  /** What runs the plugins on their host. */
  readonly enter: readonly string[];
  readonly name: string;
  readonly plugins: readonly Readonly<Record<string, unknown>>[];
  readonly hasPorts: boolean;
}

/**
 * The plugin as runtimes start it, against Debian's `bridge` with `host-local`, and with `portmap` behind them and
 * masquerading. Every program is started and timed by the same native one.
 */
export function withCni(run: (benchmark: Benchmark) => Promise<boolean>): Promise<boolean> {
  return inLab({ hosts: 3 }, async (lab) => {
    await buildSpawner();
    const native = loadNative();
    const [small, few, many] = [lab.host(1), lab.host(2), lab.host(3)];
    for (const name of ['net', 'few', 'many0', 'many1']) await small.create({ name });
    await lab.sandbox('bridge');
    await lab.sandbox('portmap');

    const sandboxes = new Sandboxes(lab, native);
    const tsnet = (host: LabHost, network: string, hasPorts: boolean): Chain => ({
      enter: enterArgs(netnsPath(host.netns)),
      name: network,
      plugins: [{ type: 'tsnet', agentSocket: host.socket, capabilities: { portMappings: true } }],
      hasPorts,
    });
    try {
      // Both do the same in each round and nothing else, so that only the number of endpoints tells them apart.
      const besideFew = tsnet(few, 'few', false);
      const besideMany = tsnet(many, 'many0', false);
      await add(besideFew, await sandboxes.take(fewEndpoints), atATime);
      for (const chain of [besideMany, tsnet(many, 'many1', false)])
        await add(chain, await sandboxes.take(perNetwork), atATime);
      for (const chain of [tsnet(small, 'net', false), tsnet(small, 'net', true), besideFew, besideMany])
        await warmUp(sandboxes, chain);
      const subjects: Subject[] = [
        {
          name: 'tsnet',
          round: async () => ({
            ...(await measurePlain(sandboxes, tsnet(small, 'net', false))),
            ...(await measurePorts(sandboxes, tsnet(small, 'net', true))),
            'start ms': await measureStarts(shimPath),
          }),
        },
        { name: 'bridge', round: () => measurePlain(sandboxes, bridgeChain(lab)) },
        { name: 'portmap', round: () => measurePorts(sandboxes, portmapChain(lab)) },
        { name: '/bin/true', round: async () => ({ 'start ms': await measureStarts('/bin/true') }) },
        { name: 'tsnet, few', round: () => measureTail(sandboxes, besideFew) },
        { name: 'tsnet, 1000', round: () => measureTail(sandboxes, besideMany) },
      ];
      return await run({
        title: 'cni: one container after another, and eight at a time, as runtimes start plugins',
        units: {
          'ADD ms': 'ms, no ports',
          'ADD port ms': 'ms, one port',
          'ADD/s': `no ports, ${atATime} at a time`,
          'DEL ms': 'ms, no ports',
          'DEL port ms': 'ms, one port',
          'DEL port/s': `one port, ${atATime} at a time`,
          'start ms': 'ms, VERSION',
          'ADD p99 ms': `ms, p99 of a round, beside ${fewEndpoints} and ${manyEndpoints} endpoints`,
        },
        subjects,
        rounds: roundsWanted(),
        warmups: 2,
        comparisons: [
          { metric: 'ADD ms', of: 'tsnet', to: 'bridge', atMost: 0.3 },
          { metric: 'ADD port ms', of: 'tsnet', to: 'portmap', atMost: 0.08 },
          { metric: 'ADD/s', of: 'tsnet', to: 'bridge', atLeast: 3 },
          { metric: 'DEL ms', of: 'tsnet', to: 'bridge', atMost: 0.5 },
          { metric: 'DEL port ms', of: 'tsnet', to: 'portmap', atMost: 0.1 },
          { metric: 'DEL port/s', of: 'tsnet', to: 'portmap', atLeast: 5 },
          { metric: 'start ms', of: 'tsnet', to: '/bin/true', atMost: 2 },
          { metric: 'ADD p99 ms', of: 'tsnet, 1000', to: 'tsnet, few', atMost: 1.5 },
        ],
      });
    } finally {
      await sandboxes.removeAll();
    }
  });
}

/** Fewer rounds than the figures need show whether everything works. */
function roundsWanted(): number {
  const rounds = Number(process.env.TSNET_BENCH_ROUNDS ?? 9);
  if (!Number.isInteger(rounds) || rounds < 1) throw new RangeError('TSNET_BENCH_ROUNDS: a number from 1 up');
  return rounds;
}

/** Namespaces made for containers, and taken away with them. */
class Sandboxes {
  readonly #lab: Lab;
  readonly #native: NativeApi;
  readonly #paths = new Set<string>();
  #made = 0;

  constructor(lab: Lab, native: NativeApi) {
    this.#lab = lab;
    this.#native = native;
  }

  async take(count: number): Promise<Container[]> {
    const containers: Container[] = [];
    for (let number = 0; number < count; number += 1) {
      this.#made += 1;
      const path = netnsPath(`${this.#lab.prefix}c${this.#made}`);
      await this.#native.netnsCreate(path);
      this.#paths.add(path);
      containers.push({ id: `c${this.#made}`, path, hostPort: firstHostPort + (this.#made % 10_000) });
    }
    return containers;
  }

  async remove(containers: readonly Container[]): Promise<void> {
    for (const { path } of containers) {
      await this.#native.netnsDelete(path);
      this.#paths.delete(path);
    }
    await scheduler.wait(settleMs);
  }

  async removeAll(): Promise<void> {
    for (const path of this.#paths) await this.#native.netnsDelete(path);
    this.#paths.clear();
  }
}

function bridgeChain(lab: Lab): Chain {
  return referenceChain(lab, 'bridge', { ipMasq: false, hasPorts: false });
}

function portmapChain(lab: Lab): Chain {
  return referenceChain(lab, 'portmap', { ipMasq: true, hasPorts: true });
}

function referenceChain(lab: Lab, name: string, how: { ipMasq: boolean; hasPorts: boolean }): Chain {
  const bridge = {
    type: 'bridge',
    bridge: 'br0',
    isDefaultGateway: true,
    ipMasq: how.ipMasq,
    ipam: { type: 'host-local', dataDir: join(lab.folder, `leases-${name}`), subnet: '10.90.0.0/16' },
  };
  return {
    enter: enterArgs(netnsPath(`${lab.prefix}${name}`)),
    name,
    plugins: how.hasPorts ? [bridge, { type: 'portmap', snat: true, capabilities: { portMappings: true } }] : [bridge],
    hasPorts: how.hasPorts,
  };
}

function callOf(
  chain: Chain,
  container: Container,
  at: { readonly command: string; readonly index: number; readonly prevResult?: unknown },
): Call {
  const plugin = chain.plugins[at.index] ?? {};
  const hasCapability = chain.hasPorts && 'capabilities' in plugin;
  const portMappings = [{ hostPort: container.hostPort, containerPort: 80, protocol: 'tcp' }];
  const { type = '' } = plugin;
  return {
    argv: [type === 'tsnet' ? shimPath : join(referenceDir, String(type))],
    // bridge calls iptables, which it looks for in PATH.
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...cniEnv(at.command, { id: container.id, netns: container.path }) },
    input: JSON.stringify({
      ...plugin,
      cniVersion: '1.0.0',
      name: chain.name,
      ...(hasCapability ? { runtimeConfig: { portMappings } } : {}),
      ...(at.prevResult === undefined ? {} : { prevResult: at.prevResult }),
    }),
  };
}

interface Added {
  /** By container, over the whole chain. */
  readonly ms: readonly number[];
  /** Of the chain's first plugin. */
  readonly firstMs: number;
  readonly results: readonly unknown[];
}

/** Adds containers, plugin by plugin: each needs what the one before has printed. */
async function add(chain: Chain, containers: readonly Container[], concurrency: number): Promise<Added> {
  let results: readonly unknown[] = [];
  let ms: readonly number[] = containers.map(() => 0);
  let firstMs = 0;
  for (const index of chain.plugins.keys()) {
    const jobs = containers.map((container, number) => [
      callOf(chain, container, {
        command: 'ADD',
        index,
        ...(index === 0 ? {} : { prevResult: results[number] }),
      }),
    ]);
    const spawned = await spawnCalls(jobs, { concurrency, enter: chain.enter });
    results = spawned.jobs.map(([called]): unknown => JSON.parse(called?.stdout ?? ''));
    ms = spawned.jobs.map(([called], number) => (ms[number] ?? 0) + (called?.ms ?? NaN));
    if (index === 0) firstMs = spawned.ms;
  }
  return { ms, firstMs, results };
}

/** Deletes containers, each by the chain's plugins in reverse. */
function del(
  chain: Chain,
  containers: readonly Container[],
  at: { readonly added: Added; readonly concurrency: number },
): Promise<Spawned> {
  const indexes = [...chain.plugins.keys()].reverse();
  const jobs = containers.map((container, number) =>
    indexes.map((index) => callOf(chain, container, { command: 'DEL', index, prevResult: at.added.results[number] })),
  );
  return spawnCalls(jobs, { concurrency: at.concurrency, enter: chain.enter });
}

const msOf = ({ jobs }: Spawned): number[] => jobs.map((job) => job.reduce((sum, { ms }) => sum + ms, 0));

const perSec = (count: number, ms: number): number => (count * 1000) / ms;

async function measurePlain(sandboxes: Sandboxes, chain: Chain): Promise<Samples> {
  const containers = await sandboxes.take(2 * perRound);
  const one = await add(chain, containers, 1);
  const oneDel = await del(chain, containers, { added: one, concurrency: 1 });
  await scheduler.wait(settleMs);
  const others = await sandboxes.take(crowd);
  const eight = await add(chain, others, atATime);
  await del(chain, others, { added: eight, concurrency: atATime });
  await sandboxes.remove([...containers, ...others]);
  return { 'ADD ms': one.ms, 'DEL ms': msOf(oneDel), 'ADD/s': [perSec(others.length, eight.firstMs)] };
}

async function measurePorts(sandboxes: Sandboxes, chain: Chain): Promise<Samples> {
  const containers = await sandboxes.take(perRound);
  const one = await add(chain, containers, 1);
  const oneDel = await del(chain, containers, { added: one, concurrency: 1 });
  await scheduler.wait(settleMs);
  const others = await sandboxes.take(4 * atATime);
  const eight = await add(chain, others, atATime);
  const eightDel = await del(chain, others, { added: eight, concurrency: atATime });
  await sandboxes.remove([...containers, ...others]);
  return { 'ADD port ms': one.ms, 'DEL port ms': msOf(oneDel), 'DEL port/s': [perSec(others.length, eightDel.ms)] };
}

async function warmUp(sandboxes: Sandboxes, chain: Chain): Promise<void> {
  const containers = await sandboxes.take(perRound);
  for (let number = 0; number < warmUps; number += 1) {
    const added = await add(chain, containers, number % 2 === 0 ? 1 : atATime);
    await del(chain, containers, { added, concurrency: atATime });
  }
  await sandboxes.remove(containers);
}

async function measureStarts(program: string): Promise<number[]> {
  const call: Call = { argv: [program], env: { CNI_COMMAND: 'VERSION' }, input: '{"cniVersion":"1.0.0"}' };
  const spawned = await spawnCalls(
    Array.from({ length: starts }, () => [call]),
    { concurrency: 1, enter: [] },
  );
  return msOf(spawned);
}

/** So few at once that the bridge has ports for them beside those that are there. */
async function measureTail(sandboxes: Sandboxes, chain: Chain): Promise<Samples> {
  const containers = await sandboxes.take(perTail);
  const added = await add(chain, containers, 1);
  await del(chain, containers, { added, concurrency: atATime });
  await sandboxes.remove(containers);
  return { 'ADD p99 ms': [quantile(added.ms, 0.99)] };
}
