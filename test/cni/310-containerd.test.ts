import { existsSync } from 'node:fs';
import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { mustRun } from '../lab/program.js';
import { echoBytes, listenIn, mustExecIn, reaches } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';
import { Containerd } from './containerd.js';

t.test('containerd runs, stops and removes pods on a network of tsnet', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const host = lab.host(1);
    const { subnets } = await host.create({ name: 'pods', ipv6: true });
    const containerd = new Containerd(host);
    const endpoints = (): Promise<EndpointView[]> => host.api.call('GET', '/v1/agent/endpoints');
    try {
      await containerd.start();
      await containerd.install('pods');
      const web = await containerd.pod('web', { port_mappings: [{ container_port: 7000, host_port: 18_080 }] });
      const db = await containerd.pod('db');
      const [webPod, dbPod] = [await containerd.inspect(web), await containerd.inspect(db)];
      const known = await endpoints();
      t.match(
        known.find(({ callerId }) => callerId === web),
        {
          name: 'web',
          addresses: [webPod.address, /^fd/],
          ports: [{ hostPort: 18_080, port: 7000 }],
          labels: { 'k8s.namespace': 'default', 'k8s.pod': 'web', 'k8s.uid': 'uid-web', 'cni.runtime': 'containerd' },
        },
      );
      const addressesOf = (id: string) => known.find(({ callerId }) => callerId === id)?.addresses ?? [];
      t.equal(addressesOf(db)[0], dbPod.address, 'the pod has its address');
      const { status } = await containerd.cri.podStatus(db);
      t.same(
        status.network?.additional_ips.map(({ ip }) => ip),
        addressesOf(db).slice(1),
        'and that of the other family',
      );
      for (const address of addressesOf(db)) await reaches(webPod.sandbox, address);
      for (const address of addressesOf(web)) await reaches(dbPod.sandbox, address);
      for (const name of ['web', 'web.default.pods.tsnet.internal']) {
        for (const [at, type] of ['A', 'AAAA'].entries()) {
          const server = `@${subnets[0]?.gateway ?? ''}`;
          const found = async (): Promise<boolean> =>
            (await mustExecIn(dbPod.sandbox, 'dig', '+short', server, name, type)).trim() === addressesOf(web)[at];
          await waitFor(`a pod to find ${name}, ${type}`, found, 20_000);
        }
      }

      const listener = await listenIn(webPod.sandbox, 'listen-tcp', 7000);
      const far = { name: 'h2', target: '', enter: enterArgs(netnsPath(lab.host(2).netns)) };
      const said = await echoBytes(far, 'tcp', { address: host.options.address, port: 18_080, sizeBytes: 100_000 });
      t.equal(said.receivedBytes, 100_000, "the pod answers on its host's port");
      await listener.end();

      await containerd.cri.stopPod(web);
      await containerd.cri.stopPod(web);
      t.same(
        (await endpoints()).map(({ callerId }) => callerId),
        [db],
        'stopping a pod gives all back',
      );
      await containerd.cri.removePod(web);

      // Its end of the world: process and namespace go without a word to anybody.
      const vanished = await containerd.pod('vanished');
      const { info } = await containerd.cri.podStatus(vanished);
      const { pid, runtimeSpec } = JSON.parse(info.info ?? '{}') as {
        pid: number;
        runtimeSpec: { linux: { namespaces: { type: string; path?: string }[] } };
      };
      const path = runtimeSpec.linux.namespaces.find(({ type }) => type === 'network')?.path ?? '';
      t.equal(existsSync(path), true);
      process.kill(pid, 'SIGKILL');
      await mustRun('umount', [path]);
      await waitFor('the endpoint to be gone', async () => (await endpoints()).length === 1);
      await containerd.cri.stopPod(vanished);
      await containerd.cri.removePod(vanished);
      t.same(await containerd.cri.listPods(), [db], 'a pod whose namespace vanished is removed cleanly');
    } catch (error) {
      t.comment(containerd.log().split('\n').slice(-40).join('\n'));
      throw error;
    } finally {
      await containerd.remove();
    }
    t.same(await endpoints(), [], 'nothing is left');
  });
});
