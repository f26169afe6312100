import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { echoBytes, listenIn, reaches } from '../lab/sandbox.js';
import { withLab } from '../lab/with-lab.js';
import { Containerd } from './containerd.js';
import type { PodConfig } from './cri.js';

type Ports = NonNullable<PodConfig['port_mappings']>;

t.test('containerd: ports of both protocols, its own restart, pods without IPv4', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const host = lab.host(1);
    await host.create({ name: 'pods', ipv6: true });
    await host.create({ name: 'six', subnets: [{ subnet: 'fd86::/64' }] });
    const remote = await lab.sandbox();
    const there = await lab.host(2).attach('six', remote);
    const containerd = new Containerd(host);
    const endpoints = (): Promise<EndpointView[]> => host.api.call('GET', '/v1/agent/endpoints');
    const outside = { name: 'h2', target: '', enter: enterArgs(netnsPath(lab.host(2).netns)) };
    const inHost = { name: 'h1', target: '', enter: enterArgs(netnsPath(host.netns)) };
    const { address } = host.options;
    try {
      await containerd.start();
      await containerd.install('pods');
      const port_mappings: Ports = [
        { container_port: 7000, host_port: 18_140 },
        { container_port: 7000, host_port: 18_140, protocol: 1 },
        { container_port: 7001, host_port: 18_141, host_ip: '127.0.0.1' },
        { container_port: 7002, host_port: 18_142, host_ip: '0.0.0.0' },
        { container_port: 7003, host_port: 0 },
      ];
      const web = await containerd.pod('web', { port_mappings });
      const echoes = async (
        protocol: 'tcp' | 'udp',
        ports: readonly [number, number],
        to = address,
      ): Promise<number> => {
        const { sandbox } = await containerd.inspect(web);
        const listener = await listenIn(sandbox, `listen-${protocol}`, ports[1]);
        const from = to === address ? outside : inHost;
        const said = await echoBytes(from, protocol, { address: to, port: ports[0], sizeBytes: 1000 });
        await listener.end();
        return Number(said.receivedBytes);
      };
      t.match((await endpoints())[0]?.ports, [
        { hostAddress: null, hostPort: 18_140, port: 7000, protocol: 'tcp' },
        { hostAddress: null, hostPort: 18_140, port: 7000, protocol: 'udp' },
        { hostAddress: '127.0.0.1', hostPort: 18_141, port: 7001 },
        { hostAddress: null, hostPort: 18_142, port: 7002 },
      ]);
      t.equal(await echoes('tcp', [18_140, 7000]), 1000, 'TCP');
      t.equal(await echoes('udp', [18_140, 7000]), 1000, 'UDP on the same port');
      t.equal(await echoes('tcp', [18_142, 7002]), 1000, '0.0.0.0 is everywhere');
      t.equal(await echoes('tcp', [18_141, 7001], '127.0.0.1'), 1000, 'by the address of the host alone');
      await t.rejects(containerd.pod('taken', { port_mappings: port_mappings.slice(0, 1) }), /18140/, 'is in use');
      t.equal((await endpoints()).length, 1, 'and leaves nothing');

      await containerd.restart();
      t.equal(await echoes('tcp', [18_140, 7000]), 1000, 'a pod outlives its runtime');
      await containerd.cri.stopPod(web);
      t.same(await endpoints(), [], 'and is stopped by the next');
      const again = await containerd.pod('web', { port_mappings }, 1);
      t.match(await endpoints(), [{ callerId: again, name: 'web', ports: [{ hostPort: 18_140 }, {}, {}, {}] }]);
      await containerd.cri.removePod(web);
      await containerd.cri.removePod(web);
      t.equal((await endpoints()).length, 1, 'the end of the old one takes nothing from the new one');

      await host.agent.kill();
      await containerd.cri.stopPod(again);
      await containerd.cri.removePod(again);
      await containerd.cri.removePod(again);
      await t.rejects(containerd.pod('late'), /agent is not available/);
      await host.startAgent();
      t.same(await endpoints(), [], 'pods that ended while no agent was there');

      await containerd.uninstall();
      await containerd.install('six');
      const alone = await containerd.inspect(await containerd.pod('alone'));
      t.match(alone.address, /^fd86::/, 'a pod without IPv4 has an address');
      await reaches(alone.sandbox, there.addresses[0] ?? '');
    } catch (error) {
      t.comment(containerd.log().split('\n').slice(-40).join('\n'));
      throw error;
    } finally {
      await containerd.remove();
    }
    t.same(await endpoints(), [], 'nothing is left');
  });
});
