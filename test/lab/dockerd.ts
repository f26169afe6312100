import { copyFileSync, mkdirSync, readdirSync, rmdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Daemon } from './daemon.js';
import type { LabHost } from './host.js';
import { mustRun, ProgramError, runProgram } from './program.js';
import { privateEtcArgs } from './private-etc.js';
import type { Sandbox } from './sandbox.js';
import { waitFor } from './wait.js';

const cgroupRoot = '/sys/fs/cgroup';
/** Debian's, beside which a machine may have others. */
const [dockerd, docker] = ['/usr/sbin/dockerd', '/usr/bin/docker'];

/** Debian's dockerd on a host of the lab, with folders, an /etc and a cgroup of its own. */
export class Dockerd {
  readonly #host: LabHost;
  readonly #folder: string;
  readonly #cgroup: string;
  #daemon: Daemon | undefined;

  constructor(host: LabHost) {
    this.#host = host;
    this.#folder = join(host.options.folder, 'docker');
    this.#cgroup = `${host.netns}-docker`;
    const bin = join(this.#folder, 'rootfs/bin');
    mkdirSync(bin, { recursive: true });
    copyFileSync('/bin/busybox', join(bin, 'busybox'));
    for (const name of ['sh', 'sleep', 'ip', 'ping', 'cat', 'nc', 'echo']) symlinkSync('busybox', join(bin, name));
  }

  /** Starts it (again), with what it had before. */
  async start(): Promise<void> {
    const { options } = this.#host;
    const folder = this.#folder;
    const places = ['--data-root', 'data', '--exec-root', 'exec', '--pidfile', 'dockerd.pid'].map((word) =>
      word.startsWith('--') ? word : join(folder, word),
    );
    this.#daemon = options.startDaemon({
      name: `dockerd ${options.name}`,
      logPath: join(folder, 'dockerd.log'),
      argv: [
        ...['nsenter', `--net=/run/netns/${options.netns}`, '--', ...privateEtcArgs(folder), dockerd],
        ...['--host', this.#socket, '--storage-driver', 'vfs', '--iptables=true', '--shutdown-timeout', '3', ...places],
        ...['--cgroup-parent', `/${this.#cgroup}`],
      ],
      // A folder of the lab in the environment: what outlives the daemon is found by it.
      env: { DOCKER_TMPDIR: join(folder, 'tmp') },
    });
    const daemon = this.#daemon;
    await waitFor(
      'dockerd to answer',
      async () => {
        if (daemon.status !== undefined) throw new Error(`dockerd ended with ${daemon.status}: ${daemon.log()}`);
        return (await this.#call('version')).status === 0;
      },
      30_000,
    );
  }

  /** Ends it. Its containers end with it; its rules stay. */
  async stop(): Promise<void> {
    await this.#daemon?.stop(20_000);
  }

  /** Ends it and takes back what it made outside its folder and namespace. */
  async remove(): Promise<void> {
    if (this.#daemon?.isRunning() === true) {
      const containers = (await this.#call('ps', '-aq')).stdout.split('\n').filter(Boolean);
      if (containers.length > 0) await this.#call('rm', '-f', ...containers);
      await this.stop();
    }
    for (const controller of readdirSync(cgroupRoot)) {
      // Not every controller has it.
      await waitFor('the cgroup to be empty', () => removeFolder(join(cgroupRoot, controller, this.#cgroup)));
    }
  }

  /** Makes the image `busybox` of what is installed here. */
  async import(): Promise<void> {
    const tar = join(this.#folder, 'rootfs.tar');
    await mustRun('tar', ['-C', join(this.#folder, 'rootfs'), '-cf', tar, '.']);
    await this.run('import', tar, 'busybox');
  }

  /** Runs `docker ARGS`, which has to succeed; its standard output. */
  async run(...args: string[]): Promise<string> {
    const result = await this.#call(...args);
    if (result.status !== 0) throw new ProgramError(result);
    return result.stdout.trim();
  }

  /** Runs a container in the background. */
  async container(name: string, options: readonly string[], command: readonly string[]): Promise<Sandbox> {
    await this.run('run', '-d', '--stop-timeout', '1', '--name', name, ...options, 'busybox', ...command);
    return this.sandbox(name);
  }

  /** A running container as a place to send from. */
  async sandbox(name: string): Promise<Sandbox> {
    const pid = await this.run('inspect', '--format', '{{.State.Pid}}', name);
    return { name, target: `pid:${pid}`, enter: ['nsenter', `--net=/proc/${pid}/ns/net`, '--'] };
  }

  get #socket(): string {
    return `unix://${join(this.#folder, 'docker.sock')}`;
  }

  #call(...args: string[]): ReturnType<typeof runProgram> {
    const env = { DOCKER_CONFIG: join(this.#folder, 'config') };
    return runProgram(docker, ['--host', this.#socket, ...args], { env, timeoutMs: 120_000 });
  }
}

/** Removes a cgroup with those below it; reports whether it is gone. */
function removeFolder(path: string): boolean {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true }))
      if (entry.isDirectory() && !removeFolder(join(path, entry.name))) return false;
    rmdirSync(path);
    return true;
  } catch (error) {
    return ['ENOENT', 'ENOTDIR'].includes(String((error as { readonly code?: unknown }).code));
  }
}
