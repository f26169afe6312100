import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NetworkView } from '../../core/api/network.js';
import type { PolicyView } from '../../core/api/policy.js';
import type { ServiceView } from '../../core/api/service.js';
import { LabController } from './controller.js';
import { Daemon } from './daemon.js';
import { LabHost } from './host.js';
import { enterArgs, ipBatch, netnsAdd, netnsPath } from './netns.js';
import { pidStamp, type PidStamp } from './pid.js';
import { runProgram, type ProgramResult } from './program.js';
import { listRemains, putRegistration, removeLab, type Registration } from './registration.js';
import type { Sandbox } from './sandbox.js';
import { newMachine, newUnderlay, underlayAddress, underlayAddress6 } from './underlay.js';
import { waitFor } from './wait.js';

export interface LabOptions {
  /** Default 2. */
  readonly hosts?: number;
  /** Default 1. Several need an etcd of their own. */
  readonly controllers?: number;
  /** Default: embedded, the controller's child. On the wire: other machines could reach it. */
  readonly etcd?: 'embedded' | 'separate' | 'on-the-wire';
  /** Family of the addresses that carry VXLAN; default 4. */
  readonly underlay?: 4 | 6;
  /** MTU of the wire; default 1500. */
  readonly mtu?: number;
  /** What follows `tsnet controller` and `tsnet agent`. */
  readonly controllerArgs?: readonly string[];
  readonly agentArgs?: readonly string[];
  /** Outlives this process, for people to look at. */
  readonly keep?: boolean;
  /** Hears what is being made. */
  readonly onStep?: (text: string) => void;
}

const tsnetPath = fileURLToPath(new URL('../../../bin/tsnet', import.meta.url));
const controllerNumber = 2;
const firstHostNumber = 11;

/**
 * A cluster on one machine: hosts are network namespaces on a wire of their own, with real agents, real
 * controllers and a real etcd in them.
 */
export class Lab {
  readonly options: LabOptions;
  readonly prefix = `tl${randomBytes(2).toString('hex')}-`;
  readonly folder = mkdtempSync(join(tmpdir(), 'tsnet-lab-'));
  readonly hosts: LabHost[] = [];
  readonly controllers: LabController[] = [];
  etcd: Daemon | undefined;
  readonly #pids: PidStamp[] = [];
  #sandboxes = 0;
  readonly #running = new Set<Promise<unknown>>();
  #closing = false;
  #kept = false;
  #lan = '';

  constructor(options: LabOptions = {}) {
    this.options = options;
    mkdirSync(join(this.folder, 'logs'));
    this.#register();
  }

  /** Brings everything up, in order. */
  async start(): Promise<void> {
    const { hosts = 2, controllers = 1, etcd = controllers > 1 ? 'separate' : 'embedded', mtu = 1500 } = this.options;
    this.#step('the wire');
    this.#lan = await newUnderlay(this.prefix);
    const machine = { prefix: this.prefix, mtu };
    await this.#guarded(() => newMachine({ ...machine, name: 'ctl', number: controllerNumber }));
    if (etcd !== 'embedded') await this.startEtcd();
    for (let number = 1; number <= controllers; number += 1) {
      this.#step(etcd === 'embedded' ? 'a controller with its etcd' : `controller ${number}`);
      await this.#startController(number, etcd !== 'embedded');
    }
    for (let number = 1; number <= hosts; number += 1) {
      const name = `h${number}`;
      await this.#guarded(() => newMachine({ ...machine, name, number: firstHostNumber + number - 1 }));
      this.hosts.push(this.#newHost(name, number));
    }
    this.#step(`${hosts} hosts with an agent each`);
    await Promise.all(this.hosts.map((host) => host.startAgent()));
  }

  /** A host by its number, from 1. */
  host(number: number): LabHost {
    const host = this.hosts[number - 1];
    if (host === undefined) throw new Error(`the lab has no host ${number}`);
    return host;
  }

  controller(number = 1): LabController {
    const controller = this.controllers[number - 1];
    if (controller === undefined) throw new Error(`the lab has no controller ${number}`);
    return controller;
  }

  /** A bound namespace that stands for a container. */
  async sandbox(name = `s${(this.#sandboxes += 1)}`): Promise<Sandbox> {
    const netns = `${this.prefix}${name}`;
    await this.#guarded(() => netnsAdd(netns));
    return { name, target: `netns:${netnsPath(netns)}`, enter: enterArgs(netnsPath(netns)) };
  }

  /** A process in a namespace that only it holds: with the process the namespace goes. */
  async process(name = `p${(this.#sandboxes += 1)}`): Promise<Sandbox & { readonly daemon: Daemon }> {
    const daemon = this.startDaemon({
      name,
      logPath: this.logPath(name),
      argv: ['unshare', '--net', 'busybox', 'sleep', '1000000'],
      env: {},
    });
    const path = `/proc/${daemon.pid}/ns/net`;
    await waitFor(
      `${name} to be in its namespace`,
      () => readFileSync(`/proc/${daemon.pid}/comm`, 'utf8').trim() === 'busybox',
    );
    const enter = enterArgs(path);
    await this.#guarded(() => runProgram('nsenter', [`--net=${path}`, 'ip', 'link', 'set', 'lo', 'up']));
    return { name, target: `pid:${daemon.pid}`, enter, daemon };
  }

  /** Runs the CLI where the controllers are, as admin. */
  admin(...args: string[]): Promise<ProgramResult> {
    const [program = '', ...rest] = [...enterArgs(netnsPath(`${this.prefix}ctl`)), tsnetPath, ...args];
    return runProgram(program, rest, {
      env: { TSNET_CONTROLLER: `http://127.0.0.1:${this.controller().options.port}` },
    });
  }

  /** Runs `ip` commands on the router of the wire. */
  router(...lines: string[]): Promise<void> {
    return ipBatch(this.#lan, lines);
  }

  /** Takes away all endpoints, services, policies and networks, and waits until no host has anything of them. */
  async clear(): Promise<void> {
    for (const host of this.hosts) await host.detachAll();
    const { api } = this.host(1);
    for (const { name } of await api.call<readonly PolicyView[]>('GET', '/v1/policies'))
      await api.call('DELETE', `/v1/policies/${name}`);
    for (const { name, network } of await api.call<readonly ServiceView[]>('GET', '/v1/services'))
      await api.call('DELETE', `/v1/services/${name}.${network}`);
    for (const { name } of await api.call<readonly NetworkView[]>('GET', '/v1/networks'))
      await waitFor(`network ${name} to be free`, () => api.call('DELETE', `/v1/networks/${name}`).then(() => true));
    for (const host of this.hosts)
      await waitFor(`${host.name} to be as it was`, async () => {
        if ((await host.status()).reconcile.objects > 0) return false;
        const [links, tables] = [await host.exec('ip', '-br', 'link'), await host.exec('nft', 'list', 'tables')];
        return !/\bts[bvx]-/.test(links.stdout) && !tables.stdout.includes('tsnet');
      });
  }

  logPath(name: string): string {
    return join(this.folder, 'logs', `${name.replaceAll(' ', '-')}.log`);
  }

  /** Starts (again) the etcd that stands by itself, with its old data. */
  async startEtcd(): Promise<void> {
    this.#step('etcd');
    const address = this.options.etcd === 'on-the-wire' ? underlayAddress(controllerNumber) : '127.0.0.1';
    const client = `http://${address}:2379`;
    const peer = `http://${address}:2380`;
    const netns = enterArgs(netnsPath(`${this.prefix}ctl`));
    const clients = [...new Set([client, 'http://127.0.0.1:2379'])].join(',');
    const places = ['--listen-client-urls', clients, '--advertise-client-urls', client];
    const peers = [
      '--listen-peer-urls',
      peer,
      '--initial-advertise-peer-urls',
      peer,
      '--initial-cluster',
      `default=${peer}`,
    ];
    this.etcd = this.startDaemon({
      name: 'etcd',
      logPath: this.logPath('etcd'),
      argv: [
        ...netns,
        'etcd',
        '--data-dir',
        join(this.folder, 'etcd'),
        ...places,
        ...peers,
        // Alone, it elects itself after one to two of these.
        '--heartbeat-interval',
        '20',
        '--election-timeout',
        '100',
        '--logger',
        'zap',
        '--log-outputs',
        'stderr',
      ],
      env: {},
    });
    await waitFor('etcd to answer', async () => (await this.etcdctl('endpoint', 'health')).status === 0, 20_000);
  }

  etcdctl(...args: string[]): Promise<ProgramResult> {
    const [program = '', ...rest] = [
      ...enterArgs(netnsPath(`${this.prefix}ctl`)),
      'etcdctl',
      '--endpoints',
      'http://127.0.0.1:2379',
      ...args,
    ];
    return runProgram(program, rest, { env: { ETCDCTL_API: '3' } });
  }

  /** Starts a daemon that the lab will end. */
  readonly startDaemon = (options: {
    name: string;
    logPath: string;
    argv: readonly string[];
    env: Record<string, string>;
  }): Daemon => {
    if (this.#closing) throw new Error('the lab is being taken down');
    const daemon = new Daemon({ ...options, bound: this.options.keep !== true });
    this.#pids.push(daemon.stamp);
    this.#register();
    return daemon;
  };

  /** What there is to remove. */
  registration(): Registration {
    const owner = this.#kept ? null : (pidStamp(process.pid) ?? null);
    return { prefix: this.prefix, folder: this.folder, owner, pids: this.#pids };
  }

  /** Leaves it up: from now on only an explicit removal ends it. */
  keep(): void {
    this.#kept = true;
    this.#register();
  }

  /** Stops all daemons in reverse order; the exit statuses of ours by name. */
  async stop(): Promise<Map<string, number>> {
    const statuses = new Map<string, number>();
    const stopOne = async (daemon: Daemon): Promise<void> => {
      daemon.thaw();
      if (daemon.isRunning()) statuses.set(daemon.options.name, await daemon.stop());
    };
    await Promise.all(this.hosts.filter((host) => host.hasAgent()).map((host) => stopOne(host.agent)));
    await Promise.all(this.controllers.map((controller) => stopOne(controller.daemon)));
    // It ends by the signal that it was sent, which is no status of its own.
    await this.etcd?.stop();
    return statuses;
  }

  /** Removes everything; what remains nevertheless, in words. */
  async remove(): Promise<string[]> {
    this.#closing = true;
    await Promise.allSettled(this.#running);
    for (const part of [...this.hosts, ...this.controllers]) part.close();
    const registration = this.registration();
    await removeLab(registration);
    return listRemains(registration);
  }

  /** The last lines of every log. */
  logs(lines = 40): string {
    return readdirSync(join(this.folder, 'logs'))
      .map((name) => {
        const text = readFileSync(join(this.folder, 'logs', name), 'utf8').trimEnd();
        return `── ${name}\n${text.split('\n').slice(-lines).join('\n')}`;
      })
      .join('\n');
  }

  /** Things that make namespaces are waited for before the lab is removed, and not begun afterwards. */
  async #guarded<T>(make: () => Promise<T>): Promise<T> {
    if (this.#closing) throw new Error('the lab is being taken down');
    const running = make();
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  async #startController(number: number, separate: boolean): Promise<void> {
    const name = `controller ${number}`;
    const controller = new LabController({
      name,
      netns: `${this.prefix}ctl`,
      address: underlayAddress(controllerNumber),
      port: 7420 + number - 1,
      folder: join(this.folder, `controller-${number}`),
      logPath: this.logPath(name),
      tsnet: tsnetPath,
      args: [...(separate ? ['--etcd', 'http://127.0.0.1:2379'] : []), ...(this.options.controllerArgs ?? [])],
      startDaemon: this.startDaemon,
    });
    // All controllers accept the tokens that the first one made.
    for (const token of this.controllers.slice(0, 1).flatMap((first) => [first.hostToken, first.adminToken])) {
      copyFileSync(token, join(controller.dataDir, token.slice(token.lastIndexOf('/') + 1)));
    }
    this.controllers.push(controller);
    await controller.start();
  }

  #newHost(name: string, number: number): LabHost {
    return new LabHost({
      name,
      netns: `${this.prefix}${name}`,
      lan: this.#lan,
      address: underlayAddress(firstHostNumber + number - 1),
      folder: join(this.folder, name),
      logPath: this.logPath(`agent ${name}`),
      tsnet: tsnetPath,
      agentArgs: [
        '--controller',
        this.controllers.map(({ url }) => url).join(','),
        '--host-name',
        name,
        '--underlay',
        this.options.underlay === 6 ? underlayAddress6(firstHostNumber + number - 1) : 'eth0',
        '--token-file',
        this.controller().hostToken,
        ...(this.options.agentArgs ?? []),
      ],
      startDaemon: this.startDaemon,
    });
  }

  #step(text: string): void {
    this.options.onStep?.(text);
  }

  #register(): void {
    putRegistration(this.registration());
  }
}
