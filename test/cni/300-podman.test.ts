import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { EndpointView } from '../../core/api.js';
import type { LabHost } from '../lab/host.js';
import { ProgramError } from '../lab/program.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

/** podman with its CNI backend, with folders of its own, on a host of the lab. */
class Podman {
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
    for (const name of ['sh', 'sleep', 'ip', 'ping', 'cat', 'nc']) symlinkSync('busybox', join(root, 'bin', name));
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
}

t.test('podman runs, restarts, reloads, connects and removes containers on networks of tsnet', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    await lab.host(1).create({ name: 'front' });
    await lab.host(1).create({ name: 'back' });
    const podman = new Podman(lab.host(1), lab.folder);
    const other = new Podman(lab.host(2), lab.folder);
    const endpoints = async (host: LabHost): Promise<EndpointView[]> => {
      const all = await host.api.call<EndpointView[]>('GET', '/v1/agent/endpoints');
      return all.sort((a, b) => (`${a.name} ${a.network}` < `${b.name} ${b.network}` ? -1 : 1));
    };
    const addressOf = async (host: LabHost, name: string): Promise<string> =>
      (await endpoints(host)).find((each) => each.name === name && each.network === 'front')?.addresses[0] ?? '';
    const answers = (from: Podman, container: string, address: string): Promise<boolean> =>
      waitFor(
        `${container} to reach ${address}`,
        () =>
          from.run('exec', container, 'ping', '-c', '1', '-W', '1', address).then(
            () => true,
            () => false,
          ),
        20_000,
      );
    await Promise.all([podman.install('front').then(() => podman.install('back')), other.install('front')]);
    t.match(await podman.run('network', 'ls', '--format', '{{.Name}} {{.Driver}}'), /front tsnet/);
    try {
      await podman.start('web', '--network', 'front', '-p', '18080:80', '--network-alias', 'www');
      await podman.start('db', '--network', 'front,back');
      await other.start('far', '--network', 'front');
      t.match(await endpoints(lab.host(1)), [
        { name: 'db', ifname: /^eth[01]$/, network: 'back' },
        { name: 'db', ifname: /^eth[01]$/, network: 'front' },
        { name: 'web', ifname: 'eth0', aliases: ['www', /^[0-9a-f]{12}$/], ports: [{ hostPort: 18080, port: 80 }] },
      ]);
      await answers(podman, 'web', await addressOf(lab.host(2), 'far'));
      await answers(other, 'far', await addressOf(lab.host(1), 'db'));

      await podman.run('network', 'disconnect', 'back', 'db');
      t.equal((await endpoints(lab.host(1))).length, 2);
      await podman.run('network', 'connect', 'back', 'db');
      await podman.run('network', 'reload', '-a');
      t.match(
        (await endpoints(lab.host(1))).map(({ name, network }) => `${name} ${network}`),
        ['db back', 'db front', 'web front'],
      );
      await podman.run('restart', '-t', '0', 'web');
      t.match((await endpoints(lab.host(1)))[2]?.ports, [{ hostPort: 18080, port: 80 }]);
      await answers(podman, 'web', await addressOf(lab.host(2), 'far'));
      const fixed = (await addressOf(lab.host(1), 'web')).replace(/\.\d+$/, '.77');
      await podman.start('fixed', '--network', 'front', '--ip', fixed, '--mac-address', '02:11:22:33:44:55');
      t.match(
        (await endpoints(lab.host(1))).find(({ name }) => name === 'fixed'),
        { addresses: [fixed], mac: '02:11:22:33:44:55' },
      );
    } finally {
      await podman.run('rm', '-f', '-t', '0', '-a');
      await other.run('rm', '-f', '-t', '0', '-a');
    }
    t.same([await endpoints(lab.host(1)), await endpoints(lab.host(2))], [[], []], 'nothing is left');
  });
});
