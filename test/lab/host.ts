import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { AttachRequest, DetachResult } from '../../core/api/attach.js';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { NetworkCreate, NetworkView } from '../../core/api/network.js';
import type { AgentStatus } from '../../core/api/status.js';
import { HttpClient } from '../../lib/http/client.js';
import { type Daemon } from './daemon.js';
import { enterArgs, ipBatch, netnsPath } from './netns.js';
import type { Sandbox } from './sandbox.js';
import { ProgramError, runProgram, type ProgramResult } from './program.js';
import { takeSnapshot, type NetnsSnapshot } from './snapshot.js';
import { Hopeless, waitFor } from './wait.js';

export interface LabHostOptions {
  readonly name: string;
  readonly netns: string;
  readonly lan: string;
  /** Underlay address. */
  readonly address: string;
  /** Holds data and run directory. */
  readonly folder: string;
  readonly logPath: string;
  readonly tsnet: string;
  /** What follows `tsnet agent`. */
  readonly agentArgs: readonly string[];
  readonly startDaemon: (options: {
    name: string;
    logPath: string;
    argv: readonly string[];
    env: Record<string, string>;
  }) => Daemon;
}

export interface AgentStart {
  /** Another executable than the host's. */
  readonly tsnet?: string;
  /** Failpoints and the like. */
  readonly env?: Readonly<Record<string, string>>;
  /** What to wait for: that it answers (default), that a controller has it as well, or nothing. */
  readonly until?: 'answering' | 'connected' | 'spawned';
}

/** A host of the lab: a namespace with an agent in it. */
export class LabHost {
  readonly options: LabHostOptions;
  readonly api: HttpClient;
  #agent: Daemon | undefined;

  constructor(options: LabHostOptions) {
    this.options = options;
    mkdirSync(this.dataDir, { recursive: true });
    mkdirSync(this.runDir, { recursive: true });
    this.api = new HttpClient({ base: `unix:${this.socket}`, unreachable: 'ERR_AGENT_UNREACHABLE', timeoutMs: 30_000 });
  }

  get name(): string {
    return this.options.name;
  }

  get netns(): string {
    return this.options.netns;
  }

  get dataDir(): string {
    return join(this.options.folder, 'data');
  }

  get runDir(): string {
    return join(this.options.folder, 'run');
  }

  get socket(): string {
    return join(this.runDir, 'agent.sock');
  }

  /** The running agent. */
  get agent(): Daemon {
    if (this.#agent === undefined) throw new Error(`${this.name} has no agent`);
    return this.#agent;
  }

  hasAgent(): boolean {
    return this.#agent !== undefined;
  }

  async startAgent(start: AgentStart = {}): Promise<Daemon> {
    const { tsnet, agentArgs, logPath, startDaemon } = this.options;
    this.#agent = startDaemon({
      name: `agent ${this.name}`,
      logPath,
      argv: [
        ...enterArgs(netnsPath(this.netns)),
        start.tsnet ?? tsnet,
        'agent',
        ...agentArgs,
        '--data-dir',
        this.dataDir,
        '--run-dir',
        this.runDir,
      ],
      env: { ...start.env },
    });
    const until = start.until ?? 'connected';
    if (until !== 'spawned') {
      await this.waitForAgent(
        `the agent of ${this.name} to be ${until}`,
        (status) => until === 'answering' || status.controller !== null,
      );
    }
    return this.#agent;
  }

  /** Waits for something in the agent's status. */
  async waitForAgent(
    what: string,
    condition: (status: AgentStatus) => boolean,
    deadlineMs = 30_000,
  ): Promise<AgentStatus> {
    return waitFor(
      what,
      async () => {
        if (this.#agent?.status !== undefined) throw new Hopeless(`the agent ended with ${this.#agent.status}`);
        const status = await this.status();
        return condition(status) ? status : null;
      },
      deadlineMs,
    );
  }

  status(): Promise<AgentStatus> {
    return this.api.call('GET', '/v1/agent/status', { timeoutMs: 2000 });
  }

  /** Waits until every record of this host has reached the controllers. */
  async published(deadlineMs = 30_000): Promise<void> {
    await this.waitForAgent(
      `${this.name} to have published everything`,
      ({ unpublished }) => unpublished === 0,
      deadlineMs,
    );
  }

  /** Makes a network, through the agent as the CLI does. */
  create(network: NetworkCreate): Promise<NetworkView> {
    return this.api.call('POST', '/v1/networks', { body: network });
  }

  /** Attaches a sandbox of this host, through the agent's socket. */
  attach(
    network: string,
    sandbox: Sandbox,
    more: Omit<AttachRequest, 'network' | 'target'> = {},
  ): Promise<EndpointView> {
    return this.api.call('POST', '/v1/agent/attach', { body: { network, target: sandbox.target, ...more } });
  }

  detach(network: string, sandbox: Sandbox): Promise<DetachResult> {
    return this.api.call('POST', '/v1/agent/detach', { body: { network, target: sandbox.target } });
  }

  /** Takes all endpoints away, and waits until the cluster knows. */
  async detachAll(): Promise<void> {
    const own = (): Promise<readonly EndpointView[]> => this.api.call('GET', '/v1/agent/endpoints');
    for (const { network, callerId } of await own())
      await this.api.call('POST', '/v1/agent/detach', { body: { network, id: callerId } });
    await waitFor(`no endpoint on ${this.name}`, async () => (await own()).length === 0);
    await this.published();
  }

  /** Runs the CLI on this host. */
  tsnet(...args: string[]): Promise<ProgramResult> {
    return this.exec(this.options.tsnet, ...args);
  }

  /** Runs a CLI command that has to succeed; its JSON. */
  async json<T>(...args: string[]): Promise<T> {
    const result = await this.tsnet(...args, '-o', 'json');
    if (result.status !== 0) throw new ProgramError(result);
    return JSON.parse(result.stdout === '' ? 'null' : result.stdout) as T;
  }

  /** Runs a program in the host's namespace. */
  exec(...argv: string[]): Promise<ProgramResult> {
    const [program = '', ...args] = [...enterArgs(netnsPath(this.netns)), ...argv];
    return runProgram(program, args, { env: { TSNET_AGENT_SOCKET: this.socket } });
  }

  /** Cuts the host off the wire. */
  async cut(): Promise<void> {
    await ipBatch(this.options.lan, [`link set ${this.name} down`]);
  }

  async mend(): Promise<void> {
    await ipBatch(this.options.lan, [`link set ${this.name} up`]);
  }

  snapshot(): Promise<NetnsSnapshot> {
    return takeSnapshot(netnsPath(this.netns));
  }

  close(): void {
    this.api.close();
  }
}
