import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Daemon } from '../lab/daemon.js';
import type { LabHost } from '../lab/host.js';
import { privateMountArgs, privateUpper } from '../lab/private-mounts.js';
import { mustRun, ProgramError, runProgram, type ProgramResult } from '../lab/program.js';
import type { Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { Cri, type PodConfig } from './cri.js';
import { referenceDir } from './program.js';

const cgroupRoot = '/sys/fs/cgroup';
const image = 'localhost/tsnet-test/pause:1';
/** Debian's, beside which a machine may have others. */
const [containerd, ctr] = ['/usr/bin/containerd', '/usr/bin/ctr'];

/** Debian's containerd on a host of the lab, with folders and a cgroup of its own. */
export class Containerd {
  readonly host: LabHost;
  readonly cri: Cri;
  readonly #folder: string;
  readonly #cgroup: string;
  readonly #privately: readonly string[];
  /** Folders that shims make for their sockets, where they were not there before. */
  readonly #made = ['/run/containerd', '/run/containerd/s'].filter((path) => !existsSync(path));
  #daemon: Daemon | undefined;

  constructor(host: LabHost) {
    this.host = host;
    this.#folder = join(host.options.folder, 'containerd');
    this.#cgroup = `${host.netns}-containerd`;
    mkdirSync(join(this.#folder, 'bin'), { recursive: true });
    symlinkSync(join(referenceDir, 'loopback'), join(this.#folder, 'bin/loopback'));
    // Plugins' results and `ctr`'s places are those of the machine, whatever is configured.
    this.#privately = privateMountArgs(this.#folder, ['/etc', '/opt', '/var/lib']);
    this.cri = new Cri(this.#socket);
  }

  /** Starts it with an image to make pods of. */
  async start(): Promise<void> {
    writeFileSync(join(this.#folder, 'config.toml'), this.#config());
    await this.#run();
    await this.#import();
  }

  /** Ends the daemon alone, and starts it anew. */
  async restart(): Promise<void> {
    await this.#daemon?.stop(20_000);
    await this.#run();
    await waitFor('containerd to have its network', async () => (await this.cri.conditions()).NetworkReady);
  }

  async #run(): Promise<void> {
    const { options } = this.host;
    this.#daemon = options.startDaemon({
      name: `containerd ${options.name}`,
      logPath: join(this.#folder, 'containerd.log'),
      argv: [
        ...['nsenter', `--net=/run/netns/${options.netns}`, '--', ...this.#privately],
        ...[containerd, '--config', join(this.#folder, 'config.toml')],
      ],
      // A folder of the lab in the environment: what outlives the daemon is found by it.
      env: { TMPDIR: this.#folder },
    });
    const daemon = this.#daemon;
    await waitFor(
      'containerd to answer',
      async () => {
        if (daemon.status !== undefined) throw new Error(`containerd ended with ${daemon.status}: ${daemon.log()}`);
        return (await this.cri.conditions()).RuntimeReady;
      },
      30_000,
    );
  }

  log(): string {
    return this.#daemon?.log() ?? '';
  }

  /** Makes a network the pods', as an administrator does. */
  async install(network: string): Promise<void> {
    const places = ['--bin-dir', join(this.#folder, 'bin'), '--conf-dir', join(this.#folder, 'net.d')];
    await this.#tsnet('cni', 'install', '--runtime', 'containerd', '--network', network, ...places);
    await waitFor('containerd to have the network', async () => (await this.cri.conditions()).NetworkReady);
  }

  /** Takes the pods' network away again. */
  async uninstall(): Promise<void> {
    const places = ['--bin-dir', join(this.#folder, 'bin'), '--conf-dir', join(this.#folder, 'net.d')];
    await this.#tsnet('cni', 'uninstall', '--runtime', 'containerd', ...places);
  }

  /** Makes a network the one of `ctr run --cni`, in place of another. */
  async installForCtr(network: string, instead?: string): Promise<void> {
    const bin = join(privateUpper(this.#folder, '/opt'), 'cni/bin');
    const conf = join(privateUpper(this.#folder, '/etc'), 'cni/net.d');
    if (instead !== undefined)
      await this.#tsnet(
        'cni',
        'uninstall',
        '--runtime',
        'ctr',
        '--network',
        instead,
        '--bin-dir',
        bin,
        '--conf-dir',
        conf,
      );
    await this.#tsnet('cni', 'install', '--runtime', 'ctr', '--network', network, '--bin-dir', bin, '--conf-dir', conf);
  }

  /** Runs a pod; its id. */
  pod(name: string, more: Omit<PodConfig, 'metadata'> = {}, attempt = 0): Promise<string> {
    return this.cri.runPod({
      metadata: { name, uid: `uid-${name}`, namespace: 'default', attempt },
      linux: { cgroup_parent: `/${this.#cgroup}` },
      ...more,
    });
  }

  /** A pod's address and a place to send from. */
  async inspect(id: string): Promise<{ readonly sandbox: Sandbox; readonly address: string; readonly pid: number }> {
    const { status, info } = await this.cri.podStatus(id);
    const { pid } = JSON.parse(info.info ?? '{}') as { pid: number };
    const sandbox = {
      name: id.slice(0, 8),
      target: `pid:${pid}`,
      enter: ['nsenter', `--net=/proc/${pid}/ns/net`, '--'],
    };
    return { sandbox, address: status.network?.ip ?? '', pid };
  }

  /** Runs `ctr` where its places are ours. */
  ctr(...args: string[]): Promise<ProgramResult> {
    // In the daemon's mounts: two overlays must not share their folders.
    const mounts = `--mount=/proc/${this.#daemon?.pid ?? 0}/ns/mnt`;
    const enter = ['nsenter', mounts, `--net=/run/netns/${this.host.netns}`, '--'];
    const [program = '', ...words] = [...enter, ctr, '--address', this.#socket, ...args];
    return runProgram(program, words, { timeoutMs: 60_000 });
  }

  /** Runs `ctr run --cni` with the image. */
  run(name: string, options: readonly string[], ...command: string[]): Promise<ProgramResult> {
    const folder = this.#folder;
    const places = ['--snapshotter', 'native', '--runc-root', join(folder, 'runc'), '--fifo-dir', join(folder, 'fifo')];
    const cgroup = ['--cgroup', `/${this.#cgroup}/${name}`];
    return this.ctr('run', '--cni', ...places, ...cgroup, ...options, image, name, ...command);
  }

  /** Ends it with all that it runs, and takes back what it made outside its folder and namespace. */
  async remove(): Promise<void> {
    if (this.#daemon?.isRunning() === true) {
      for (const id of await this.cri.listPods()) {
        await this.cri.stopPod(id);
        await this.cri.removePod(id);
      }
      for (const namespace of ['default', 'k8s.io']) await this.#removeContainers(namespace);
      await this.#daemon.stop(20_000);
    }
    this.cri.close();
    for (const path of this.#made) rmSync(path, { recursive: true, force: true });
    for (const controller of readdirSync(cgroupRoot))
      await waitFor('the cgroup to be empty', () => removeFolder(join(cgroupRoot, controller, this.#cgroup)));
  }

  async #removeContainers(namespace: string): Promise<void> {
    const list = async (what: string): Promise<string[]> =>
      (await this.ctr('-n', namespace, what, 'ls', '-q')).stdout.split('\n').filter(Boolean);
    for (const id of await list('tasks')) await this.ctr('-n', namespace, 'tasks', 'delete', '--force', id);
    for (const id of await list('containers')) await this.ctr('-n', namespace, 'containers', 'delete', id);
  }

  get #socket(): string {
    return join(this.#folder, 'c.sock');
  }

  async #tsnet(...args: string[]): Promise<void> {
    const result = await this.host.tsnet(...args);
    if (result.status !== 0) throw new ProgramError(result);
  }

  /** Without limits that only a privileged root may raise, and without what the machine may lack. */
  #config(): string {
    const folder = this.#folder;
    const cri = 'plugins."io.containerd.grpc.v1.cri"';
    return [
      'version = 2',
      `root = "${folder}/root"`,
      `state = "${folder}/state"`,
      'disabled_plugins = ["io.containerd.internal.v1.tracing", "io.containerd.snapshotter.v1.devmapper"]',
      '[grpc]',
      `address = "${this.#socket}"`,
      '[plugins."io.containerd.internal.v1.opt"]',
      `path = "${folder}/opt"`,
      `[${cri}]`,
      `sandbox_image = "${image}"`,
      'restrict_oom_score_adj = true',
      'disable_apparmor = true',
      'tolerate_missing_hugetlb_controller = true',
      'stream_server_port = "0"',
      `[${cri}.containerd]`,
      'snapshotter = "native"',
      `[${cri}.containerd.runtimes.runc]`,
      'runtime_type = "io.containerd.runc.v2"',
      `[${cri}.containerd.runtimes.runc.options]`,
      `Root = "${folder}/runc"`,
      `[${cri}.cni]`,
      `bin_dir = "${folder}/bin"`,
      `conf_dir = "${folder}/net.d"`,
      '',
    ].join('\n');
  }

  /** Makes an image of one program and gives it to both namespaces. */
  async #import(): Promise<void> {
    const [layer, archive] = [join(this.#folder, 'layer'), join(this.#folder, 'image')];
    for (const each of [join(layer, 'bin'), archive]) mkdirSync(each, { recursive: true });
    copyFileSync('/bin/busybox', join(layer, 'bin/busybox'));
    for (const name of ['sh', 'sleep', 'ip', 'ping', 'cat', 'nc', 'true'])
      symlinkSync('busybox', join(layer, 'bin', name));
    await mustRun('tar', ['-C', layer, '-cf', join(archive, 'layer.tar'), '.']);
    const digest = createHash('sha256')
      .update(readFileSync(join(archive, 'layer.tar')))
      .digest('hex');
    const config = {
      architecture: { x64: 'amd64' }[process.arch as string] ?? process.arch,
      os: 'linux',
      config: { Entrypoint: ['/bin/sleep', '1000000'], Env: ['PATH=/bin'] },
      rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
    };
    writeFileSync(join(archive, 'config.json'), JSON.stringify(config));
    const manifest = [{ Config: 'config.json', RepoTags: [image], Layers: ['layer.tar'] }];
    writeFileSync(join(archive, 'manifest.json'), JSON.stringify(manifest));
    const tar = join(this.#folder, 'image.tar');
    await mustRun('tar', ['-C', archive, '-cf', tar, 'manifest.json', 'config.json', 'layer.tar']);
    for (const namespace of ['k8s.io', 'default']) {
      const result = await this.ctr('-n', namespace, 'image', 'import', '--snapshotter', 'native', tar);
      if (result.status !== 0) throw new ProgramError(result);
    }
    await waitFor('the pods to have the image', () => this.cri.hasImage(image));
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
