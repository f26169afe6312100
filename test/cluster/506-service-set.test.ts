import t from 'tap';
import type { ServiceView } from '../../core/api/service.js';
import { ask, newBackend, ServiceProgram, type Heard } from '../lab/service.js';
import type { Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

const soon = (what: string, ask: () => Promise<boolean>): Promise<unknown> => waitFor(what, ask, 30_000);

/** A connection with one request done. */
async function holdOn(client: Sandbox, address: string): Promise<ServiceProgram> {
  const program = new ServiceProgram(client.enter, ['hold', address, 80]);
  await program.line(0);
  program.say('first');
  await program.line(1);
  return program;
}

t.test('a change of a service', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'a service is changed in place, under load and without one failed request': async (t, lab) => {
        const [one, two] = [lab.host(1), lab.host(2)];
        await one.create({ name: 'front' });
        const at = { network: 'front' };
        const blue = await newBackend(lab, { ...at, host: 1, name: 'blue' }, { labels: { app: 'web', version: '1' } });
        const green = await newBackend(
          lab,
          { ...at, host: 2, name: 'green' },
          { labels: { app: 'web', version: '2' } },
        );
        const late = await newBackend(lab, { ...at, host: 2, name: 'late', port: 9090 }, { labels: { app: 'late' } });
        const client = await lab.sandbox();
        await two.attach('front', client);
        const set = async (...words: string[]): Promise<ServiceView> => {
          const { status, stdout, stderr } = await one.tsnet('service', 'set', 'web', ...words, '-o', 'json');
          t.equal(status, 0, `${words.join(' ')} ${stderr}`);
          return JSON.parse(stdout) as ServiceView;
        };
        const create =
          'service create web --network front --port 80:8080 --port 80:8080/udp --selector version=1 --drain 60s';
        t.equal((await one.tsnet(...create.split(' '))).status, 0);
        const made = await one.api.call<ServiceView>('GET', '/v1/services/web');
        const [address = ''] = made.addresses;
        const names = async (protocol: 'tcp' | 'udp' = 'tcp'): Promise<string> =>
          Object.keys((await ask(client, { address, count: 12, protocol })).answers)
            .sort()
            .join();
        await soon('blue', async () => (await names()) === 'blue');
        const held = await holdOn(client, address);
        const load = new ServiceProgram(client.enter, ['load', address, 80, 5]);
        await load.line(0);

        t.same((await set('--selector', 'app=web')).addresses, made.addresses, 'it keeps its address');
        await soon('both', async () => (await names()) === 'blue,green');
        t.match(await set('--health', 'http:/healthz'), {
          health: { type: 'http', path: '/healthz' },
          affinity: 'none',
        });
        await soon('both to pass', async () =>
          (await one.api.call<ServiceView>('GET', '/v1/services/web')).endpoints.every(
            ({ state }) => state === 'ready',
          ),
        );
        await set('--affinity', 'client-ip', '--publish', '8088:80');
        await soon('one for each client', async () => !(await names()).includes(','));
        await set('--affinity', 'none', '--backend', 'green');
        await soon('green alone', async () => (await names()) === 'green');
        t.equal(await names('udp'), 'green', 'datagrams too');
        held.say('again');
        t.equal((await held.line(held.lines.length))['name'], 'blue', 'what was connected goes on');
        await held.end();
        t.notOk('health' in (await set('--no-health', '--no-publish')), 'no longer checked');
        const heard = (await load.end()) as unknown as Heard;
        t.same([heard.failed, heard.errors], [0, []], 'no request failed');

        await set('--port', '80:9090', '--port', '81:8080', '--backend', 'late', '--backend', 'green');
        await soon(
          'the other port',
          async () => (await ask(client, { address, port: 81, count: 6 })).answers['green'] !== undefined,
        );
        await set('--backend', 'late', '--port', '80:9090');
        await soon('late alone', async () => (await names()) === 'late');
        const refused = await ask(client, { address, port: 81, count: 1 });
        t.match(refused.errors, [/ECONNREFUSED/], 'a port that is gone is refused');
        const view = await one.api.call<ServiceView>('GET', '/v1/services/web');
        t.match(view, { backends: ['late'], drainMs: 60_000, affinity: 'none', createdAt: made.createdAt });
        t.same(view.ports, [{ port: 80, target: 9090, protocol: 'tcp' }]);
        t.notOk('selector' in view || 'publish' in view);
        const stale = await one.tsnet('service', 'set', 'web', '--affinity', 'client-ip', '--generation', '1');
        t.equal(stale.status, 1);
        t.match(stale.stderr, /generation/);
        for (const { program } of [blue, green, late]) await program.end();
      },
      'what is connected to an endpoint that a service no longer selects ends at the deadline': async (t, lab) => {
        const [one, two] = [lab.host(1), lab.host(2)];
        await one.create({ name: 'front' });
        const old = await newBackend(lab, { host: 1, network: 'front', name: 'web-1' });
        const client = await lab.sandbox();
        await two.attach('front', client);
        const body = { name: 'web', network: 'front', ports: [{ port: 80, target: 8080 }], selector: { app: 'web' } };
        const made = await one.api.call<ServiceView>('POST', '/v1/services', { body: { ...body, drainMs: 8000 } });
        const [address = ''] = made.addresses;
        await soon('the service', async () => (await ask(client, { address, count: 1 })).failed === 0);
        const held = await holdOn(client, address);
        t.equal((await one.tsnet('endpoint', 'set', 'web-1', '--label', 'app-')).status, 0);
        await soon('no backend', async () => (await ask(client, { address, count: 1 })).failed === 1);
        held.say('again');
        t.equal((await held.line(held.lines.length))['name'], 'web-1', 'it goes on');
        const isOver = async (): Promise<boolean> => {
          held.say('more');
          return (await held.line(held.lines.length))['name'] !== 'web-1';
        };
        await soon('its end', isOver);
        await held.end();
        await old.program.end();
      },
    },
  ),
);
