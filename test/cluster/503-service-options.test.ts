import t from 'tap';
import type { ServiceView } from '../../core/api/service.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import type { Lab } from '../lab/lab.js';
import type { Sandbox } from '../lab/sandbox.js';
import { ask, newBackend, type Backend } from '../lab/service.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

function place(lab: Lab, name: string): Sandbox {
  const netns = `${lab.prefix}${name}`;
  return { name, target: `netns:${netnsPath(netns)}`, enter: enterArgs(netnsPath(netns)) };
}

async function newBackends(lab: Lab): Promise<Backend[]> {
  const backends: Backend[] = [];
  for (const [host, name] of [
    [1, 'web-1'],
    [2, 'web-2'],
    [2, 'web-3'],
  ] as const)
    backends.push(await newBackend(lab, { host, network: 'front', name }));
  return backends;
}

const body = { name: 'web', network: 'front', ports: [{ port: 80, target: 8080 }], selector: { app: 'web' } };

t.test('options of services', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'with affinity a client keeps its backend while others come and go': async (t, lab) => {
        await lab.host(1).create({ name: 'front', ipv6: true });
        // Frames pass the IP chains because the network has a service, not because the host shows all of them.
        for (const host of lab.hosts)
          await host.exec(
            'sysctl',
            '-qw',
            'net.bridge.bridge-nf-call-iptables=0',
            'net.bridge.bridge-nf-call-ip6tables=0',
          );
        const backends = await newBackends(lab);
        const clients: Sandbox[] = [];
        for (let number = 0; number < 6; number++) {
          const client = await lab.sandbox();
          await lab.host(1 + (number % 2)).attach('front', client);
          clients.push(client);
        }
        // All that a host hears of the service it hears behind its backends: from then on none is added.
        for (const host of lab.hosts) await host.published();
        // A late one of its block: what a host gives out by itself it takes from the beginning.
        const service = { ...body, affinity: 'client-ip', addresses: ['10.64.3.206'] };
        const made = await lab.host(1).api.call<ServiceView>('POST', '/v1/services', { body: service });
        t.equal(made.addresses[0], '10.64.3.206', 'the address that was asked for');
        const heardBy = async (client: Sandbox, address: string): Promise<string[]> =>
          Object.keys((await ask(client, { address, count: 8 })).answers).sort();
        const kept = new Map<string, string>();
        for (const client of clients) {
          for (const address of made.addresses) {
            await waitFor('an answer', async () => (await heardBy(client, address)).length > 0, 30_000);
            const names = await heardBy(client, address);
            t.equal(names.length, 1, `${client.name} hears one backend at ${address}`);
            kept.set(`${client.name} ${address}`, names[0] ?? '');
          }
        }
        t.ok(new Set(kept.values()).size > 1, 'and not all the same one');
        const gone = backends[1];
        if (gone === undefined) return;
        gone.program.kill();
        await lab
          .host(2)
          .api.call('POST', '/v1/agent/detach', { body: { network: 'front', id: gone.endpoint.callerId } });
        for (const client of clients) {
          for (const address of made.addresses) {
            const before = kept.get(`${client.name} ${address}`);
            await waitFor(
              'the one that is gone to be left',
              async () => !(await heardBy(client, address)).includes('web-2'),
              30_000,
            );
            const now = await heardBy(client, address);
            if (before !== 'web-2') t.same(now, [before], `${client.name} keeps ${before ?? ''}`);
            else t.equal(now.length, 1, `${client.name} has one backend again`);
          }
        }
        for (const { program } of backends) await program.end();
      },
      'a published service is reached by every host of the network': async (t, lab) => {
        await lab.host(1).create({ name: 'front', ipv6: true });
        const backends = await newBackends(lab);
        const ports = [
          { port: 80, target: 8080 },
          { port: 80, target: 8080, protocol: 'udp' },
        ];
        const service = { ...body, ports, publish: [{ hostPort: 8888, port: 80 }] };
        await lab.host(1).api.call<ServiceView>('POST', '/v1/services', { body: service });
        for (const number of [11, 12]) {
          for (const address of [underlayAddress(number), underlayAddress6(number)]) {
            for (const from of [place(lab, 'lan'), place(lab, 'h1')]) {
              for (const protocol of ['tcp', 'udp'] as const) {
                const what = `${protocol} at ${address} from ${from.name}`;
                const one = { address, port: 8888, count: 1, protocol };
                await waitFor(`an answer, ${what}`, async () => (await ask(from, one)).failed === 0, 20_000);
                const heard = await ask(from, { ...one, count: 40 });
                t.same(heard.failed, 0, `no failure, ${what}: ${heard.errors.join()}`);
                t.same(Object.keys(heard.answers).sort(), ['web-1', 'web-2', 'web-3'], `all backends, ${what}`);
              }
            }
          }
        }
        for (const name of ['h1', 'h2']) {
          const heard = await ask(place(lab, name), { address: '127.0.0.1', port: 8888, count: 40 });
          t.same([heard.failed, Object.keys(heard.answers).length], [0, 3], `by 127.0.0.1 of ${name}`);
          const refused = await ask(place(lab, name), { address: '::1', port: 8888, count: 1 });
          t.match(refused.errors, [/ECONNREFUSED/], 'by [::1], which nothing leads on, it is refused at once');
        }
        const client = await lab.sandbox();
        const attach = lab.host(1).attach('front', client, { ports: [{ hostPort: 8888, port: 80 }] as never });
        await t.rejects(attach, { code: 'ERR_PORT_IN_USE' }, 'no endpoint can have that port');
        for (const { program } of backends) await program.end();
      },
    },
  ),
);
