import { setTimeout as wait } from 'node:timers/promises';
import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { echoBytes, listenIn, reaches } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';
import { Podman } from './podman.js';

t.test('podman: families, ranges of ports, pods, and what goes wrong meanwhile', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const [host, far] = [lab.host(1), lab.host(2)];
    await host.create({ name: 'both', subnets: [{ subnet: '10.81.0.0/24' }, { subnet: 'fd81::/64' }] });
    await host.create({ name: 'six', subnets: [{ subnet: 'fd86::/64' }] });
    const podman = new Podman(host, lab.folder);
    const endpoints = (): Promise<EndpointView[]> => host.api.call('GET', '/v1/agent/endpoints');
    const wordsOf = async (): Promise<string[]> =>
      (await endpoints()).map(({ name, network }) => `${name ?? ''} ${network}`).sort();
    const remote = await lab.sandbox();
    const there = await far.attach('six', remote);
    const outside = { name: 'h2', target: '', enter: enterArgs(netnsPath(far.netns)) };
    const echoes = async (
      container: string,
      protocol: 'tcp' | 'udp',
      ports: [host: number, own: number],
      from = outside,
    ) => {
      const listener = await listenIn(await podman.sandbox(container), `listen-${protocol}`, ports[1]);
      const address = from === outside ? host.options.address : '127.0.0.1';
      const { receivedBytes } = await echoBytes(from, protocol, { address, port: ports[0], sizeBytes: 1000 });
      await listener.end();
      return Number(receivedBytes);
    };
    await host.create({ name: 'back' });
    await host.create({ name: 'inner', internal: true });
    await podman.install('back');
    await podman.install('inner');
    await podman.install('both');
    await podman.install('six');
    try {
      await podman.start('web6', '--network', 'six', '--network-alias', 'www');
      t.match(await endpoints(), [{ name: 'web6', network: 'six', addresses: [/^fd86::/] }]);
      await reaches(await podman.sandbox('web6'), there.addresses[0] ?? '');
      const inspected = await podman.run('inspect', '--format', '{{json .NetworkSettings.Networks}}', 'web6');
      t.match(JSON.parse(inspected), {
        six: { GlobalIPv6Address: /^fd86::/, GlobalIPv6PrefixLen: 64, IPv6Gateway: /^fd86::/ },
      });
      await podman.start('fixed6', '--network', 'six', '--ip6', 'fd86::77');
      t.match((await endpoints()).find(({ name }) => name === 'fixed6')?.addresses, ['fd86::77']);
      await podman.run('rm', '-f', '-t', '0', 'web6', 'fixed6');

      await podman.start('fixed', '--network', 'both', '--ip', '10.81.0.77', '--ip6', 'fd81::77', '-p', '18120:80');
      t.match(await endpoints(), [
        { name: 'fixed', addresses: ['10.81.0.77', 'fd81::77'], ports: [{ hostPort: 18_120, port: 80 }] },
      ]);
      await t.rejects(podman.start('taken', '--network', 'both', '--ip', '10.81.0.77'), /10\.81\.0\.77/, 'is in use');
      await t.rejects(podman.start('taken', '--replace', '--network', 'both', '-p', '18120:81'), /18120/, 'is in use');
      await podman.run('rm', '-f', '-t', '0', '-a');
      t.same(await wordsOf(), [], 'what was refused leaves nothing');

      const ranges = ['-p', '18100-18103:80-83', '-p', '18104:84/udp', '-p', '127.0.0.1:18105:85'];
      await podman.start('many', '--network', 'both', ...ranges);
      t.equal((await endpoints())[0]?.ports?.length, 6);
      t.equal(await echoes('many', 'tcp', [18_103, 83]), 1000, 'the last of a range');
      t.equal(await echoes('many', 'udp', [18_104, 84]), 1000, 'UDP');
      const inHost = { name: 'h1', target: '', enter: enterArgs(netnsPath(host.netns)) };
      t.equal(await echoes('many', 'tcp', [18_105, 85], inHost), 1000, 'by the address of the host alone');

      await podman.run('stop', '-t', '0', 'many');
      t.same(await wordsOf(), []);
      await podman.run('network', 'connect', 'back', 'many');
      await podman.run('start', 'many');
      t.same(await wordsOf(), ['many back', 'many both'], 'connected while it was stopped');
      t.equal(await echoes('many', 'tcp', [18_100, 80]), 1000);
      await podman.run('stop', '-t', '0', 'many');
      await podman.run('network', 'disconnect', 'back', 'many');
      await podman.run('start', 'many');
      t.same(await wordsOf(), ['many both']);
      await podman.run('network', 'reload', 'many');
      t.equal(await echoes('many', 'tcp', [18_101, 81]), 1000, 'after a reload');
      const { sandbox } = { sandbox: await podman.sandbox('many') };
      process.kill(Number(sandbox.target.slice(4)), 'SIGKILL');
      await waitFor('podman to see it end', async () =>
        (await podman.run('inspect', '--format', '{{.State.Running}}', 'many')).startsWith('false'),
      );
      await podman.run('start', 'many');
      t.same(await wordsOf(), ['many both'], 'started again after it was killed');
      t.equal(await echoes('many', 'tcp', [18_102, 82]), 1000);

      await host.agent.kill();
      await t.rejects(podman.run('restart', '-t', '0', 'many'), /agent is not available/, 'podman says why');
      await host.startAgent();
      t.same(await wordsOf(), [], 'its DEL was done');
      await podman.run('start', 'many');
      t.same(await wordsOf(), ['many both']);
      await host.agent.kill();
      await podman.run('rm', '-f', '-t', '0', 'many');
      await host.startAgent();
      t.same(await wordsOf(), [], 'removed while no agent was there');

      await podman.start('two', '--network', 'both,back,inner', '-p', '0.0.0.0:18130-18131:80-81');
      t.same(await wordsOf(), ['two back', 'two both', 'two inner']);
      t.equal((await endpoints()).flatMap(({ ports = [] }) => ports).length, 2, 'one network publishes');
      t.equal(await echoes('two', 'tcp', [18_131, 81]), 1000);
      await podman.run('restart', '-t', '0', 'two');
      t.equal(await echoes('two', 'tcp', [18_130, 80]), 1000, 'also after a restart');
      await podman.run('network', 'reload', 'two');
      t.equal(await echoes('two', 'tcp', [18_130, 80]), 1000, 'and a reload');
      await podman.run('rm', '-f', '-t', '0', 'two');

      const image = await podman.image();
      const infra = ['--infra-image', image, '--infra-command', '/bin/sleep 1000000'];
      await podman.run(
        'pod',
        'create',
        '--name',
        'shop',
        ...infra,
        '--network',
        'both',
        '--ip',
        '10.81.0.50',
        '-p',
        '18150:80',
      );
      for (const name of ['cart', 'till'])
        await podman.run('run', '-d', '--name', name, '--pod', 'shop', '--security-opt', 'seccomp=unconfined', image);
      const asPod = [{ name: 'shop', addresses: ['10.81.0.50', /^fd81:/], ports: [{ hostPort: 18_150 }] }];
      t.match(await endpoints(), asPod, 'a pod is one endpoint');
      t.equal(await echoes('till', 'tcp', [18_150, 80]), 1000, 'of all of its containers');
      await podman.run('pod', 'kill', 'shop');
      await podman.run('pod', 'start', 'shop');
      t.match(await endpoints(), asPod, 'again after it was killed');
      await podman.run('pod', 'rm', '-f', '-t', '0', 'shop');
      t.same(await wordsOf(), []);

      for (const pauseMs of [200, 500]) {
        const starting = podman.start('brief', '--network', 'both', '-p', '18151:80').catch(() => '');
        await wait(pauseMs);
        await podman.run('rm', '-f', '-t', '0', 'brief').catch(() => '');
        await starting;
        await podman.run('rm', '-f', '-t', '0', '-a');
        t.same(await wordsOf(), [], 'removed while it started');
      }
    } finally {
      await podman.run('rm', '-f', '-t', '0', '-a');
    }
    t.same(await endpoints(), [], 'nothing is left');
  });
});
