import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { listenIn, reaches } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

t.test(
  'an agent that starts while controller and etcd are away attaches, carries traffic, detaches, and publishes it later',
  async (t) => {
    await withLab(t, { hosts: 2 }, async (lab) => {
      const [one, two] = [lab.host(1), lab.host(2)];
      await one.create({ name: 'net', ipv6: true });
      const [old, remote] = [await lab.sandbox(), await lab.sandbox()];
      const before = await one.attach('net', old, { name: 'old' });
      const { addresses: toRemote } = await two.attach('net', remote);
      for (const host of lab.hosts) await host.published();
      for (const address of toRemote) await reaches(old, address);
      const echo = await listenIn(remote, 'listen-udp', 7000);
      const steady = await listenIn(old, 'steady', toRemote[0] ?? '', 7000, 10);

      await one.agent.kill();
      await lab.controller().daemon.kill();
      await one.startAgent({ until: 'answering' });
      const known = await one.api.call<EndpointView[]>('GET', '/v1/agent/endpoints');
      t.same(
        known.map(({ id }) => id),
        [before.id],
        'it knows its endpoints from its journal',
      );

      const [fresh, brief] = [await lab.sandbox(), await lab.sandbox()];
      const attached = await one.attach('net', fresh, { name: 'fresh' });
      for (const address of [...toRemote, ...before.addresses]) await reaches(fresh, address);
      for (const address of attached.addresses) await reaches(remote, address);
      const gone = await one.attach('net', brief);
      t.same((await one.detach('net', brief)).detached, [gone.id], 'a detach succeeds as well');
      t.ok((await one.status()).unpublished > 0, 'there is something to publish');

      await lab.controller().start();
      await one.waitForAgent('the agent to have its controller back', ({ controller }) => controller !== null);
      await one.published();
      const listed = await waitFor('the other host to list it', async () => {
        const endpoints = await two.api.call<EndpointView[]>('GET', '/v1/endpoints?network=net');
        return endpoints.some(({ id }) => id === attached.id) ? endpoints : null;
      });
      t.same(listed.map(({ name }) => name).sort(), ['fresh', null, 'old'].sort());
      t.notOk(
        listed.some(({ id }) => id === gone.id),
        'what came and went meanwhile is not published',
      );
      const { lostMs } = await steady.end();
      t.ok(Number(lostMs) < 500, `traffic never stopped: ${String(lostMs)} ms without an answer`);
      await echo.end();
    });
  },
);
