import t from 'tap';
import type { HostView } from '../../core/api/host.js';
import type { NetworkView } from '../../core/api/network.js';
import { reaches } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

const quick = ['--liveness', '2s'];

t.test('controllers on one etcd are equal, and hosts go on with the ones that are left', async (t) => {
  await withLab(t, { hosts: 2, controllers: 2, controllerArgs: quick }, async (lab) => {
    const [one, two] = [lab.host(1), lab.host(2)];
    const made = await Promise.allSettled(
      [1, 2].map((number) => lab.controller(number).api.call('POST', '/v1/networks', { body: { name: 'net' } })),
    );
    t.equal(made.filter(({ status }) => status === 'fulfilled').length, 1, 'one name is given once, whoever is asked');
    const created = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        lab.controller((index % 2) + 1).api.call<NetworkView>('POST', '/v1/networks', { body: { name: `n${index}` } }),
      ),
    );
    t.equal(new Set(created.map(({ vni }) => vni)).size, 20, 'no VNI twice');
    t.equal(new Set(created.map(({ subnets }) => subnets[0]?.subnet)).size, 20, 'no subnet twice');

    await lab.controller(1).daemon.kill();
    const [near, far] = [await lab.sandbox(), await lab.sandbox()];
    await one.attach('net', near);
    const { addresses } = await two.attach('net', far);
    for (const address of addresses) await reaches(near, address);
    for (const host of lab.hosts) {
      await host.waitForAgent(
        `${host.name} to have the other controller`,
        ({ controller }) => controller?.includes('7421') === true,
      );
      await host.published();
    }
    await waitFor('both hosts to be up', async () => {
      const hosts = await lab.controller(2).api.call<HostView[]>('GET', '/v1/hosts');
      return hosts.length === 2 && hosts.every(({ state }) => state === 'up');
    });
  });
});

t.test('a host that dies is down within the liveness bound, and is removed by the operator only', async (t) => {
  await withLab(t, { hosts: 2, controllerArgs: quick }, async (lab) => {
    const stateOf = async (name: string): Promise<string | undefined> =>
      (await lab.controller().api.call<HostView[]>('GET', '/v1/hosts')).find((host) => host.name === name)?.state;
    await waitFor('h2 to be up', async () => (await stateOf('h2')) === 'up');
    t.equal((await lab.admin('host', 'rm', 'h2')).status, 1, 'a live host is not removed');
    await lab.host(2).agent.kill();
    await waitFor('h2 to be down', async () => (await stateOf('h2')) === 'down', 20_000);
    t.equal((await lab.host(1).tsnet('host', 'rm', 'h2')).status, 1, 'hosts may not remove hosts');
    t.equal((await lab.admin('host', 'rm', 'h2')).status, 0);
    t.equal(await stateOf('h2'), undefined);
  });
});

t.test('agents without the host token are refused', async (t) => {
  await withLab(t, { hosts: 1 }, async (lab) => {
    const host = lab.host(1);
    const answer = async (...args: string[]): Promise<string> => {
      const { stdout } = await host.exec(
        'busybox',
        'wget',
        '-S',
        '-O',
        '-',
        ...args,
        `${lab.controller().url}/v1/networks`,
      );
      return stdout;
    };
    t.equal(await answer(), '', 'over the wire nothing is told without a token');
    const result = await host.exec(host.options.tsnet, 'ls', '--controller', lab.controller().url);
    t.match(result.stderr, /token/);
  });
});
