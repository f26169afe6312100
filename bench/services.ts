import { callServer } from '../cli/exchange.js';
import type { EndpointView } from '../core/api/endpoint.js';
import type { ServiceCreate, ServiceView } from '../core/api/service.js';
import { serviceTableName } from '../core/service/table.js';
import { watchNft } from '../lib/nft/monitor.js';
import { loadNative } from '../native/index.js';
import type { LabHost } from '../test/lab/host.js';
import type { Lab } from '../test/lab/lab.js';
import { netnsPath } from '../test/lab/netns.js';
import { mustExecIn, type Sandbox } from '../test/lab/sandbox.js';
import { ask, newBackend, ServiceProgram, type Backend, type Heard } from '../test/lab/service.js';
import { waitFor } from '../test/lab/wait.js';
import { inLab } from './bench-lab.js';
import type { Benchmark, Samples, Subject } from './harness.js';
import { buildServer, serveIn } from './serve.js';

type Run = (benchmark: Benchmark) => Promise<boolean>;

const many = 5000;
const localSandboxes = 500;
const creatingAtOnce = 4;
/** Short rounds, and many: what else happens on the machine then meets both sides of a ratio. */
const attachesPerRound = 8;
const wrkSeconds = 1;
/** One request each 2 ms: 500 a second. */
const loadPeriodMs = 2;

/** Networks, each with one service that has backends on the host that it is measured on; `many` has others beside. */
const hostOf = { alone: 1, many: 2 } as const;
type NetworkName = keyof typeof hostOf;

interface Measured {
  readonly network: NetworkName;
  readonly host: LabHost;
  readonly backend: EndpointView;
  readonly server: { readonly end: () => Promise<void> };
  readonly service: ServiceView;
}

/**
 * Services: what an attach and a connection cost with one and with 5000 of them in the network, how long a change of a
 * backend takes to hold for 500 sandboxes, and whether a backend can be replaced without a failed request.
 */
export async function withServices(run: Run): Promise<boolean> {
  await buildServer();
  return inLab({ hosts: 3 }, async (lab) => {
    for (const host of lab.hosts)
      await host.exec('sysctl', '-qw', 'net.netfilter.nf_conntrack_tcp_timeout_time_wait=1');
    const [alone, beside] = [await newMeasured(lab, 'alone'), await newMeasured(lab, 'many')];
    const services = Array.from({ length: many - 1 }, (_, number) => ({ ...web('many'), name: `other-${number}` }));
    await createServices(beside.host, services);
    let kept = await run(attaching(lab, [alone, beside]));
    kept = (await run(connecting(lab, [alone, beside]))) && kept;
    await alone.server.end();
    await beside.server.end();
    kept = (await run(await replacing(lab))) && kept;
    return (await changing(lab, run)) && kept;
  });
}

const web = (network: string): ServiceCreate => ({
  name: 'web',
  network,
  ports: [{ port: 80, target: 8080 }],
  selector: { app: 'web' },
});

async function newMeasured(lab: Lab, network: NetworkName): Promise<Measured> {
  const number = hostOf[network];
  const host = lab.host(number);
  await host.create({ name: network, subnets: [{ subnet: `10.${64 + number}.0.0/16` }] });
  const sandbox = await lab.sandbox();
  const server = await serveIn(sandbox, 8080, 'web-1');
  const backend = await host.attach(network, sandbox, { name: 'web-1', labels: { app: 'web' } });
  const client = await lab.sandbox();
  await host.attach(network, client);
  const service = await create(host, web(network));
  await untilServed(client, service);
  await host.detach(network, client);
  return { network, host, backend, server, service };
}

function create(host: LabHost, body: ServiceCreate): Promise<ServiceView> {
  return host.api.call('POST', '/v1/services', { body });
}

/** They have no backends, as most of a host's known services have none of its own: their names and addresses are known all the same. */
async function createServices(host: LabHost, services: readonly ServiceCreate[]): Promise<void> {
  let next = 0;
  const work = async (): Promise<void> => {
    for (let body = services[next++]; body !== undefined; body = services[next++]) {
      await create(host, { ...body, selector: { app: body.name } });
      if (next % 100 === 0) process.stderr.write(`\r${next} services`);
    }
  };
  await Promise.all(Array.from({ length: creatingAtOnce }, work));
  process.stderr.write('\r\x1b[K');
  await waitFor(
    'the host to know them',
    async () => {
      const { stdout } = await host.exec('nft', 'list', 'set', 'inet', serviceTableName, 'vips4');
      return (stdout.match(/\d+\.\d+\.\d+\.\d+/g)?.length ?? 0) > services.length;
    },
    120_000,
  );
}

async function untilServed(client: Sandbox, { addresses }: ServiceView): Promise<void> {
  const address = addresses[0] ?? '';
  await waitFor('the service', async () => (await ask(client, { address, count: 1 })).failed === 0, 20_000);
}

async function timed(act: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await act();
  return performance.now() - startedMs;
}

const nameOf = ({ network }: Measured): string => (network === 'alone' ? 'with 1' : `with ${many}`);

function attaching(lab: Lab, measured: readonly [Measured, Measured]): Benchmark {
  const native = loadNative();
  let made = 0;
  const subject = (each: Measured): Subject => ({
    name: nameOf(each),
    round: async (): Promise<Samples> => {
      const paths = Array.from({ length: attachesPerRound }, () => netnsPath(`${lab.prefix}bench-${(made += 1)}`));
      for (const path of paths) await native.netnsCreate(path);
      const server = { base: each.host.api.base, unreachable: 'ERR_AGENT_UNREACHABLE' } as const;
      const call = (verb: string, path: string): Promise<unknown> => {
        const body = { network: each.network, target: `netns:${path}` };
        return callServer(server, { method: 'POST', path: `/v1/agent/${verb}` }, { body });
      };
      const attachMs: number[] = [];
      for (const path of paths) attachMs.push(await timed(() => call('attach', path)));
      for (const path of paths) await call('detach', path);
      for (const path of paths) await native.netnsDelete(path);
      return { 'attach ms': attachMs };
    },
  });
  const [one, other] = measured;
  return {
    title: `services: attach with 1 and with ${many} services in the network`,
    part: 'attach',
    units: { 'attach ms': 'ms' },
    subjects: measured.map(subject),
    rounds: 24,
    warmups: 3,
    comparisons: [{ metric: 'attach ms', of: nameOf(other), to: nameOf(one), atMost: 1.2 }],
  };
}

/** Connections a second as wrk opens them, one for each request. */
async function wrk(client: Sandbox, address: string, port: number): Promise<number> {
  const url = `http://${address}:${port}/`;
  const words = ['-t', '1', '-c', '16', '-d', `${wrkSeconds}s`, '-H', 'Connection: close', url];
  const output = await mustExecIn(client, 'wrk', ...words);
  const [, rate] = /Requests\/sec:\s+([\d.]+)/.exec(output) ?? [];
  if (rate === undefined || /Non-2xx|connect [1-9]|timeout [1-9]/.test(output))
    throw new Error(`wrk failed:\n${output}`);
  return Number(rate);
}

/** Each round has a client of its own: one that has used up its ports waits for them to rest. */
function connecting(lab: Lab, measured: readonly [Measured, Measured]): Benchmark {
  const subject = (name: string, { host, network }: Measured, address: string, port: number): Subject => ({
    name,
    round: async (): Promise<Samples> => {
      const client = await lab.sandbox();
      await host.attach(network, client);
      const rate = await wrk(client, address, port);
      await host.detach(network, client);
      return { connections: [rate] };
    },
  });
  const [one, other] = measured;
  const subjects = [
    ...measured.map((each) => subject(nameOf(each), each, each.service.addresses[0] ?? '', 80)),
    subject('endpoint itself', one, one.backend.addresses[0] ?? '', 8080),
  ];
  return {
    title: `services: connections a second by the address of a service, 1 and ${many} in the network, and by its backend's own`,
    part: 'connections',
    units: { connections: '/s' },
    subjects,
    rounds: 16,
    comparisons: [
      { metric: 'connections', of: nameOf(other), to: nameOf(one), atLeast: 0.95 },
      { metric: 'connections', of: nameOf(one), to: 'endpoint itself' },
    ],
  };
}

/** Each round takes the place of the backend by another one, under load, and counts what failed. */
async function replacing(lab: Lab): Promise<Benchmark> {
  const network = 'replaced';
  const host = lab.host(1);
  await host.create({ name: network, subnets: [{ subnet: '10.70.0.0/16' }] });
  const client = await lab.sandbox();
  await lab.host(2).attach(network, client);
  const service = await create(host, { ...web(network), health: { type: 'tcp' }, drainMs: 2000 });
  let made = 0;
  const next = async (): Promise<Backend> => {
    made += 1;
    const backend = await newBackend(lab, { host: 1, network, name: `web-${made}` });
    await waitFor('the new backend to be ready', async () => (await stateOf(host, backend)) === 'ready', 10_000);
    return backend;
  };
  let current = await next();
  await untilServed(client, service);
  const replace = async (): Promise<void> => {
    const fresh = await next();
    await host.api.call('PATCH', `/v1/services/web.${network}`, { body: { drain: [current.endpoint.id] } });
    // What was led to it before every host heard of this is let finish.
    await new Promise((resolve) => setTimeout(resolve, 500));
    await current.program.end();
    await host.detach(network, current.sandbox);
    current = fresh;
  };
  return {
    title: 'services: a backend replaced under 500 requests a second from another host',
    part: 'replace',
    units: { failed: 'requests', answered: 'requests' },
    subjects: [
      {
        name: 'tsnet',
        round: async (): Promise<Samples> => {
          const load = new ServiceProgram(client.enter, ['load', service.addresses[0] ?? '', 80, loadPeriodMs]);
          await load.line(0);
          await replace();
          const { failed, answers } = (await load.end()) as unknown as Heard;
          return { failed: [failed], answered: [Object.values(answers).reduce((sum, each) => sum + each, 0)] };
        },
      },
    ],
    rounds: 5,
    comparisons: [],
    limits: [{ metric: 'failed', of: 'tsnet', atMost: 0 }],
  };
}

async function stateOf(host: LabHost, { endpoint }: Backend): Promise<string | undefined> {
  const views = await host.api.call<ServiceView[]>('GET', '/v1/services');
  return views.flatMap(({ endpoints }) => endpoints).find((each) => each.endpoint === endpoint.id)?.state;
}

/** One table serves all sandboxes of a host: once it is changed, it is changed for each, which the end of a run checks. */
async function changing(lab: Lab, run: Run): Promise<boolean> {
  const network = 'crowd';
  const host = lab.host(3);
  await host.create({ name: network, subnets: [{ subnet: '10.71.0.0/16' }] });
  const [one, two] = [await backendOf(lab, network, 'web-1'), await backendOf(lab, network, 'web-2')];
  const sandboxes: Sandbox[] = [];
  for (let number = 0; number < localSandboxes; number += 1) {
    const sandbox = await lab.sandbox();
    await host.attach(network, sandbox);
    sandboxes.push(sandbox);
  }
  process.stderr.write('\r\x1b[K');
  const service = await create(host, web(network));
  for (const sandbox of sandboxes.slice(-1)) await untilServed(sandbox, service);
  const native = loadNative();
  let hear: () => void = () => undefined;
  const monitor = await watchNft(native, { netns: { path: netnsPath(host.netns) } }, (event) => {
    if (event.kind === 'generation') hear();
  });
  let isDraining = false;
  const change = async (): Promise<number> => {
    const startedMs = performance.now();
    const heard = new Promise<number>((resolve) => {
      hear = () => resolve(performance.now() - startedMs);
    });
    isDraining = !isDraining;
    const body = isDraining ? { drain: [one.endpoint.id] } : { undrain: [one.endpoint.id] };
    await host.api.call('PATCH', `/v1/services/web.${network}`, { body });
    return heard;
  };
  try {
    return await run({
      title: `services: one backend changes, from the request until it holds for ${localSandboxes} sandboxes of a host`,
      part: 'change',
      units: { 'change ms': 'ms' },
      subjects: [{ name: 'tsnet', round: async () => ({ 'change ms': [await change(), await change()] }) }],
      rounds: 20,
      warmups: 5,
      comparisons: [],
      limits: [{ metric: 'change ms', of: 'tsnet', atMost: 50 }],
    });
  } finally {
    monitor.close();
    await host.api.call('PATCH', `/v1/services/web.${network}`, { body: { drain: [one.endpoint.id] } });
    await checkCrowd(sandboxes, service);
    for (const { program } of [one, two]) await program.end();
  }
}

const backendOf = (lab: Lab, network: string, name: string): Promise<Backend & { endpoint: EndpointView }> =>
  newBackend(lab, { host: 3, network, name });

/** After the last change no sandbox may be led to the draining backend. */
async function checkCrowd(sandboxes: readonly Sandbox[], { addresses }: ServiceView): Promise<void> {
  for (const sandbox of sandboxes.filter((_, number) => number % 25 === 0)) {
    const { answers } = await ask(sandbox, { address: addresses[0] ?? '', count: 4 });
    if ('web-1' in answers) throw new Error(`${sandbox.name} was led to a draining backend`);
  }
}
