import type { Lab } from '../test/lab/lab.js';
import { netnsPath, enterArgs, ipBatch } from '../test/lab/netns.js';
import { mustRun } from '../test/lab/program.js';
import { listenIn, mustExecIn, reaches, type Sandbox } from '../test/lab/sandbox.js';
import { Traffic } from '../test/lab/traffic.js';
import { waitFor } from '../test/lab/wait.js';
import { inLab } from './bench-lab.js';
import type { Benchmark, Samples, Subject } from './harness.js';

const iperfPort = 5201;
const echoPort = 7000;
const perRoundSec = 2;

/** Where traffic goes from and to. */
interface Path {
  readonly from: Sandbox;
  readonly to: Sandbox;
  readonly address: string;
}

/**
 * Throughput and latency between sandboxes on two hosts: over tsnet, over a bridge and a VXLAN device on each host
 * put together by hand, and between the hosts themselves.
 */
export function withOverlay(run: (benchmark: Benchmark) => Promise<boolean>): Promise<boolean> {
  return inLab({ hosts: 2 }, async (lab) => {
    const paths = { tsnet: await tsnetPath(lab), 'by hand': await handmadePath(lab), underlay: underlayPath(lab) };
    const subjects: Subject[] = [];
    for (const [name, path] of Object.entries(paths)) {
      await reaches(path.from, path.address);
      await startServers(lab, name, path);
      subjects.push({ name, round: () => measure(path) });
    }
    return run({
      title: 'overlay: TCP throughput and request-response between sandboxes on two hosts',
      units: { 'Gbit/s': 'iperf3, one TCP stream', µs: 'UDP request and response, median of a round' },
      subjects,
      rounds: 12,
      comparisons: [
        { metric: 'Gbit/s', of: 'tsnet', to: 'by hand', atLeast: 0.97 },
        { metric: 'Gbit/s', of: 'tsnet', to: 'underlay' },
        { metric: 'µs', of: 'tsnet', to: 'by hand', atMost: 1.03 },
        { metric: 'µs', of: 'tsnet', to: 'underlay' },
      ],
    });
  });
}

async function tsnetPath(lab: Lab): Promise<Path> {
  const [from, to] = [await lab.sandbox(), await lab.sandbox()];
  await lab.host(1).create({ name: 'net' });
  await lab.host(1).attach('net', from);
  const { addresses } = await lab.host(2).attach('net', to);
  for (const host of lab.hosts) await host.published();
  return { from, to, address: addresses[0] ?? '' };
}

/** What a careful person would type: no learning, all entries static, as tsnet's own path has it. */
async function handmadePath(lab: Lab): Promise<Path> {
  const mtu = 1450;
  const ends = [];
  for (const [index, host] of lab.hosts.entries()) {
    const sandbox = await lab.sandbox();
    const peer = lab.hosts[1 - index];
    await ipBatch(host.netns, [
      `link add hand0 mtu ${mtu} type bridge`,
      `link add hand1 mtu ${mtu} type vxlan id 77 local ${host.options.address} dstport 4789 nolearning`,
      'link set hand1 master hand0 up',
      'link set hand0 up',
      `link add hand2 mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${lab.prefix}${sandbox.name}`,
      'link set hand2 master hand0 up',
    ]);
    const mac = `02:77:00:00:00:0${index + 1}`;
    const peerMac = `02:77:00:00:00:0${2 - index}`;
    await ipBatch(`${lab.prefix}${sandbox.name}`, [
      `link set eth0 address ${mac}`,
      `addr add 10.250.0.${index + 1}/24 dev eth0`,
      'link set eth0 up',
    ]);
    await host.exec('bridge', 'link', 'set', 'dev', 'hand1', 'learning', 'off', 'neigh_suppress', 'on');
    await host.exec('bridge', 'fdb', 'append', '00:00:00:00:00:00', 'dev', 'hand1', 'dst', peer?.options.address ?? '');
    await host.exec('bridge', 'fdb', 'replace', peerMac, 'dev', 'hand1', 'dst', peer?.options.address ?? '');
    await host.exec('bridge', 'fdb', 'replace', peerMac, 'dev', 'hand1', 'master', 'static');
    await host.exec('bridge', 'fdb', 'replace', mac, 'dev', 'hand2', 'master', 'static');
    ends.push(sandbox);
  }
  const [from, to] = ends;
  if (from === undefined || to === undefined) throw new Error('two hosts are needed');
  return { from, to, address: '10.250.0.2' };
}

function underlayPath(lab: Lab): Path {
  const machine = (number: number): Sandbox => {
    const { name, netns } = lab.host(number);
    return { name, target: '', enter: enterArgs(netnsPath(netns)) };
  };
  return { from: machine(1), to: machine(2), address: lab.host(2).options.address };
}

async function startServers(lab: Lab, name: string, { to }: Path): Promise<void> {
  const title = `iperf3 ${name}`;
  const argv = [...to.enter, 'iperf3', '--server', '--port', String(iperfPort)];
  lab.startDaemon({ name: title, logPath: lab.logPath(title), argv, env: {} });
  await listenIn(to, 'listen-udp', echoPort);
  const listening = ['ss', '-H', '-l', '-t', '-n', `sport = :${iperfPort}`];
  await waitFor(`${title} to listen`, async () => (await mustExecIn(to, ...listening)) !== '');
}

async function measure({ from, address }: Path): Promise<Samples> {
  const [program = '', ...enter] = from.enter;
  const client = ['iperf3', '--client', address, '--port', String(iperfPort), '--time', String(perRoundSec), '--json'];
  const report = JSON.parse(await mustRun(program, [...enter, ...client])) as {
    readonly end: { readonly sum_received: { readonly bits_per_second: number } };
  };
  const trips = new Traffic(from.enter, ['round-trips', address, echoPort, 1000]);
  const p50Us = Number(await trips.expect('p50Us'));
  await trips.end();
  return { 'Gbit/s': [report.end.sum_received.bits_per_second / 1e9], µs: [p50Us] };
}
