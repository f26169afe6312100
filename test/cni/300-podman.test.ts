import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { LabHost } from '../lab/host.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';
import { Podman } from './podman.js';

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
