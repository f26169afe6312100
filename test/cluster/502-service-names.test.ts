import t from 'tap';
import type { ServiceView } from '../../core/api/service.js';
import { execIn, type Sandbox } from '../lab/sandbox.js';
import { newBackend } from '../lab/service.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

async function dig(from: Sandbox, server: string, ...words: string[]): Promise<string[]> {
  const { stdout } = await execIn(from, 'dig', '+short', '+tries=2', '+time=5', `@${server}`, ...words);
  return stdout
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith(';'))
    .sort();
}

const soon = (what: string, ask: () => Promise<boolean>): Promise<unknown> => waitFor(what, ask, 30_000);

t.test('names of services', (t) =>
  withSharedLab(
    t,
    { hosts: 2, agentArgs: ['--dns-upstream', '127.0.0.1#9'] },
    {
      'the name of a service is its address, or with dnsrr those of its healthy backends': async (t, lab) => {
        const [h1, h2] = [lab.host(1), lab.host(2)];
        const front = await h1.create({ name: 'front', ipv6: true });
        const gateway = front.subnets[0]?.gateway ?? '';
        const one = await newBackend(lab, { host: 1, network: 'front', name: 'one' }, { aliases: ['web'] });
        const two = await newBackend(lab, { host: 2, network: 'front', name: 'two' });
        const client = await lab.sandbox();
        await h2.attach('front', client, { name: 'client' });
        const body = { network: 'front', ports: [{ port: 8080 }], selector: { app: 'web' } };
        const vip = await h1.api.call<ServiceView>('POST', '/v1/services', { body: { ...body, name: 'web' } });
        const [v4 = '', v6 = ''] = vip.addresses;
        await soon(
          'the service to go before an endpoint of its name',
          async () => (await dig(client, gateway, 'web', 'A')).join() === v4,
        );
        t.same(await dig(client, gateway, 'web.front.tsnet.internal', 'AAAA'), [v6]);
        t.same(await dig(client, gateway, '-x', v4), ['web.front.tsnet.internal.'], 'PTR');
        t.same(await dig(client, gateway, '_8080._tcp.web', 'SRV'), ['0 0 8080 web.front.tsnet.internal.'], 'SRV');

        const health = { type: 'http', path: '/healthz' };
        await h1.api.call('POST', '/v1/services', { body: { ...body, name: 'each', mode: 'dnsrr', health } });
        const addressOf = (at: number): string => [one, two][at]?.endpoint.addresses[0] ?? '';
        const all = [addressOf(0), addressOf(1)].sort().join();
        await soon('both backends by name', async () => (await dig(client, gateway, 'each', 'A')).join() === all);
        t.same((await dig(client, gateway, '_8080._tcp.each', 'SRV')).length, 2, 'a target for each backend');
        two.program.say('fail');
        await soon(
          'the failing one to be gone',
          async () => (await dig(client, gateway, 'each', 'A')).join() === addressOf(0),
        );
        two.program.say('recover');
        await soon('it to be back', async () => (await dig(client, gateway, 'each', 'A')).join() === all);
        t.same(
          await dig(client, gateway, 'client', 'A'),
          [
            (await h2.api.call<{ addresses: string[]; name: string }[]>('GET', '/v1/agent/endpoints')).find(
              ({ name }) => name === 'client',
            )?.addresses[0],
          ],
          'others are answered as ever',
        );
        for (const name of ['web', 'each']) await h1.api.call('DELETE', `/v1/services/${name}`);
        await soon(
          'the endpoint of that name to be answered again',
          async () => (await dig(client, gateway, 'web', 'A')).join() === addressOf(0),
        );
        await soon('dnsrr to be gone', async () => (await dig(client, gateway, 'each', 'A')).length === 0);
        for (const { program } of [one, two]) await program.end();
      },
      'on macvlan a service is a name for its backends, and has no address': async (t, lab) => {
        const [h1, h2] = [lab.host(1), lab.host(2)];
        await h1.create({
          name: 'lan',
          driver: 'macvlan',
          subnets: [{ subnet: '198.18.64.0/24' }],
          options: { parent: 'eth0' },
        });
        const client = await lab.sandbox();
        await h2.attach('lan', client, { name: 'client' });
        const one = await newBackend(lab, { host: 1, network: 'lan', name: 'one' });
        const body = { name: 'web', network: 'lan', ports: [{ port: 8080 }], selector: { app: 'web' } };
        const create = (more: object): Promise<ServiceView> =>
          h1.api.call('POST', '/v1/services', { body: { ...body, ...more } });
        await t.rejects(create({}), { code: 'ERR_DRIVER_UNSUPPORTED' });
        await t.rejects(create({ mode: 'dnsrr', health: { type: 'tcp' } }), { code: 'ERR_DRIVER_UNSUPPORTED' });
        await create({ mode: 'dnsrr' });
        const asked = (): Promise<string[]> => dig(client, '127.0.0.153', 'web', 'A');
        const [first = ''] = one.endpoint.addresses;
        await soon('the backend', async () => (await asked()).join() === first);
        const two = await newBackend(lab, { host: 2, network: 'lan', name: 'two' });
        const all = [first, two.endpoint.addresses[0] ?? ''].sort().join();
        await soon('one more', async () => (await asked()).join() === all);
        await h1.detach('lan', one.sandbox);
        await soon('one less', async () => (await asked()).join() === two.endpoint.addresses[0]);
        for (const { program } of [one, two]) await program.end();
      },
    },
  ),
);
