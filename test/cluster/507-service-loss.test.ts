import t from 'tap';
import type { ServiceView } from '../../core/api/service.js';
import { place } from '../lab/place.js';
import type { Sandbox } from '../lab/sandbox.js';
import { ask, newBackend, ServiceProgram, type Heard } from '../lab/service.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

const body = { name: 'web', network: 'front', ports: [{ port: 80, target: 8080 }], selector: { app: 'web' } } as const;

t.test('the loss of backends', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'a backend that vanishes under load is left by all clients, and what was connected to it hears so': async (
        t,
        lab,
      ) => {
        const [one, two] = [lab.host(1), lab.host(2)];
        await one.create({ name: 'front', ipv6: true });
        const lost = await newBackend(lab, { host: 2, network: 'front', name: 'web-1' });
        const kept = await newBackend(lab, { host: 1, network: 'front', name: 'web-2' });
        const client = await lab.sandbox();
        await one.attach('front', client);
        const made = await one.api.call<ServiceView>('POST', '/v1/services', { body });
        const names = async (address: string): Promise<string> =>
          Object.keys((await ask(client, { address, count: 12 })).answers)
            .sort()
            .join();
        for (const address of made.addresses)
          await waitFor(`both at ${address}`, async () => (await names(address)) === 'web-1,web-2', 20_000);
        const [address = ''] = made.addresses;
        const held: ServiceProgram[] = [];
        let name: unknown;
        while (name !== 'web-1' && held.length < 40) {
          const program = new ServiceProgram(client.enter, ['hold', address, 80]);
          held.push(program);
          await program.line(0);
          program.say('first');
          ({ name } = await program.line(1));
        }
        const load = new ServiceProgram(client.enter, ['load', address, 80, 10]);
        await load.line(0);
        // No farewell: its process is killed, and its endpoint taken away without a drain.
        lost.program.kill();
        await two.api.call('POST', '/v1/agent/detach', { body: { network: 'front', id: lost.endpoint.callerId } });
        for (const each of made.addresses)
          await waitFor(`it to be left at ${each}`, async () => (await names(each)) === 'web-2', 20_000);
        const holder = held.at(-1);
        holder?.say('again');
        const next = await holder?.line(holder.lines.length);
        t.not(next?.['name'], 'web-1', 'what was connected to it is not left waiting');
        const after = await ask(client, { address, count: 40 });
        t.same([after.failed, after.answers], [0, { 'web-2': 40 }]);
        const heard = (await load.end()) as unknown as Heard;
        t.ok((heard.answers['web-2'] ?? 0) > 0, 'and requests go on');
        t.same((await one.api.call<ServiceView>('GET', '/v1/services/web')).endpoints.length, 1);
        for (const program of held) await program.end();
        await kept.program.end();
      },
      'connections by published ports end with their backend, those to other services of the same port do not': async (
        t,
        lab,
      ) => {
        const [one, two] = [lab.host(1), lab.host(2)];
        await one.create({ name: 'front', ipv6: true });
        const lost = await newBackend(lab, { host: 2, network: 'front', name: 'web-1' });
        const labels = { app: 'beside' };
        const old = await newBackend(lab, { host: 1, network: 'front', name: 'old' }, { labels });
        const client = await lab.sandbox();
        await one.attach('front', client);
        const publish = [80, 8080].map((hostPort) => ({ hostPort, port: 80 }));
        await one.api.call<ServiceView>('POST', '/v1/services', { body: { ...body, publish } });
        const beside = { ...body, name: 'beside', ports: [{ port: 8080 }], selector: labels, drainMs: 60_000 };
        const { addresses } = await one.api.call<ServiceView>('POST', '/v1/services', { body: beside });
        const hold = async (from: Sandbox, address: string, port: number): Promise<ServiceProgram> => {
          await waitFor(
            `${address} port ${port}`,
            async () => (await ask(from, { address, port, count: 1 })).failed === 0,
            20_000,
          );
          const program = new ServiceProgram(from.enter, ['hold', address, port]);
          await program.line(0);
          program.say('first');
          await program.line(1);
          return program;
        };
        const others = [];
        for (const address of addresses) others.push(await hold(client, address, 8080));
        // A connection that is forgotten and found again in mid-stream would go on with the one backend there is.
        const next = await newBackend(lab, { host: 1, network: 'front', name: 'next' }, { labels });
        await one.api.call('PATCH', '/v1/services/beside', { body: { drain: ['old'] } });
        for (const address of addresses)
          await waitFor(
            `the other backend at ${address}`,
            async () => (await ask(client, { address, port: 8080, count: 8 })).answers['next'] === 8,
            20_000,
          );
        const published = [];
        for (const address of [underlayAddress(11), underlayAddress6(12)])
          for (const { hostPort } of publish) published.push(await hold(place(lab, 'lan'), address, hostPort));

        lost.program.kill();
        await two.api.call('POST', '/v1/agent/detach', { body: { network: 'front', id: lost.endpoint.callerId } });
        for (const program of published) {
          program.say('again');
          const { error } = await program.line(program.lines.length);
          t.match(error, /ECONNRE|hang up/, 'they hear that it is gone, and are not left waiting');
          await program.end();
        }
        await one.api.call('DELETE', '/v1/services/web');
        for (const host of [one, two])
          await waitFor(
            `${host.name} to lead its ports nowhere`,
            async () =>
              !(await host.exec('nft', 'list', 'map', 'inet', 'tsnet-services', 'pub4')).stdout.includes('jump'),
            20_000,
          );
        for (const program of others) {
          program.say('again');
          t.equal((await program.line(program.lines.length))['name'], 'old', 'what is connected to the other goes on');
          await program.end();
        }
        for (const { program } of [old, next]) await program.end();
      },
      'a service whose last backend goes refuses at once, and serves the next one at once': async (_t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'front' });
        const client = await lab.sandbox();
        await host.attach('front', client);
        const made = await host.api.call<ServiceView>('POST', '/v1/services', { body });
        const [address = ''] = made.addresses;
        const refused = async (): Promise<boolean> =>
          /ECONNREFUSED/.test((await ask(client, { address, count: 1 })).errors.join());
        await waitFor('to be refused without any', refused, 20_000);
        for (const name of ['web-1', 'web-2']) {
          const backend = await newBackend(lab, { host: 1, network: 'front', name });
          await waitFor(
            `${name} to answer`,
            async () => (await ask(client, { address, count: 1 })).failed === 0,
            20_000,
          );
          await host.detach('front', backend.sandbox);
          await waitFor('to be refused again', refused, 20_000);
          await backend.program.end();
        }
      },
    },
  ),
);
