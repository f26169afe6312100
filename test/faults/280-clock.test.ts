import t from 'tap';
import type { DetachResult } from '../../core/api/attach.js';
import type { HostView } from '../../core/api/host.js';
import type { ServiceView } from '../../core/api/service.js';
import { TestClock } from '../lab/clock.js';
import type { Lab } from '../lab/lab.js';
import { reaches, type Sandbox } from '../lab/sandbox.js';
import { ask, newBackend, ServiceProgram } from '../lab/service.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

const quarantineMs = 4000;
const drainMs = 4000;
/** What a busy machine adds. */
const lateMs = 20_000;
/** A daemon's timers and a test's clock need not agree to the millisecond. */
const earlyMs = 100;

const jumps = {
  'a year forwards': { jumpMs: 365 * 86_400_000, small: 'small-1', subnet: '10.77.0.0/29' },
  'a day backwards': { jumpMs: -86_400_000, small: 'small-2', subnet: '10.78.0.0/29' },
};

t.test('a wall clock that is set while all runs releases nothing early, and holds nothing for ever', async (t) => {
  const options = {
    hosts: 2,
    controllerArgs: ['--liveness', '3s'],
    agentArgs: ['--quarantine', `${quarantineMs / 1000}s`],
  };
  await withLab(t, options, async (lab) => {
    const clock = new TestClock(lab.folder);
    await restartAll(lab, clock);
    const [one, two] = [lab.host(1), lab.host(2)];
    await one.create({ name: 'front' });
    const client = await lab.sandbox();
    await one.attach('front', client, { name: 'client' });

    for (const [title, { jumpMs, small, subnet }] of Object.entries(jumps)) {
      await t.test(title, async (t) => {
        clock.set(0);
        await one.create({ name: small, driver: 'bridge', subnets: [{ subnet }] });
        const leaving = await newBackend(lab, { host: 2, network: 'front', name: `on-${small}` });
        const { address } = await newService(lab, client);
        const held = new ServiceProgram(client.enter, ['hold', address, 80]);
        held.say('first');
        await held.line(1);
        const { full, spare } = await fillUp(lab, small);

        const releasedMs = performance.now();
        await one.detach(small, full);
        const drained = two.api.call<DetachResult>('POST', '/v1/agent/detach', {
          body: { network: 'front', id: leaving.endpoint.callerId, drainMs },
          timeoutMs: drainMs + lateMs,
        });
        const drainedMs = drained.then(() => performance.now() - releasedMs);
        clock.set(jumpMs);

        await t.rejects(one.attach(small, spare), { code: 'ERR_ADDRESS_EXHAUSTED' }, 'an address rests');
        const restedMs = await waitFor('the address to be given again', async () => {
          await one.attach(small, spare);
          return performance.now() - releasedMs;
        });
        t.ok(restedMs >= quarantineMs - earlyMs, `not early: ${restedMs} ms`);
        t.ok(restedMs <= quarantineMs + lateMs, `not late: ${restedMs} ms`);
        const tookMs = await drainedMs;
        t.ok(tookMs >= drainMs - earlyMs, `a connection is waited for: ${tookMs} ms`);
        t.ok(tookMs <= drainMs + lateMs, `and not for ever: ${tookMs} ms`);
        held.say('last');
        await held.end();
        leaving.program.kill();

        const hosts = await one.api.call<readonly HostView[]>('GET', '/v1/hosts');
        t.same(
          hosts.map(({ state }) => state),
          ['up', 'up'],
          'longer than the liveness bound later, no host counts as down',
        );
        const late = await lab.sandbox();
        const { addresses, createdAt } = await two.attach('front', late, { name: 'late' });
        t.ok(
          Math.abs(Date.parse(createdAt) - Date.now() - jumpMs) < lateMs * 3,
          'the daemons have the clock of the test',
        );
        for (const there of addresses) await reaches(client, there);
        const answer = await one.json<{ answers: { data: string }[] }>('dns', 'query', 'late', '--from', client.target);
        t.match(JSON.stringify(answer), addresses[0] ?? '-', 'names are answered');
        for (const host of lab.hosts) {
          await host.published();
          const { warnings, reconcile } = await host.status();
          t.same([warnings, reconcile.failing], [[], []]);
        }
        await two.detach('front', late);
        await one.api.call('DELETE', '/v1/services/web');
      });
    }
  });
});

async function restartAll(lab: Lab, clock: TestClock): Promise<void> {
  for (const host of lab.hosts) await host.agent.kill();
  await lab.controller().daemon.kill();
  await lab.controller().start(clock.env);
  for (const host of lab.hosts) await host.startAgent({ env: clock.env });
}

async function newService(lab: Lab, client: Sandbox): Promise<{ readonly address: string }> {
  const body = { name: 'web', network: 'front', ports: [{ port: 80, target: 8080 }], selector: { app: 'web' } };
  const made = await lab.host(1).api.call<ServiceView>('POST', '/v1/services', { body });
  const address = made.addresses[0] ?? '';
  await waitFor(
    'its backend to answer',
    async () => Object.keys((await ask(client, { address, count: 1 })).answers)[0],
  );
  return { address };
}

/** Attaches to a network until it has no address left; one of those that are on it, and one that waits. */
async function fillUp(lab: Lab, network: string): Promise<{ readonly full: Sandbox; readonly spare: Sandbox }> {
  let full: Sandbox | undefined;
  for (;;) {
    const sandbox = await lab.sandbox();
    try {
      await lab.host(1).attach(network, sandbox);
      full = sandbox;
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ERR_ADDRESS_EXHAUSTED' || full === undefined) throw error;
      return { full, spare: sandbox };
    }
  }
}
