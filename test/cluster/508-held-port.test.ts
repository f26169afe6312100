import t from 'tap';
import type { ServiceView } from '../../core/api/service.js';
import { ask, newBackend, ServiceProgram } from '../lab/service.js';
import { place } from '../lab/place.js';
import { underlayAddress } from '../lab/underlay.js';
import { execIn } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

const soon = (what: string, ask: () => Promise<boolean>): Promise<unknown> => waitFor(what, ask, 30_000);

t.test('a port that something on a host has is not taken from it by a service', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const [one, two] = [lab.host(1), lab.host(2)];
    await one.create({ name: 'front' });
    const backend = await newBackend(lab, { host: 1, network: 'front', name: 'web' });
    const published = await newBackend(
      lab,
      { host: 2, network: 'front', name: 'own-port', port: 9090 },
      { labels: {}, ports: [{ hostPort: 8889, port: 9090 }] },
    );
    const listener = new ServiceProgram(place(lab, 'h2').enter, ['serve', 'process', 8888]);
    await listener.line(0);

    const lan = place(lab, 'lan');
    const answers = async (number: number, port: number): Promise<string> =>
      Object.keys((await ask(lan, { address: underlayAddress(number), port, count: 2 })).answers).join();
    const view = (): Promise<ServiceView> => two.api.call<ServiceView>('GET', '/v1/services/web');
    const heldOf = async (): Promise<string> =>
      ((await view()).held ?? []).map(({ host, hostPort, protocol }) => `${host} ${hostPort}/${protocol}`).join();

    const create = 'service create web --network front --port 80:8080 --selector app=web --publish 8888:80'.split(' ');
    const refused = await two.tsnet(...create);
    t.equal(refused.status, 1, 'refused where it can be known at once');
    t.match(refused.stderr, /publish: port 8888\/tcp is held on host h2 by process .*pid \d+/);
    t.equal((await one.tsnet(...create)).status, 0, 'another host does not know of it');
    await soon('the service on the other host', async () => (await answers(11, 8888)) === 'web');
    await soon('the host to have said so', async () => (await heldOf()) === 'h2 8888/tcp');
    t.match((await view()).held?.[0]?.holder, /^process .* \(pid \d+\), which listens on .*:8888\/tcp$/);
    t.equal(await answers(12, 8888), 'process', 'the process still has its port');
    t.match((await two.status()).warnings, [
      { code: 'ERR_PORT_IN_USE', message: /port 8888\/tcp does not lead to service web .* held by process/ },
    ]);
    t.notMatch((await one.status()).warnings, [{ code: 'ERR_PORT_IN_USE' }], 'where it is free nothing is wrong');
    const wide = await one.tsnet('service', 'ls', '-o', 'wide');
    t.match(wide.stdout, /8888\/tcp@h2/);

    const alsoEndpoints = ['service', 'set', 'web', '--publish', '8888:80', '--publish', '8889:80'];
    const alsoRefused = await two.tsnet(...alsoEndpoints);
    t.match(alsoRefused, { status: 1, stderr: /8889\/tcp is held on host h2 by endpoint own-port/ });
    t.equal((await one.tsnet(...alsoEndpoints)).status, 0, 'nor of what another host has published');
    await soon('both to be held', async () => (await heldOf()) === 'h2 8888/tcp,h2 8889/tcp');
    await soon('the new port', async () => (await answers(11, 8889)) === 'web');
    t.equal(await answers(12, 8889), 'own-port', 'the endpoint still has its port');

    const late = new ServiceProgram(place(lab, 'h1').enter, ['serve', 'late', 8888]);
    await late.line(0);
    for (const host of [one, two]) {
      await host.agent.stop();
      await host.startAgent();
    }
    t.equal(await answers(12, 8888), 'process', 'also after a restart of the agent');
    t.equal(await answers(12, 8889), 'own-port');
    t.equal(await answers(11, 8888), 'web', 'who listens later takes nothing from the service');
    t.equal(await heldOf(), 'h2 8888/tcp,h2 8889/tcp');

    await listener.end();
    await two.api.call('POST', '/v1/agent/detach', { body: { network: 'front', id: published.endpoint.callerId } });
    const other = await newBackend(lab, { host: 2, network: 'front', name: 'web-2' });
    await soon("the ports to be the service's", async () => (await heldOf()) === '');
    for (const port of [8888, 8889])
      await soon(`port ${port} to lead to the service`, async () => /^web/.test(await answers(12, port)));
    t.notMatch((await two.status()).warnings, [{ code: 'ERR_PORT_IN_USE' }]);
    for (const program of [late, backend.program, published.program, other.program]) await program.end();
  });
});

t.test('a service does not take the name server’s port, and sandboxes go on to look up names', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const [one, two] = [lab.host(1), lab.host(2)];
    const { subnets } = await one.create({ name: 'front', ipv6: true });
    const backend = await newBackend(lab, { host: 1, network: 'front', name: 'web' });
    const publish = (protocol: string): string[] =>
      `service create ${protocol} --network front --port 80:8080/${protocol} --selector app=web`
        .split(' ')
        .concat('--publish', '53:80');
    for (const protocol of ['udp', 'tcp']) {
      const refused = await one.tsnet(...publish(protocol));
      t.match(refused, {
        status: 1,
        stderr: `publish: port 53/${protocol} is held on host h1 by the name server of tsnet`,
      });
      t.equal((await two.tsnet(...publish(protocol))).status, 0, 'a host that is not on the network does not know');
      await soon('the host to have said so', async () => {
        const { held = [] } = await one.api.call<ServiceView>('GET', `/v1/services/${protocol}`);
        return held.some((port) => port.host === 'h1' && port.hostPort === 53);
      });
    }
    const client = await lab.sandbox();
    await one.attach('front', client);
    for (const { gateway } of subnets)
      for (const transport of ['+notcp', '+tcp'])
        await soon(`an answer of ${gateway} by ${transport}`, async () => {
          const words = ['+short', '+tries=1', '+time=2', transport, `@${gateway}`, 'web', 'A'];
          return (await execIn(client, 'dig', ...words)).stdout.startsWith('10.');
        });
    await backend.program.end();
  });
});
