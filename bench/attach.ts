import { callServer } from '../cli/exchange.js';
import type { EndpointView } from '../core/api/endpoint.js';
import type { NetworkView } from '../core/api/network.js';
import { addrReplaceMessage } from '../lib/netlink/addr.js';
import { assertBatch } from '../lib/netlink/batch.js';
import { NetlinkConnection } from '../lib/netlink/connection.js';
import { NTF_MASTER } from '../lib/netlink/constants.js';
import { exchange } from '../lib/netlink/exchange.js';
import { fdbReplaceMessage } from '../lib/netlink/fdb.js';
import {
  bridgePortSetMessage,
  linkAddMessage,
  linkDeleteMessage,
  linkFromDump,
  linkGet,
  linkGetMessage,
  linkSetMessage,
} from '../lib/netlink/link.js';
import { neighReplaceMessage } from '../lib/netlink/neigh.js';
import { routeReplaceMessage } from '../lib/netlink/route.js';
import type { NativeApi } from '../native/api.js';
import { loadNative } from '../native/index.js';
import type { LabHost } from '../test/lab/host.js';
import type { Lab } from '../test/lab/lab.js';
import { netnsPath } from '../test/lab/netns.js';
import { mustRun } from '../test/lab/program.js';
import { inLab } from './bench-lab.js';
import type { Benchmark, Samples, Subject } from './harness.js';
import { KeptConnection } from './kept-connection.js';

const perRound = 20;
const mtu = 1450;
/** As tsnet makes them: each queue costs the kernel a folder in /sys. */
const oneQueue = { numTxQueues: 1, numRxQueues: 1 };
const queueWords = ['numtxqueues', '1', 'numrxqueues', '1'];

/** A sandbox's place, and the address and MAC it is to have. */
export interface Plan {
  readonly path: string;
  readonly address: string;
  readonly mac: string;
  /** The host's end of the veth. */
  readonly ifname: string;
}

/** How a subject makes one attachment and takes it back. */
export interface Attacher {
  attach(plan: Plan): Promise<void>;
  detach(plan: Plan): Promise<void>;
}

/**
 * Attach and detach through the agent's socket, against the kernel's own cost of the same objects (the same messages
 * in as few sends, no agent), and against `ip` and `bridge` commands doing the same.
 */
export function withAttach(run: (benchmark: Benchmark) => Promise<boolean>): Promise<boolean> {
  return inLab({ hosts: 1 }, async (lab) => {
    const native = loadNative();
    const network = await lab.host(1).create({ name: 'net', subnets: [{ subnet: '10.64.0.0/16' }] });
    // The first attachment makes the network's own links: it stays, so that none of the measured ones does.
    const first = await lab.host(1).attach('net', await lab.sandbox());
    const [netlinkHost, commandHost] = [await newHandmadeHost(lab, 'netlink'), await newHandmadeHost(lab, 'commands')];
    const connection = await NetlinkConnection.open(native, { netns: { path: netnsPath(netlinkHost) } });
    const kept = await KeptConnection.open(lab.host(1).api.base.slice('unix:'.length));
    try {
      const attachers = {
        tsnet: agentAttacher(lab.host(1), kept),
        'tsnet-connecting': agentAttacher(lab.host(1), null),
        netlink: await netlinkAttacher(native, connection),
        commands: commandAttacher(commandHost),
      };
      const subjects = Object.entries(attachers).map(([name, attacher]) => newSubject(lab, native, name, attacher));
      await checkSameObjects(lab, native, attachers, { network, first });
      return await run({
        title: 'attach: one sandbox joined to a network and taken off it, one after another',
        units: { 'attach ms': 'ms', 'detach ms': 'ms' },
        subjects,
        rounds: 12,
        warmups: 20,
        comparisons: [
          { metric: 'attach ms', of: 'tsnet', to: 'netlink', atMost: 2 },
          { metric: 'attach ms', of: 'tsnet-connecting', to: 'netlink' },
          { metric: 'attach ms', of: 'tsnet', to: 'commands' },
          { metric: 'detach ms', of: 'tsnet', to: 'netlink' },
          { metric: 'detach ms', of: 'tsnet', to: 'commands' },
        ],
      });
    } finally {
      kept.close();
      connection.close();
    }
  });
}

/** A host namespace with a bridge and a VXLAN device, apart from the agent's, which would hear of every change. */
export async function newHandmadeHost(lab: Lab, name: string): Promise<string> {
  await lab.sandbox(name);
  const netns = `${lab.prefix}${name}`;
  await mustRun('ip', ['-n', netns, 'link', 'add', 'br0', 'mtu', String(mtu), 'type', 'bridge']);
  const vxlan = ['type', 'vxlan', 'id', '77', 'dstport', '4789', 'nolearning'];
  await mustRun('ip', ['-n', netns, 'link', 'add', 'vx0', 'mtu', String(mtu), 'master', 'br0', 'up', ...vxlan]);
  await mustRun('ip', ['-n', netns, 'addr', 'add', '10.64.0.1/16', 'dev', 'br0']);
  await mustRun('ip', ['-n', netns, 'link', 'set', 'br0', 'up']);
  return netns;
}

function newSubject(lab: Lab, native: NativeApi, name: string, attacher: Attacher): Subject {
  let made = 0;
  return {
    name,
    round: async (): Promise<Samples> => {
      const attachMs: number[] = [];
      const detachMs: number[] = [];
      const plans: Plan[] = [];
      for (let number = 0; number < perRound; number += 1) {
        made += 1;
        const plan = newPlan(lab, name, made);
        await native.netnsCreate(plan.path);
        plans.push(plan);
      }
      for (const plan of plans) attachMs.push(await timed(() => attacher.attach(plan)));
      for (const plan of plans) detachMs.push(await timed(() => attacher.detach(plan)));
      for (const plan of plans) await native.netnsDelete(plan.path);
      return { 'attach ms': attachMs, 'detach ms': detachMs };
    },
  };
}

export function newPlan(lab: Lab, subject: string, number: number): Plan {
  const [high, low] = [128 + (number >> 8), number & 0xff];
  const hex = (byte: number): string => byte.toString(16).padStart(2, '0');
  return {
    path: netnsPath(`${lab.prefix}${subject}-${number}`),
    address: `10.64.${high}.${low}`,
    mac: `02:00:0a:40:${hex(high)}:${hex(low)}`,
    ifname: `bench${number}`,
  };
}

async function timed(act: () => Promise<void>): Promise<number> {
  const startedMs = performance.now();
  await act();
  return performance.now() - startedMs;
}

/** On a connection that is kept, or, as the CLI and a runtime's plugin call, on one of its own for each. */
function agentAttacher(host: LabHost, kept: KeptConnection | null): Attacher {
  const server = { base: host.api.base, unreachable: 'ERR_AGENT_UNREACHABLE' } as const;
  const post = (verb: string, plan: Plan): Promise<unknown> => {
    const [path, body] = [`/v1/agent/${verb}`, { network: 'net', target: `netns:${plan.path}` }];
    return kept === null ? callServer(server, { method: 'POST', path }, { body }) : kept.post(path, body);
  };
  return {
    attach: async (plan) => {
      await post('attach', plan);
    },
    detach: async (plan) => {
      await post('detach', plan);
    },
  };
}

/** The same messages as an attach needs, in as few sends: what the kernel itself takes. */
export async function netlinkAttacher(native: NativeApi, connection: NetlinkConnection): Promise<Attacher> {
  const bridge = (await linkGet(connection, 'br0')).ifindex;
  return {
    attach: async ({ path, address, mac, ifname }) => {
      const netns = await native.netnsOpen({ path });
      try {
        const peer = { ifname: 'eth0', address: mac, mtu, netnsFd: netns.fd, ...oneQueue };
        let made: { readonly ifindex: number; readonly sandboxIfindex: number } | undefined;
        const create = [
          linkAddMessage({ ifname, kind: 'veth', mtu, master: bridge, up: true, veth: { peer }, ...oneQueue }),
          linkSetMessage(ifname, { alias: 'bench' }),
          linkGetMessage(ifname),
        ];
        await connection.requestAll(create, {
          onReply: (_index, _header, reader) => {
            const link = linkFromDump(reader);
            made = { ifindex: link.ifindex, sandboxIfindex: link.link ?? 0 };
          },
        });
        if (made === undefined) throw new Error('the kernel did not describe the link');
        const { ifindex, sandboxIfindex } = made;
        const configure = [
          linkSetMessage('lo', { up: true }),
          addrReplaceMessage({ ifindex: sandboxIfindex, address: `${address}/16` }),
          linkSetMessage(sandboxIfindex, { alias: 'bench', up: true }),
          routeReplaceMessage({ dst: '0.0.0.0/0', gateway: '10.64.0.1', ifindex: sandboxIfindex }),
        ];
        assertBatch(await exchange(native, { fd: netns.fd }, configure));
        await connection.requestAll([
          bridgePortSetMessage(ifindex, { learning: false, neighSuppress: true }),
          fdbReplaceMessage({ ifindex, lladdr: mac, flags: NTF_MASTER }),
          neighReplaceMessage({ ifindex: bridge, dst: address, lladdr: mac }),
        ]);
      } finally {
        netns.close();
      }
    },
    detach: async ({ ifname }) => {
      await connection.requestAll([linkDeleteMessage(ifname)]);
    },
  };
}

/** One command after another, as a script has it. */
function commandAttacher(host: string): Attacher {
  const ip = (...args: string[]): Promise<string> => mustRun('ip', ['-n', host, ...args]);
  const bridge = (...args: string[]): Promise<string> => mustRun('bridge', ['-n', host, ...args]);
  return {
    attach: async ({ path, address, mac, ifname }) => {
      const sandbox = path.slice(path.lastIndexOf('/') + 1);
      const inside = (...args: string[]): Promise<string> => mustRun('ip', ['-n', sandbox, ...args]);
      const peer = ['peer', 'name', 'eth0', 'address', mac, 'mtu', String(mtu), ...queueWords, 'netns', sandbox];
      await ip(
        'link',
        'add',
        ifname,
        'mtu',
        String(mtu),
        'master',
        'br0',
        'up',
        ...queueWords,
        'type',
        'veth',
        ...peer,
      );
      await ip('link', 'set', ifname, 'alias', 'bench');
      await inside('link', 'set', 'lo', 'up');
      await inside('addr', 'add', `${address}/16`, 'dev', 'eth0');
      await inside('link', 'set', 'eth0', 'alias', 'bench', 'up');
      await inside('route', 'add', 'default', 'via', '10.64.0.1');
      await bridge('link', 'set', 'dev', ifname, 'learning', 'off', 'neigh_suppress', 'on');
      await bridge('fdb', 'replace', mac, 'dev', ifname, 'master', 'static');
      await ip('neigh', 'replace', address, 'lladdr', mac, 'dev', 'br0', 'nud', 'permanent');
    },
    detach: async ({ ifname }) => {
      await ip('link', 'delete', ifname);
    },
  };
}

/** Refuses to compare what is not alike: each sandbox has to end up with the same kinds of links, addresses and routes. */
async function checkSameObjects(
  lab: Lab,
  native: NativeApi,
  attachers: Readonly<Record<string, Attacher>>,
  { network, first }: { readonly network: NetworkView; readonly first: EndpointView },
): Promise<void> {
  const shapes = new Map<string, string>();
  for (const [name, attacher] of Object.entries(attachers)) {
    const plan = newPlan(lab, `check-${name}`, 1);
    await native.netnsCreate(plan.path);
    await attacher.attach(plan);
    const sandbox = plan.path.slice(plan.path.lastIndexOf('/') + 1);
    const [links, routes] = [
      await mustRun('ip', ['-n', sandbox, '-br', 'link']),
      await mustRun('ip', ['-n', sandbox, 'route']),
    ];
    // The flag, not the operational state: that one follows by itself up to a second later.
    const words = [...links.matchAll(/^(\w+).*<(.*)>/gm)].map(
      ([, link = '', flags = '']) => `${link} ${flags.split(',').includes('UP') ? 'up' : 'down'}`,
    );
    shapes.set(name, [...words, `${routes.trim().split('\n').length} routes`].join(', '));
    await attacher.detach(plan);
    await native.netnsDelete(plan.path);
  }
  if (new Set(shapes.values()).size > 1) {
    const told = [...shapes].map(([name, shape]) => `${name}: ${shape}`).join('\n');
    throw new Error(`the subjects do not make the same objects on ${network.name} (beside ${first.id}):\n${told}`);
  }
}
