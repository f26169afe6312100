import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ControllerStatus } from '../../core/api/status.js';
import { HttpClient } from '../../lib/http/client.js';
import { type Daemon } from './daemon.js';
import { enterArgs, netnsPath } from './netns.js';
import { Hopeless, waitFor } from './wait.js';

export interface LabControllerOptions {
  readonly name: string;
  readonly netns: string;
  readonly address: string;
  readonly port: number;
  readonly folder: string;
  readonly logPath: string;
  readonly tsnet: string;
  /** What else follows `tsnet controller`. */
  readonly args: readonly string[];
  readonly startDaemon: (options: {
    name: string;
    logPath: string;
    argv: readonly string[];
    env: Record<string, string>;
  }) => Daemon;
}

/** A controller of the lab. Agents reach it over the wire, the tests over a unix socket. */
export class LabController {
  readonly options: LabControllerOptions;
  readonly api: HttpClient;
  #daemon: Daemon | undefined;

  constructor(options: LabControllerOptions) {
    this.options = options;
    mkdirSync(this.dataDir, { recursive: true });
    this.api = new HttpClient({
      base: `unix:${join(options.folder, 'controller.sock')}`,
      unreachable: 'ERR_CONTROLLER_UNREACHABLE',
      token: () => readToken(this.adminToken),
    });
  }

  get url(): string {
    return `http://${this.options.address}:${this.options.port}`;
  }

  get dataDir(): string {
    return join(this.options.folder, 'data');
  }

  get hostToken(): string {
    return join(this.dataDir, 'host.token');
  }

  get adminToken(): string {
    return join(this.dataDir, 'admin.token');
  }

  get daemon(): Daemon {
    if (this.#daemon === undefined) throw new Error(`${this.options.name} has not been started`);
    return this.#daemon;
  }

  /** Starts it and waits until it answers and its store does. */
  async start(env: Readonly<Record<string, string>> = {}): Promise<void> {
    const { netns, tsnet, port, folder, args, logPath, name, startDaemon } = this.options;
    const listen = [this.url, `http://127.0.0.1:${port}`, `unix:${join(folder, 'controller.sock')}`];
    this.#daemon = startDaemon({
      name,
      logPath,
      argv: [
        ...enterArgs(netnsPath(netns)),
        tsnet,
        'controller',
        ...listen.flatMap((url) => ['--listen', url]),
        '--data-dir',
        this.dataDir,
        ...args,
      ],
      env: { ...env },
    });
    await waitFor(
      `${name} to answer`,
      async () => {
        if (this.#daemon?.status !== undefined) throw new Hopeless(`it ended with ${this.#daemon.status}`);
        return (await this.status()).store === 'ok' && existsSync(this.hostToken);
      },
      30_000,
    );
  }

  status(): Promise<ControllerStatus> {
    return this.api.call('GET', '/v1/status', { timeoutMs: 2000 });
  }

  close(): void {
    this.api.close();
  }
}

function readToken(path: string): string | undefined {
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}
