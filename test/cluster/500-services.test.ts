import t from 'tap';
import type { ServiceView } from '../../core/api/service.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { ask, newBackend, type Backend } from '../lab/service.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

const service = {
  name: 'web',
  network: 'front',
  ports: [
    { port: 80, target: 8080 },
    { port: 80, target: 8080, protocol: 'udp' },
  ],
  selector: { app: 'web' },
} as const;

t.test('a service spreads connections over backends of all hosts, which see the client', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const [one, two] = [lab.host(1), lab.host(2)];
    await one.create({ name: 'front', ipv6: true });
    const backends: Backend[] = [];
    for (const [host, name] of [
      [1, 'web-1'],
      [1, 'web-2'],
      [2, 'web-3'],
    ] as const)
      backends.push(await newBackend(lab, { host, network: 'front', name }));
    const [near, far] = [await lab.sandbox(), await lab.sandbox()];
    const clients = [
      [near, await one.attach('front', near)],
      [far, await two.attach('front', far)],
    ] as const;
    const made = await one.api.call<ServiceView>('POST', '/v1/services', { body: service });
    t.same(made.addresses.length, 2, 'an address of each family');
    for (const [sandbox, endpoint] of clients) {
      for (const address of made.addresses) {
        for (const protocol of ['tcp', 'udp'] as const) {
          const what = `${protocol} to ${address} from ${sandbox.name}`;
          const ready = async (): Promise<boolean> =>
            (await ask(sandbox, { address, count: 1, protocol })).failed === 0;
          await waitFor(`the service, ${what}`, ready, 30_000);
          const heard = await ask(sandbox, { address, count: 60, protocol });
          t.same(heard.failed, 0, `no failure, ${what} ${heard.errors.join()}`);
          t.same(Object.keys(heard.answers).sort(), ['web-1', 'web-2', 'web-3'], `all backends answer, ${what}`);
          const own = endpoint.addresses.find((each) => each.includes(':') === address.includes(':'));
          t.same(heard.clients, [own], `the backend sees the client, ${what}`);
        }
      }
    }
    for (const host of [one, two]) {
      const itself = { name: host.name, target: '', enter: enterArgs(netnsPath(host.netns)) };
      const ownAddresses = (await host.exec('ip', '-br', 'addr')).stdout;
      for (const address of made.addresses) {
        for (const protocol of ['tcp', 'udp'] as const) {
          const what = `${protocol} to ${address} from ${host.name} itself`;
          const heard = await ask(itself, { address, count: 60, protocol });
          t.same(heard.failed, 0, `no failure, ${what} ${heard.errors.join()}`);
          t.same(Object.keys(heard.answers).sort(), ['web-1', 'web-2', 'web-3'], `all backends answer, ${what}`);
          const [client = '', ...more] = heard.clients ?? [];
          t.ok(more.length === 0 && ownAddresses.includes(` ${client}/`), `from one address of the host, ${what}`);
          t.notOk(made.addresses.includes(client), 'which is not that of the service');
        }
      }
    }
    const refused = await ask(near, { address: made.addresses[0] ?? '', port: 81, count: 1 });
    t.match(refused.errors, [/ECONNREFUSED/], 'a port that is not of the service is refused');
    await one.create({ name: 'other', ipv6: true });
    const alien = await lab.sandbox();
    await one.attach('other', alien);
    for (const address of made.addresses) {
      const { failed } = await ask(alien, { address, count: 1 });
      t.equal(failed, 1, `a sandbox of another network does not reach ${address}`);
    }
    const [first] = backends;
    if (first !== undefined) {
      for (const address of made.addresses) {
        const heard = await ask(first.sandbox, { address, count: 30 });
        t.same(heard.failed, 0, `a backend reaches its own service at ${address}`);
        t.ok((heard.answers['web-1'] ?? 0) > 0, 'itself included');
      }
    }
    const view = await one.api.call<ServiceView>('GET', '/v1/services/web.front');
    t.same(view.endpoints.map(({ name, state }) => `${name ?? ''} ${state}`).sort(), [
      'web-1 ready',
      'web-2 ready',
      'web-3 ready',
    ]);
    for (const { program } of backends) await program.end();
    await one.api.call('DELETE', '/v1/services/web');
    for (const host of [one, two])
      await waitFor(
        `${host.name} to keep nothing of it`,
        async () => !(await host.exec('nft', 'list', 'ruleset')).stdout.includes('tsnet-services'),
        30_000,
      );
    for (const address of made.addresses)
      await waitFor(`${address} to go`, async () => !(await one.exec('ip', 'addr')).stdout.includes(`${address}/`));
  });
});
