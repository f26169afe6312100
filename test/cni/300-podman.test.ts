import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { LabHost } from '../lab/host.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { echoBytes, listenIn } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';
import { Podman } from './podman.js';

t.test('podman runs, restarts, reloads, connects and removes containers on networks of tsnet', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const { subnets } = await lab.host(1).create({ name: 'front', ipv6: true });
    await lab.host(1).create({ name: 'back' });
    const podman = new Podman(lab.host(1), lab.folder);
    const other = new Podman(lab.host(2), lab.folder);
    const endpoints = async (host: LabHost): Promise<EndpointView[]> => {
      const all = await host.api.call<EndpointView[]>('GET', '/v1/agent/endpoints');
      return all.sort((a, b) => (`${a.name} ${a.network}` < `${b.name} ${b.network}` ? -1 : 1));
    };
    const addressesOf = async (host: LabHost, name: string, network = 'front'): Promise<readonly string[]> =>
      (await endpoints(host)).find((each) => each.name === name && each.network === network)?.addresses ?? [];
    const addressOf = async (host: LabHost, name: string): Promise<string> => (await addressesOf(host, name))[0] ?? '';
    /** Addresses of a name, as a program in a container finds them by the container's own settings. */
    const lookUp = async (from: Podman, container: string, name: string): Promise<string[]> => {
      const said = await from.run('exec', container, 'nslookup', name).catch(() => '');
      const [, ...found] = [...said.matchAll(/^Address(?: \d+)?:\s*(\S+)/gm)].map(([, found = '']) => found);
      return found.sort();
    };
    const resolves = async (
      from: Podman,
      container: string,
      [name, host, owner]: readonly [string, LabHost, string],
    ) => {
      const wanted = [...(await addressesOf(host, owner))].sort().join();
      const isFound = async (): Promise<boolean> => (await lookUp(from, container, name)).join() === wanted;
      await waitFor(`${container} to find ${name} at ${wanted}`, isFound, 20_000);
    };
    /** What is sent to web's published port from the other host. */
    const published = async (): Promise<number> => {
      const listener = await listenIn(await podman.sandbox('web'), 'listen-tcp', 80);
      const outside = { name: 'h2', target: '', enter: enterArgs(netnsPath(lab.host(2).netns)) };
      const to = { address: lab.host(1).options.address, port: 18_080, sizeBytes: 100_000 };
      const { receivedBytes } = await echoBytes(outside, 'tcp', to);
      await listener.end();
      return Number(receivedBytes);
    };
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
      for (const address of await addressesOf(lab.host(2), 'far')) await answers(podman, 'web', address);
      for (const address of await addressesOf(lab.host(1), 'db')) await answers(other, 'far', address);
      const settings = await podman.run('exec', 'web', 'cat', '/etc/resolv.conf');
      for (const { gateway } of subnets) t.match(settings, `nameserver ${gateway ?? ''}\n`);
      t.match(settings, /^search front\.tsnet\.internal$/m);
      await resolves(podman, 'web', ['far.front.tsnet.internal', lab.host(2), 'far']);
      await resolves(other, 'far', ['www.front.tsnet.internal', lab.host(1), 'web']);
      t.equal(await published(), 100_000, 'the published port');

      await podman.start('store', '--network', 'back');
      const [store = ''] = await addressesOf(lab.host(1), 'store', 'back');
      await answers(podman, 'db', store);
      await podman.run('network', 'disconnect', 'back', 'db');
      t.equal((await endpoints(lab.host(1))).length, 3);
      await t.rejects(podman.run('exec', 'db', 'ping', '-c', '1', '-W', '1', store), 'off the network');
      await podman.run('network', 'connect', 'back', 'db');
      await answers(podman, 'db', store);
      const before = await endpoints(lab.host(1));
      await podman.run('network', 'reload', '-a');
      const wordsOf = (all: readonly EndpointView[]) =>
        all.map(({ name, network, ports }) => ({ name, network, ports }));
      t.same(wordsOf(await endpoints(lab.host(1))), wordsOf(before), 'a reload has all attached again');
      await answers(podman, 'db', (await addressesOf(lab.host(1), 'store', 'back'))[0] ?? '');
      for (const address of await addressesOf(lab.host(2), 'far')) await answers(podman, 'web', address);
      t.equal(await published(), 100_000, 'the published port after a reload');
      await podman.run('rm', '-f', '-t', '0', 'store');
      t.match(
        (await endpoints(lab.host(1))).map(({ name, network }) => `${name} ${network}`),
        ['db back', 'db front', 'web front'],
      );
      await podman.run('restart', '-t', '0', 'web');
      t.match((await endpoints(lab.host(1)))[2]?.ports, [{ hostPort: 18080, port: 80 }]);
      t.equal(await published(), 100_000, 'the published port after a restart');
      await resolves(other, 'far', ['web.front.tsnet.internal', lab.host(1), 'web']);
      await answers(podman, 'web', await addressOf(lab.host(2), 'far'));
      const fixed = (await addressOf(lab.host(1), 'web')).replace(/\.\d+$/, '.77');
      await podman.start('fixed', '--network', 'front', '--ip', fixed, '--mac-address', '02:11:22:33:44:55');
      t.match(
        (await endpoints(lab.host(1))).find(({ name }) => name === 'fixed'),
        { addresses: [fixed, /:/], mac: '02:11:22:33:44:55' },
      );
    } finally {
      await podman.run('rm', '-f', '-t', '0', '-a');
      await other.run('rm', '-f', '-t', '0', '-a');
    }
    t.same([await endpoints(lab.host(1)), await endpoints(lab.host(2))], [[], []], 'nothing is left');
  });
});
