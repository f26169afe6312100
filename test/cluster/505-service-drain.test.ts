import t from 'tap';
import type { DetachResult } from '../../core/api/attach.js';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { ServiceView } from '../../core/api/service.js';
import type { Lab } from '../lab/lab.js';
import { ask, newBackend, ServiceProgram, type Backend, type Heard } from '../lab/service.js';
import type { Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

interface Scene {
  readonly address: string;
  readonly client: Sandbox;
  readonly leaving: Backend;
  readonly kept: Backend;
}

/** A service with a backend on each host; its client is on the first, and the one that leaves on the second. */
async function newScene(lab: Lab, more: object = {}): Promise<Scene> {
  await lab.host(1).create({ name: 'front' });
  const leaving = await newBackend(lab, { host: 2, network: 'front', name: 'web-1' });
  const kept = await newBackend(lab, { host: 1, network: 'front', name: 'web-2' });
  const client = await lab.sandbox();
  await lab.host(1).attach('front', client);
  const body = {
    name: 'web',
    network: 'front',
    ports: [{ port: 80, target: 8080 }],
    selector: { app: 'web' },
    ...more,
  };
  const made = await lab.host(1).api.call<ServiceView>('POST', '/v1/services', { body });
  const address = made.addresses[0] ?? '';
  await waitFor('both to answer', async () => (await names(client, address)) === 'web-1,web-2', 20_000);
  return { address, client, leaving, kept };
}

const names = async (client: Sandbox, address: string): Promise<string> =>
  Object.keys((await ask(client, { address, count: 16 })).answers)
    .sort()
    .join();

t.test('draining', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'disconnect --drain takes a backend out under 200 requests a second without one failed request': async (
        t,
        lab,
      ) => {
        const { address, client, leaving, kept } = await newScene(lab);
        const load = new ServiceProgram(client.enter, ['load', address, 80, 5]);
        await load.line(0);
        const held = await holdOn(client, address, 'web-1');
        let isOver = false;
        const { callerId, id } = leaving.endpoint;
        const leave = lab
          .host(2)
          .tsnet('disconnect', 'front', '--id', callerId, '--drain', '60s')
          .finally(() => (isOver = true));
        const view = async (): Promise<string | undefined> =>
          (await lab.host(1).api.call<ServiceView>('GET', '/v1/services/web')).endpoints.find(
            ({ endpoint }) => endpoint === id,
          )?.state;
        await waitFor('it to drain', async () => (await view()) === 'draining', 30_000);
        await waitFor('no new connection to it', async () => (await names(client, address)) === 'web-2', 30_000);
        held.say('again');
        t.equal((await held.line(held.lines.length))['name'], 'web-1', 'a connection that it has goes on');
        t.notOk(isOver, 'and is waited for');
        await held.end();
        const { status, stdout, stderr } = await leave;
        t.same([status, stdout.trim()], [0, id], stderr);
        leaving.program.kill();
        const heard = (await load.end()) as unknown as Heard;
        t.same([heard.failed, heard.errors], [0, []], 'no request failed');
        t.ok((heard.answers['web-1'] ?? 0) > 0 && (heard.answers['web-2'] ?? 0) > 0, 'both had answered');
        t.equal(await view(), undefined, 'it is gone');
        await kept.program.end();
      },
      'a drain ends at its deadline, and with its caller; other endpoints have nothing to wait for': async (t, lab) => {
        const { address, client, leaving, kept } = await newScene(lab);
        const [one, two] = [lab.host(1), lab.host(2)];
        const held = await holdOn(client, address, 'web-1');
        const target = { network: 'front', id: leaving.endpoint.callerId };
        const caller = new AbortController();
        const gone = two.api.call('POST', '/v1/agent/detach', {
          body: { ...target, drainMs: 60_000 },
          timeoutMs: 60_000,
          signal: caller.signal,
        });
        const givenUp = t.rejects(gone, 'its caller gives up');
        await waitFor('no new connection to it', async () => (await names(client, address)) === 'web-2', 30_000);
        caller.abort();
        await givenUp;
        await waitFor('it to be a backend again', async () => (await names(client, address)) === 'web-1,web-2', 30_000);
        const [shown] = await two.api.call<readonly EndpointView[]>('GET', '/v1/agent/endpoints');
        t.notOk(shown?.draining, 'and it says so');
        const { detached } = await two.api.call<DetachResult>('POST', '/v1/agent/detach', {
          body: { ...target, drainMs: 1500 },
          timeoutMs: 20_000,
        });
        t.same(detached, [leaving.endpoint.id], 'one that is held is removed at the deadline');
        const sandbox = await lab.sandbox();
        const plain = await one.attach('front', sandbox);
        const body = { network: 'front', id: plain.callerId, drainMs: 600_000 };
        t.same((await one.api.call<DetachResult>('POST', '/v1/agent/detach', { body })).detached, [plain.id]);
        t.same((await one.api.call<DetachResult>('POST', '/v1/agent/detach', { body })).detached, [], 'again');
        await held.end();
        for (const { program } of [leaving, kept]) await program.end();
      },
      'endpoint set --drain and --no-drain take a backend out of services and back': async (t, lab) => {
        const { address, client, leaving, kept } = await newScene(lab);
        const two = lab.host(2);
        t.equal((await two.tsnet('endpoint', 'set', 'web-1', '--drain')).status, 0);
        await waitFor('no new connection to it', async () => (await names(client, address)) === 'web-2', 30_000);
        await two.agent.stop();
        await two.startAgent();
        t.equal(await names(client, address), 'web-2', 'also after a restart of its agent');
        t.equal((await two.tsnet('endpoint', 'set', 'web-1', '--no-drain')).status, 0);
        await waitFor('it to be back', async () => (await names(client, address)) === 'web-1,web-2', 30_000);
        for (const { program } of [leaving, kept]) await program.end();
      },
    },
  ),
);

/** A connection that leads to one backend. */
async function holdOn(client: Sandbox, address: string, name: string): Promise<ServiceProgram> {
  for (let attempt = 0; attempt < 40; attempt++) {
    const program = new ServiceProgram(client.enter, ['hold', address, 80]);
    await program.line(0);
    program.say('first');
    if ((await program.line(1))['name'] === name) return program;
    await program.end();
  }
  throw new Error(`no connection to ${name}`);
}
