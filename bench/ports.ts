import { randomUUID } from 'node:crypto';
import { callServer } from '../cli/exchange.js';
import type { EndpointView } from '../core/api/endpoint.js';
import type { PortRequest } from '../core/api/port.js';
import { Dockerd } from '../test/lab/dockerd.js';
import type { LabHost } from '../test/lab/host.js';
import type { Lab } from '../test/lab/lab.js';
import { enterArgs, netnsPath } from '../test/lab/netns.js';
import { mustRun } from '../test/lab/program.js';
import type { Sandbox } from '../test/lab/sandbox.js';
import { underlayAddress } from '../test/lab/underlay.js';
import { inLab } from './bench-lab.js';
import type { Benchmark, Samples, Subject } from './harness.js';
import { resting } from './rest.js';
import { buildServer, connectFrom, serveIn } from './serve.js';

type Run = (benchmark: Benchmark) => Promise<boolean>;

const units = { 'publish ms': 'ms', 'unpublish ms': 'ms' } as const;
const publishedMany = 20_000;
const publishedBeside = 10_000;
const changesPerRound = 8;
const warmUps = 60;
const ownPort = 8080;
const dockerPort = 8081;
/** Short, and many: what else happens on the machine then meets both sides of a ratio. */
const connectingMs = 200;
/** Rounds of a part whose rounds take many seconds; fewer show whether everything works. The others always have all. */
const roundsOf = (usual: number): number => Number(process.env['TSNET_BENCH_ROUNDS'] ?? usual);

const range = (first: number, count: number): PortRequest => {
  const last = first + count - 1;
  return { hostPort: first, hostPortEnd: last, port: first, portEnd: last, protocol: 'udp' };
};
const singles = (first: number, count: number): PortRequest[] =>
  Array.from({ length: count }, (_, index) => ({ hostPort: first + index, port: 1000 + index }));
/** One element for each port: the kernel's nftables shifts no port. */
const shifted = (first: number, count: number): PortRequest => {
  return { hostPort: first, hostPortEnd: first + count - 1, port: 1, portEnd: count };
};

/**
 * Published ports: what publishing costs, alone and beside many, beside what Debian's `portmap` and Docker take for it,
 * and what connections through a port cost. Publishing is `PATCH /v1/agent/endpoints/ID` as the CLI calls it: claim,
 * journal, rules, connections forgotten. Docker is started when its turn comes, behind what is about us alone.
 */
export function withPorts(run: Run, isWanted: (part: string) => boolean): Promise<boolean> {
  return inLab({ hosts: 3 }, async (lab) => {
    const [alone, beside] = [await serve(lab, 1), await serve(lab, 2)];
    const many = await another(lab, 2);
    await publish(many, [shifted(20_000, publishedMany)]);
    // First: an agent that has published for other parts runs code that is compiled better than the other's.
    let kept = !isWanted('beside-many') || (await besideMany(run, { alone, beside }));
    kept = (!isWanted('publish') || (await publishing(run, alone))) && kept;
    if (!isWanted('beside-others') && !isWanted('connections')) return kept;
    const docker = new Dockerd(lab.host(3));
    try {
      await docker.start();
      await docker.import();
      kept = (!isWanted('beside-others') || (await besideOthers(run, { lab, docker, endpoint: alone }))) && kept;
      await publish(many, [shifted(20_000, publishedBeside)]);
      return (!isWanted('connections') || (await connections(run, lab, docker))) && kept;
    } finally {
      await docker.remove();
    }
  });
}

/** An endpoint to publish on, and whose agent it is. */
interface Own {
  readonly host: LabHost;
  readonly id: string;
  /** All daemons of the cluster: what is done behind an answer, here and elsewhere. */
  readonly daemons: readonly number[];
}

/** A network of a host's own with an endpoint that echoes. */
async function serve(lab: Lab, number: number): Promise<Own> {
  const name = `net${number}`;
  await lab.host(number).create({ name, subnets: [{ subnet: `10.${64 + number}.0.0/16` }] });
  return another(lab, number);
}

async function another(lab: Lab, number: number): Promise<Own & { readonly sandbox: Sandbox }> {
  const sandbox = await lab.sandbox();
  const { id }: EndpointView = await lab.host(number).attach(`net${number}`, sandbox);
  const daemons = [...lab.controllers.map(({ daemon }) => daemon), ...lab.hosts.map(({ agent }) => agent)];
  return { host: lab.host(number), id, sandbox, daemons: daemons.map(({ pid }) => pid) };
}

async function publish({ host, id }: Own, ports: readonly PortRequest[]): Promise<void> {
  const server = { base: host.api.base, unreachable: 'ERR_AGENT_UNREACHABLE' } as const;
  await callServer(server, { method: 'PATCH', path: `/v1/agent/endpoints/${id}` }, { body: { ports } });
}

async function timed(act: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await act();
  return performance.now() - startedMs;
}

/** Changes in a row, on a cluster that has done with what was before. */
function tsnetSubject(name: string, endpoint: Own, ports: readonly PortRequest[]): Subject {
  return {
    name,
    round: async (): Promise<Samples> => {
      const [publishMs, unpublishMs]: [number[], number[]] = [[], []];
      await resting(endpoint.daemons);
      for (let number = 0; number < changesPerRound; number += 1) {
        publishMs.push(await timed(() => publish(endpoint, ports)));
        unpublishMs.push(await timed(() => publish(endpoint, [])));
      }
      return { 'publish ms': publishMs, 'unpublish ms': unpublishMs };
    },
  };
}

/** Daemons run for months: what is measured is compiled code. */
async function warmUp(endpoint: Own, changes: Readonly<Record<string, readonly PortRequest[]>>): Promise<void> {
  for (let number = 0; number < warmUps; number += 1) {
    for (const ports of Object.values(changes)) {
      await publish(endpoint, ports);
      await publish(endpoint, []);
    }
  }
}

async function publishing(run: Run, endpoint: Own): Promise<boolean> {
  await publish(endpoint, [range(30_000, 10_000)]);
  const listing = (await endpoint.host.exec('nft', 'list', 'map', 'inet', 'tsnet', 'range-udp4')).stdout;
  if (listing.match(/\d+-\d+ :/g)?.length !== 1) throw new Error(`a range is not one element:\n${listing}`);
  await publish(endpoint, []);
  const subjects = {
    'range of 10 000': [range(30_000, 10_000)],
    '200 single ports': singles(30_000, 200),
    'one port': singles(30_000, 1),
  };
  await warmUp(endpoint, subjects);
  return run({
    title: 'ports: publish on an endpoint that is there, and take it back',
    part: 'publish',
    units,
    subjects: Object.entries(subjects).map(([name, ports]) => tsnetSubject(name, endpoint, ports)),
    rounds: 24,
    comparisons: [],
    limits: [
      { metric: 'publish ms', of: 'range of 10 000', atMost: 10 },
      { metric: 'publish ms', of: '200 single ports', atMost: 10 },
    ],
  });
}

async function besideMany(run: Run, own: { readonly alone: Own; readonly beside: Own }): Promise<boolean> {
  const [none, many] = ['with none', `with ${publishedMany}`];
  const one = singles(8000, 1);
  for (const endpoint of [own.alone, own.beside]) await warmUp(endpoint, { one, some: singles(8000, 200) });
  return run({
    title: `ports: one port, with none and with ${publishedMany} others published on the host`,
    part: 'beside-many',
    units,
    subjects: [tsnetSubject(none, own.alone, one), tsnetSubject(many, own.beside, one)],
    // Many short rounds: what drifts is the same for both.
    rounds: 60,
    comparisons: (['publish ms', 'unpublish ms'] as const).map((metric) => ({
      metric,
      of: many,
      to: none,
      atMost: 1.3,
    })),
  });
}

async function besideOthers(
  run: Run,
  { lab, docker, endpoint }: { readonly lab: Lab; readonly docker: Dockerd; readonly endpoint: Own },
): Promise<boolean> {
  const ports = singles(30_000, 200);
  return run({
    title:
      'ports: 200 single ports by tsnet, by the CNI plugin portmap, and by Docker (start with ports less start without)',
    part: 'beside-others',
    units,
    subjects: [tsnetSubject('tsnet', endpoint, ports), await portmapSubject(lab, ports), dockerSubject(docker, ports)],
    rounds: roundsOf(3),
    warmups: 1,
    comparisons: [
      { metric: 'publish ms', of: 'tsnet', to: 'portmap', atMost: 1 / 50 },
      { metric: 'publish ms', of: 'tsnet', to: 'docker', atMost: 1 / 50 },
      { metric: 'unpublish ms', of: 'tsnet', to: 'portmap' },
      { metric: 'unpublish ms', of: 'tsnet', to: 'docker' },
    ],
  });
}

async function portmapSubject(lab: Lab, ports: readonly PortRequest[]): Promise<Subject> {
  const [host, container] = [await lab.sandbox('portmap'), await lab.sandbox()];
  const netns = container.target.replace(/^netns:/, '');
  const config = JSON.stringify({
    cniVersion: '1.0.0',
    name: 'bench',
    type: 'portmap',
    runtimeConfig: {
      portMappings: ports.map(({ hostPort, port }) => ({ hostPort, containerPort: port, protocol: 'tcp' })),
    },
    prevResult: {
      cniVersion: '1.0.0',
      interfaces: [{ name: 'eth0', sandbox: netns }],
      ips: [{ address: '10.80.0.9/16', interface: 0 }],
    },
  });
  const call = (verb: string, id: string): Promise<unknown> => {
    const env = {
      CNI_COMMAND: verb,
      CNI_CONTAINERID: id,
      CNI_NETNS: netns,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/usr/lib/cni',
    };
    const [program = '', ...args] = [...host.enter, '/usr/lib/cni/portmap'];
    return mustRun(program, args, { input: config, env });
  };
  return {
    name: 'portmap',
    round: async (): Promise<Samples> => {
      const id = randomUUID();
      const publishMs = await timed(() => call('ADD', id));
      return { 'publish ms': [publishMs], 'unpublish ms': [await timed(() => call('DEL', id))] };
    },
  };
}

function dockerSubject(docker: Dockerd, ports: readonly PortRequest[]): Subject {
  const flags = ports.flatMap(({ hostPort, port }) => ['-p', `${hostPort}:${port}`]);
  let made = 0;
  const once = async (options: readonly string[]): Promise<[number, number]> => {
    made += 1;
    const name = `bench${made}`;
    await docker.run('create', '--name', name, ...options, 'busybox', 'sleep', '1000000');
    const startMs = await timed(() => docker.run('start', name));
    const endMs = await timed(() => docker.run('rm', '-f', name));
    return [startMs, endMs];
  };
  return {
    name: 'docker',
    round: async (): Promise<Samples> => {
      const [plainStartMs, plainEndMs] = await once([]);
      const [startMs, endMs] = await once(flags);
      return { 'publish ms': [startMs - plainStartMs], 'unpublish ms': [endMs - plainEndMs] };
    },
  };
}

/** Of each host: a server behind a published port; on the second with many others beside it, on the third Docker's. */
async function connections(run: Run, lab: Lab, docker: Dockerd): Promise<boolean> {
  await buildServer();
  const [one, other] = [await another(lab, 1), await another(lab, 2)];
  for (const endpoint of [one, other]) await publish(endpoint, [{ hostPort: ownPort, port: 80 }]);
  const web = await docker.container('web', ['-p', `${dockerPort}:80`], ['sleep', '1000000']);
  const servers = await Promise.all([one.sandbox, other.sandbox, web].map((sandbox) => serveIn(sandbox, 80, 'web')));
  const subject = (name: string, number: number, port: number): Subject => {
    const rate = (from: string, address: string): Promise<number> =>
      connectFrom(enterArgs(netnsPath(`${lab.prefix}${from}`)), { address, port, forMs: connectingMs });
    return {
      name,
      round: async (): Promise<Samples> => ({
        'from outside': [await rate('lan', underlayAddress(10 + number))],
        'by 127.0.0.1': [await rate(`h${number}`, '127.0.0.1')],
      }),
    };
  };
  const [none, many] = ['with none', `with ${publishedBeside}`];
  try {
    return await run({
      title: `ports: TCP connections a second through a published port, with none and with ${publishedBeside} others, and Docker's`,
      part: 'connections',
      units: { 'from outside': '/s', 'by 127.0.0.1': '/s' },
      subjects: [subject(none, 1, ownPort), subject(many, 2, ownPort), subject('docker', 3, dockerPort)],
      rounds: roundsOf(60),
      warmups: 3,
      comparisons: [
        { metric: 'from outside', of: many, to: none, atLeast: 0.97 },
        { metric: 'by 127.0.0.1', of: many, to: none },
        { metric: 'from outside', of: none, to: 'docker' },
        { metric: 'by 127.0.0.1', of: none, to: 'docker' },
      ],
    });
  } finally {
    await Promise.all(servers.map((server) => server.end()));
  }
}
