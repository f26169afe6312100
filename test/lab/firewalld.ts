import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Daemon } from './daemon.js';
import type { LabHost } from './host.js';
import { ProgramError } from './program.js';
import { waitFor } from './wait.js';

/** Debian's firewalld on a host of the lab, with a system bus, a configuration and a log of its own. */
export class Firewalld {
  readonly #host: LabHost;
  readonly #folder: string;
  readonly #bus: string;
  readonly #daemons: Daemon[] = [];

  constructor(host: LabHost) {
    this.#host = host;
    this.#folder = join(host.options.folder, 'firewalld');
    this.#bus = `unix:path=${join(this.#folder, 'bus')}`;
    mkdirSync(join(this.#folder, 'etc'), { recursive: true });
    writeFileSync(
      join(this.#folder, 'bus.conf'),
      [
        '<busconfig><type>system</type>',
        `<listen>${this.#bus}</listen>`,
        // Nobody else comes by this socket: everything is allowed.
        '<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>',
        '<allow own="*"/></policy>',
        '</busconfig>',
      ].join('\n'),
    );
  }

  /** Starts it; resolves when it has loaded its rules. */
  async start(): Promise<void> {
    const bus = this.#daemon('dbus', ['dbus-daemon', `--config-file=${join(this.#folder, 'bus.conf')}`, '--nofork']);
    await waitFor('the bus', async () => {
      if (bus.status !== undefined) throw new Error(`dbus-daemon ended with ${bus.status}: ${bus.log()}`);
      return (await this.#host.exec('test', '-S', join(this.#folder, 'bus'))).status === 0;
    });
    const places = ['--system-config', join(this.#folder, 'etc'), '--log-file', join(this.#folder, 'firewalld.log')];
    const daemon = this.#daemon('firewalld', ['firewalld', '--nofork', '--nopid', '--log-target', 'file', ...places]);
    await waitFor(
      'firewalld to run',
      async () => {
        if (daemon.status !== undefined) throw new Error(`firewalld ended with ${daemon.status}: ${daemon.log()}`);
        return (await this.#call('--state')).status === 0;
      },
      30_000,
    );
  }

  /** Runs `firewall-cmd ARGS`, which has to succeed. */
  async cmd(...args: string[]): Promise<void> {
    const result = await this.#call(...args);
    if (result.status !== 0) throw new ProgramError(result);
  }

  /** Ends it; it takes its rules along. */
  async stop(): Promise<void> {
    for (const daemon of this.#daemons.reverse()) await daemon.stop(20_000);
  }

  #call(...args: string[]): ReturnType<LabHost['exec']> {
    return this.#host.exec('env', `DBUS_SYSTEM_BUS_ADDRESS=${this.#bus}`, 'firewall-cmd', ...args);
  }

  #daemon(name: string, argv: readonly string[]): Daemon {
    const { options } = this.#host;
    const daemon = options.startDaemon({
      name: `${name} ${options.name}`,
      logPath: join(this.#folder, `${name}.out`),
      argv: ['nsenter', `--net=/run/netns/${options.netns}`, '--', ...argv],
      env: { DBUS_SYSTEM_BUS_ADDRESS: this.#bus },
    });
    this.#daemons.push(daemon);
    return daemon;
  }
}
