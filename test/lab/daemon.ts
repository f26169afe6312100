import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { freezeProcess, isRunning, pidStamp, type PidStamp } from './pid.js';
import { plain } from './plain.js';
import { waitFor } from './wait.js';

export interface DaemonOptions {
  readonly name: string;
  readonly logPath: string;
  /** Program and arguments, including what enters the namespace; it must end up as the same process (exec). */
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Whether it dies with us, however we die. */
  readonly bound: boolean;
}

/** A long-running program of the lab: started, killed, frozen and started again by its pid. */
export class Daemon {
  readonly options: DaemonOptions;
  readonly stamp: PidStamp;
  readonly #child: ChildProcess;
  #status: number | undefined;

  constructor(options: DaemonOptions) {
    this.options = options;
    const argv = options.bound ? ['setpriv', '--pdeathsig', 'KILL', ...options.argv] : options.argv;
    const log = openSync(options.logPath, 'a');
    try {
      this.#child = spawn(...plain(argv, options.env?.['NODE_OPTIONS']), {
        // Of its own process group: Ctrl-C at the terminal is ours to act on, not each daemon's.
        detached: true,
        stdio: ['ignore', log, log],
        env: { ...process.env, ...options.env },
      });
    } finally {
      closeSync(log);
    }
    this.#child.on('error', () => undefined);
    this.#child.on('exit', (code, signal) => {
      this.#status = code ?? (signal === 'SIGKILL' ? 137 : 128);
    });
    const stamp = this.#child.pid === undefined ? undefined : pidStamp(this.#child.pid);
    if (stamp === undefined) throw new Error(`${options.name} did not start: ${options.argv.join(' ')}\n${this.log()}`);
    this.stamp = stamp;
    if (!options.bound) this.#child.unref();
  }

  get pid(): number {
    return this.stamp.pid;
  }

  /** Exit status; undefined while it runs. */
  get status(): number | undefined {
    return this.#status;
  }

  isRunning(): boolean {
    return this.#status === undefined && isRunning(this.stamp);
  }

  /** Everything it has written, from all its runs. */
  log(): string {
    return readFileSync(this.options.logPath, 'utf8');
  }

  signal(signal: NodeJS.Signals): void {
    if (this.isRunning()) process.kill(this.pid, signal);
  }

  /** Ends it as an init system would. Its status. */
  async stop(deadlineMs = 20_000): Promise<number> {
    this.signal('SIGTERM');
    return this.ended(deadlineMs);
  }

  /** Waits until it hears what the kernel tells: monitors of netlink. What happens before they do not tell. */
  async listens(): Promise<void> {
    await waitFor(`${this.options.name} to listen`, () =>
      readFileSync(`/proc/${this.pid}/net/netlink`, 'utf8')
        .split('\n')
        .some((line) => {
          const [, , portId, groups] = line.split(/\s+/);
          return portId === String(this.pid) && groups !== '00000000';
        }),
    );
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.ended();
  }

  freeze(): void {
    if (this.isRunning()) freezeProcess(this.pid);
  }

  thaw(): void {
    this.signal('SIGCONT');
  }

  /** Waits until it has ended. Its status. */
  async ended(deadlineMs = 20_000): Promise<number> {
    await waitFor(`${this.options.name} (pid ${this.pid}) to end`, () => this.#status !== undefined, deadlineMs);
    return this.#status ?? -1;
  }
}
