import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { echoBytes, listenIn, reaches } from '../lab/sandbox.js';
import { withLab } from '../lab/with-lab.js';
import { Containerd } from './containerd.js';
import { Podman } from './podman.js';

t.test('containers of podman and pods of containerd on two hosts reach each other', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    await lab.host(1).create({ name: 'shared' });
    const podman = new Podman(lab.host(1), lab.folder);
    const containerd = new Containerd(lab.host(2));
    try {
      await Promise.all([podman.install('shared'), containerd.start()]);
      await containerd.install('shared');
      await podman.start('web', '--network', 'shared', '-p', '18082:7000');
      const pod = await containerd.inspect(await containerd.pod('db'));
      const web = await podman.sandbox('web');
      const [endpoint] = await lab.host(1).api.call<EndpointView[]>('GET', '/v1/agent/endpoints');
      const address = endpoint?.addresses[0] ?? '';
      await reaches(web, pod.address);
      await reaches(pod.sandbox, address);

      const listener = await listenIn(web, 'listen-tcp', 7000);
      const direct = await echoBytes(pod.sandbox, 'tcp', { address, port: 7000, sizeBytes: 100_000 });
      t.equal(direct.receivedBytes, 100_000, 'the pod speaks to the container');
      const outside = { name: 'h2', target: '', enter: enterArgs(netnsPath(lab.host(2).netns)) };
      const published = { address: lab.host(1).options.address, port: 18_082, sizeBytes: 100_000 };
      const through = await echoBytes(outside, 'tcp', published);
      t.equal(through.receivedBytes, 100_000, 'and another host to the port that podman has published');
      await listener.end();
    } finally {
      await podman.run('rm', '-f', '-t', '0', '-a');
      await containerd.remove();
    }
    for (const host of lab.hosts)
      t.same(await host.api.call('GET', '/v1/agent/endpoints'), [], `nothing is left on ${host.name}`);
  });
});
