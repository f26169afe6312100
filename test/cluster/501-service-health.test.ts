import t, { type Test } from 'tap';
import type { ServiceView } from '../../core/api/service.js';
import type { Lab } from '../lab/lab.js';
import { ask, newBackend, ServiceProgram, type Heard } from '../lab/service.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

async function statesOf(lab: Lab): Promise<string[]> {
  const view = await lab.host(1).api.call<ServiceView>('GET', '/v1/services/web');
  return view.endpoints.map(({ name, state }) => `${name ?? ''} ${state}`).sort();
}

const waitForStates = (lab: Lab, wanted: readonly string[]): Promise<boolean> =>
  waitFor(`backends to be ${wanted.join(', ')}`, async () => (await statesOf(lab)).join() === wanted.join(), 20_000);

async function namesHeard(heard: Promise<Heard>): Promise<string[]> {
  return Object.keys((await heard).answers).sort();
}

const body = {
  name: 'web',
  network: 'front',
  ports: [{ port: 80, target: 8080 }],
  selector: { app: 'web' },
  drainMs: 8000,
} as const;

/** A connection that leads to one backend. */
async function holdOn(
  client: { readonly enter: readonly string[] },
  address: string,
  name: string,
): Promise<ServiceProgram> {
  for (let attempt = 0; attempt < 40; attempt++) {
    const program = new ServiceProgram(client.enter, ['hold', address, 80]);
    await program.line(0);
    program.say('first');
    if ((await program.line(1))['name'] === name) return program;
    await program.end();
  }
  throw new Error(`no connection to ${name}`);
}

async function holds(t: Test, held: ServiceProgram): Promise<void> {
  held.say('again');
  t.equal((await held.line(held.lines.length))['name'], 'web-1', 'what was connected goes on');
}

t.test('the health of backends', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'a backend whose health check fails gets no connections until it passes again': async (_t, lab) => {
        await lab.host(1).create({ name: 'front' });
        const one = await newBackend(lab, { host: 1, network: 'front', name: 'web-1' });
        const two = await newBackend(lab, { host: 2, network: 'front', name: 'web-2' });
        const client = await lab.sandbox();
        await lab.host(1).attach('front', client);
        const health = { type: 'http', path: '/healthz' };
        const made = await lab.host(1).api.call<ServiceView>('POST', '/v1/services', { body: { ...body, health } });
        const to = { address: made.addresses[0] ?? '', count: 30 };
        await waitForStates(lab, ['web-1 ready', 'web-2 ready']);
        await waitFor('both to answer', async () => (await namesHeard(ask(client, to))).length === 2, 30_000);
        two.program.say('fail');
        await waitForStates(lab, ['web-1 ready', 'web-2 failing']);
        await waitFor('one to answer', async () => (await namesHeard(ask(client, to))).join() === 'web-1', 30_000);
        two.program.say('recover');
        await waitForStates(lab, ['web-1 ready', 'web-2 ready']);
        await waitFor('both to answer', async () => (await namesHeard(ask(client, to))).length === 2, 30_000);
        one.program.kill();
        await waitForStates(lab, ['web-1 failing', 'web-2 ready']);
        await waitFor('one to answer', async () => (await namesHeard(ask(client, to))).join() === 'web-2', 30_000);
        for (const { program } of [one, two]) await program.end();
      },
      'a backend is replaced under load without one failed request': async (t, lab) => {
        await lab.host(1).create({ name: 'front' });
        const old = await newBackend(lab, { host: 2, network: 'front', name: 'web-1' });
        const kept = await newBackend(lab, { host: 1, network: 'front', name: 'web-2' });
        const client = await lab.sandbox();
        await lab.host(1).attach('front', client);
        const made = await lab
          .host(1)
          .api.call<ServiceView>('POST', '/v1/services', { body: { ...body, health: { type: 'tcp' } } });
        const address = made.addresses[0] ?? '';
        await waitForStates(lab, ['web-1 ready', 'web-2 ready']);
        await waitFor(
          'both to answer',
          async () => (await namesHeard(ask(client, { address, count: 20 }))).length === 2,
          30_000,
        );
        const load = new ServiceProgram(client.enter, ['load', address, 80, 4]);
        await load.line(0);
        const held = await holdOn(client, address, 'web-1');
        const fresh = await newBackend(lab, { host: 2, network: 'front', name: 'web-3' });
        await waitForStates(lab, ['web-1 ready', 'web-2 ready', 'web-3 ready']);
        await lab.host(2).api.call('PATCH', '/v1/services/web', { body: { drain: ['web-1'] } });
        await waitForStates(lab, ['web-1 draining', 'web-2 ready', 'web-3 ready']);
        await holds(t, held);
        await waitFor(
          'no new connection to it',
          async () => (await namesHeard(ask(client, { address, count: 30 }))).join() === 'web-2,web-3',
          30_000,
        );
        await waitFor(
          'what was connected to be ended at the deadline',
          async () => {
            held.say('again');
            const line = await held.line(held.lines.length);
            return line['name'] !== 'web-1';
          },
          30_000,
        );
        old.program.kill();
        await lab
          .host(2)
          .api.call('POST', '/v1/agent/detach', { body: { network: 'front', id: old.endpoint.callerId } });
        await waitForStates(lab, ['web-2 ready', 'web-3 ready']);
        const heard = (await load.end()) as unknown as Heard;
        t.same([heard.failed, heard.errors], [0, []], 'no request failed');
        t.ok((heard.answers['web-1'] ?? 0) > 0 && (heard.answers['web-3'] ?? 0) > 0, 'both old and new answered');
        await held.end();
        for (const { program } of [kept, fresh]) await program.end();
      },
    },
  ),
);
