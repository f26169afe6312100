import t from 'tap';
import type { ServiceView } from '../../core/api/service.js';
import { ask, newBackend, ServiceProgram, type Heard } from '../lab/service.js';
import { waitFor } from '../lab/wait.js';
import { withLab, withSharedLab } from '../lab/with-lab.js';

const body = { name: 'web', network: 'front', ports: [{ port: 80, target: 8080 }], selector: { app: 'web' } };

t.test('backends of a host that dies are left within the liveness bound', async (t) => {
  await withLab(t, { hosts: 2, controllerArgs: ['--liveness', '2s'] }, async (lab) => {
    const one = lab.host(1);
    await one.create({ name: 'front' });
    const near = await newBackend(lab, { host: 1, network: 'front', name: 'web-1' });
    const far = await newBackend(lab, { host: 2, network: 'front', name: 'web-2' });
    const client = await lab.sandbox();
    await one.attach('front', client);
    const made = await one.api.call<ServiceView>('POST', '/v1/services', { body });
    const to = { address: made.addresses[0] ?? '', count: 12 };
    const names = async (): Promise<string> =>
      Object.keys((await ask(client, to)).answers)
        .sort()
        .join();
    await waitFor('both backends', async () => (await names()) === 'web-1,web-2', 30_000);
    await lab.host(2).cut();
    await waitFor(
      'the living one alone',
      async () => {
        // So many that chance does not choose the living one for all while both are backends (one look in four thousand).
        const heard = await ask(client, to);
        return heard.failed === 0 && heard.answers['web-1'] === to.count;
      },
      30_000,
    );
    const view = await one.api.call<ServiceView>('GET', '/v1/services/web');
    t.same(view.endpoints.map(({ name, state }) => `${name ?? ''} ${state}`).sort(), ['web-1 ready', 'web-2 down']);
    await lab.host(2).mend();
    await waitFor('both again', async () => (await names()) === 'web-1,web-2', 30_000);
    for (const { program } of [near, far]) await program.end();
  });
});

t.test('services and hosts', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'a host that begins to carry a network serves its services from the first attach': async (t, lab) => {
        const [one, two] = [lab.host(1), lab.host(2)];
        await one.create({ name: 'front', ipv6: true });
        const backend = await newBackend(lab, { host: 1, network: 'front', name: 'web-1' });
        const made = await one.api.call<ServiceView>('POST', '/v1/services', { body });
        await one.published();
        const client = await lab.sandbox();
        await two.attach('front', client);
        for (const address of made.addresses) {
          const heard = await ask(client, { address, count: 5 });
          t.same([heard.failed, heard.answers], [0, { 'web-1': 5 }], `${address}: ${heard.errors.join()}`);
        }
        await two.detach('front', client);
        await backend.program.end();
      },
      'services go on while an agent is restarted, and while a policy is there': async (t, lab) => {
        const [one, two] = [lab.host(1), lab.host(2)];
        await one.create({ name: 'front' });
        const near = await newBackend(lab, { host: 1, network: 'front', name: 'web-1' });
        const far = await newBackend(lab, { host: 2, network: 'front', name: 'web-2' });
        const client = await lab.sandbox();
        const endpoint = await one.attach('front', client, { labels: { app: 'client' } });
        const made = await one.api.call<ServiceView>('POST', '/v1/services', { body });
        const address = made.addresses[0] ?? '';
        const both = async (): Promise<boolean> =>
          Object.keys((await ask(client, { address, count: 20 })).answers).length === 2;
        await waitFor('both backends', both, 30_000);
        const load = new ServiceProgram(client.enter, ['load', address, 80, 5]);
        await load.line(0);
        for (const host of [one, two]) {
          await host.agent.stop();
          await host.startAgent();
        }
        const heard = (await load.end()) as unknown as Heard;
        t.same([heard.failed, heard.errors], [0, []], 'no request failed');
        t.equal(Object.keys(heard.answers).length, 2);
        const policy = {
          name: 'only-client',
          selects: { matchLabels: { app: 'web' } },
          ingress: [{ peers: [{ endpoints: { matchLabels: { app: 'client' } } }], ports: [{ port: 8080 }] }],
        };
        await one.api.call('POST', '/v1/policies', { body: policy });
        const stranger = await lab.sandbox();
        await one.attach('front', stranger);
        await waitFor('the policy', async () => (await ask(stranger, { address, count: 1 })).failed === 1, 20_000);
        t.ok(await both(), 'the policy sees the client and the port of the backend');
        t.same((await ask(client, { address, count: 1 })).clients, [endpoint.addresses[0]]);
        await one.api.call('DELETE', '/v1/policies/only-client');
        await waitFor('no policy', async () => (await ask(stranger, { address, count: 1 })).failed === 0, 20_000);
        await one.api.call('DELETE', '/v1/services/web');
        for (const { program } of [near, far]) await program.end();
      },
      'a bridge network has services on its host': async (t, lab) => {
        const one = lab.host(1);
        await one.create({ name: 'front', driver: 'bridge', ipv6: true });
        const backends = [
          await newBackend(lab, { host: 1, network: 'front', name: 'web-1' }),
          await newBackend(lab, { host: 1, network: 'front', name: 'web-2' }),
        ];
        const client = await lab.sandbox();
        const endpoint = await one.attach('front', client);
        const made = await one.api.call<ServiceView>('POST', '/v1/services', {
          body: { ...body, selector: undefined, backends: ['web-1', 'web-2'] },
        });
        for (const [at, address] of made.addresses.entries()) {
          await waitFor('the service', async () => (await ask(client, { address, count: 1 })).failed === 0, 30_000);
          const heard = await ask(client, { address, count: 30 });
          t.same([heard.failed, Object.keys(heard.answers).length], [0, 2], address);
          t.same(heard.clients, [endpoint.addresses[at]], 'the backend sees the client');
        }
        for (const { program } of backends) await program.end();
        await waitFor(
          'nobody to listen',
          async () => (await ask(client, { address: made.addresses[0] ?? '', count: 1 })).failed === 1,
          30_000,
        );
        for (const { sandbox } of backends) await one.detach('front', sandbox);
        await waitFor(
          'no backend to be known',
          async () => (await one.api.call<ServiceView>('GET', '/v1/services/web')).endpoints.length === 0,
          30_000,
        );
        const heard = await ask(client, { address: made.addresses[0] ?? '', count: 1 });
        t.match(heard.errors, [/ECONNREFUSED/], 'refused, not left waiting');
      },
    },
  ),
);
