import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import type { Test } from 'tap';
import { pino } from 'pino';
import { Reconciler, type ReconcilerOptions } from '../../agent/reconcile/reconciler.js';
import type { DriverContext } from '../../core/desired/driver.js';
import type { Carrier, Endpoint, Network } from '../../core/model.js';
import { macForBridge } from '../../core/mac.js';
import { RTM_GETADDR, RTM_GETLINK, RTM_GETNEIGH, RTM_GETROUTE } from '../../lib/netlink/constants.js';
import type { NativeApi } from '../../native/api.js';
import { loadNative } from '../../native/index.js';

/** A fresh namespace with `ip` and `bridge` at hand. */
export interface Netns {
  readonly name: string;
  readonly path: string;
  ip(...args: string[]): string;
  ipJson(...args: string[]): Record<string, unknown>[];
  bridge(...args: string[]): string;
  bridgeJson(...args: string[]): Record<string, unknown>[];
  /** Runs a program inside. */
  exec(file: string, ...args: string[]): string;
}

function run(file: string, args: readonly string[]): string {
  return execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function parse(text: string): Record<string, unknown>[] {
  const entries = JSON.parse(text.trim() === '' ? '[]' : text) as Record<string, unknown>[];
  return entries.filter((entry) => Object.keys(entry).length > 0);
}

/** Makes a namespace that is gone after the test, also when it fails; that is checked. */
export async function newNetns(t: Test, label: string): Promise<Netns> {
  const native = loadNative();
  const name = `tsr-${label}-${randomBytes(3).toString('hex')}`;
  const path = `/run/netns/${name}`;
  await native.netnsCreate(path);
  t.teardown(async () => {
    await native.netnsDelete(path);
    if (existsSync(path)) throw new Error(`${path} is still there`);
  });
  const netns: Netns = {
    name,
    path,
    ip: (...args) => run('ip', ['-n', name, ...args]),
    ipJson: (...args) => parse(run('ip', ['-n', name, '-j', '-d', ...args])),
    bridge: (...args) => run('bridge', ['-n', name, ...args]),
    bridgeJson: (...args) => parse(run('bridge', ['-n', name, '-j', '-d', ...args])),
    exec: (file, ...args) => run('ip', ['netns', 'exec', name, file, ...args]),
  };
  netns.ip('link', 'set', 'lo', 'up');
  return netns;
}

/** A log that keeps its lines. */
export function newTestLog(): { readonly log: ReconcilerOptions['log']; readonly lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>);
  return { log: pino({ level: 'debug' }, { write }), lines };
}

/** Starts a reconciler in a namespace; it is closed with the test. */
export async function startReconciler(
  t: Test,
  netns: Netns,
  options: Partial<ReconcilerOptions> = {},
): Promise<Reconciler> {
  const { log } = newTestLog();
  const reconciler = await Reconciler.start({
    native: loadNative(),
    log,
    auditMs: 0,
    netns: { path: netns.path },
    ...options,
  });
  t.teardown(() => reconciler.close());
  return reconciler;
}

const queries = new Set([RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH]);
const nlmsgMinType = 16;

/** The addon, with every request that changes something counted by its message type. */
export function countingNative(): {
  readonly native: NativeApi;
  readonly sent: number[];
  /** The types of each datagram that changes something. */
  readonly datagrams: number[][];
  readonly sends: () => number;
} {
  const native = loadNative();
  const sent: number[] = [];
  const datagrams: number[][] = [];
  const count = (datagram: Uint8Array): void => {
    const view = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.byteLength);
    const types: number[] = [];
    for (let at = 0; at + 16 <= view.length; at += (view.readUInt32LE(at) + 3) & ~3) {
      const type = view.readUInt16LE(at + 4);
      if (type < nlmsgMinType || queries.has(type)) continue;
      types.push(type);
    }
    sent.push(...types);
    if (types.length > 0) datagrams.push(types);
  };
  const counting: NativeApi = {
    ...native,
    async netlinkOpen(options) {
      const socket = await native.netlinkOpen(options);
      return {
        get portid() {
          return socket.portid;
        },
        get closed() {
          return socket.closed;
        },
        send(datagram) {
          count(datagram);
          return socket.send(datagram);
        },
        sendSync(datagram) {
          count(datagram);
          socket.sendSync(datagram);
        },
        pause: () => socket.pause(),
        resume: () => socket.resume(),
        close: () => socket.close(),
      };
    },
  };
  return { native: counting, sent, datagrams, sends: () => datagrams.length };
}

export const testNetwork: Network = {
  v: 1,
  generation: 1,
  id: '0a1b2c3d',
  name: 'frontend',
  driver: 'overlay',
  subnets: [
    { subnet: '10.64.0.0/20', gateway: '10.64.0.1' },
    { subnet: 'fd00:64::/64', gateway: 'fd00:64::1' },
  ],
  vni: 8388609,
  mtu: 1450,
  internal: false,
  labels: {},
  options: {},
  createdAt: '2026-01-01T00:00:00.000Z',
};

/** One host of two: `n` is 1 or 2. */
export function testContext(n: number, network: Network = testNetwork): DriverContext {
  return {
    network,
    self: { host: `h${n}`, vtep: `198.18.0.${n}`, addresses: [`10.64.${n}.1`, `fd00:64::${n}:1`] },
    vxlanPort: 4790,
  };
}

export function testCarrier(n: number): Carrier {
  const { self, network } = testContext(n);
  const mac = macForBridge(network.id, self.host);
  return { v: 1, generation: 1, network: network.id, host: self.host, vtep: self.vtep, addresses: self.addresses, mac };
}

/** The endpoint that is alone on host `n`, unless told another number. */
export function testEndpoint(n: number, index = 5): Endpoint {
  return {
    v: 1,
    generation: 1,
    id: `${n}${index.toString(16).padStart(9, '0')}`.padEnd(16, '0'),
    network: testNetwork.id,
    host: `h${n}`,
    addresses: [`10.64.${n}.${index}`, `fd00:64::${n}:${index.toString(16)}`],
    mac: `02:00:0a:40:0${n}:${index.toString(16).padStart(2, '0')}`,
    ifname: 'eth0',
    name: null,
    aliases: [],
    labels: {},
    state: 'attached',
    callerId: `c${n}-${index}`,
    sandbox: null,
    createdAt: '2026-01-01T00:00:00.000Z',
  };
}
