import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LabHost } from '../lab/host.js';
import { mustRun, ProgramError } from '../lab/program.js';
import type { Sandbox } from '../lab/sandbox.js';

/** podman with its CNI backend, with folders of its own, on a host of the lab. */
export class Podman {
  readonly #folder: string;

  constructor(
    readonly host: LabHost,
    folder: string,
  ) {
    this.#folder = join(folder, `podman-${host.name}`);
    const root = join(this.#folder, 'rootfs');
    for (const name of ['bin', 'etc', 'proc', 'sys', 'dev', 'tmp', 'run'])
      mkdirSync(join(root, name), { recursive: true });
    copyFileSync('/bin/busybox', join(root, 'bin/busybox'));
    for (const name of ['sh', 'sleep', 'ip', 'ping', 'cat', 'nc', 'nslookup'])
      symlinkSync('busybox', join(root, 'bin', name));
    const lines = [
      '[network]',
      'network_backend="cni"',
      `network_config_dir="${this.#folder}/net.d"`,
      `cni_plugin_dirs=["${this.#folder}/bin","/usr/lib/cni"]`,
      '[containers]',
      'default_ulimits=["nofile=1024:1024","nproc=1024:1024"]',
      '[engine]',
      'cgroup_manager="cgroupfs"',
    ];
    writeFileSync(join(this.#folder, 'containers.conf'), lines.join('\n'));
  }

  async install(network: string): Promise<void> {
    const places = ['--bin-dir', join(this.#folder, 'bin'), '--conf-dir', join(this.#folder, 'net.d')];
    const result = await this.host.tsnet(
      'cni',
      'install',
      '--runtime',
      'podman',
      '--network',
      network,
      '--name',
      network,
      ...places,
    );
    if (result.status !== 0) throw new ProgramError(result);
  }

  async run(...args: string[]): Promise<string> {
    const storage = [
      '--root',
      join(this.#folder, 'storage'),
      '--runroot',
      join(this.#folder, 'run'),
      '--storage-driver',
      'vfs',
    ];
    const conf = `CONTAINERS_CONF=${join(this.#folder, 'containers.conf')}`;
    const result = await this.host.exec('env', conf, 'podman', ...storage, '--runtime', 'runc', ...args);
    if (result.status !== 0) throw new ProgramError(result);
    return result.stdout;
  }

  start(name: string, ...more: string[]): Promise<string> {
    const rootfs = ['--rootfs', join(this.#folder, 'rootfs'), 'sleep', '1000000'];
    return this.run('run', '-d', '--name', name, '--security-opt', 'seccomp=unconfined', ...more, ...rootfs);
  }

  /** Makes an image of what `start` runs; its name. */
  async image(): Promise<string> {
    const tar = join(this.#folder, 'rootfs.tar');
    await mustRun('tar', ['-C', join(this.#folder, 'rootfs'), '-cf', tar, '.']);
    const name = 'localhost/tsnet-test/box';
    await this.run('import', '--change', 'CMD ["/bin/sleep","1000000"]', tar, name);
    return name;
  }

  /** A running container as a place to send from. */
  async sandbox(name: string): Promise<Sandbox> {
    const pid = (await this.run('inspect', '--format', '{{.State.Pid}}', name)).trim();
    return { name, target: `pid:${pid}`, enter: ['nsenter', `--net=/proc/${pid}/ns/net`, '--'] };
  }
}
