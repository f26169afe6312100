import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { LabHost } from '../lab/host.js';
import { listenIn, reaches, type Sandbox } from '../lab/sandbox.js';
import { settlesTo } from '../lab/snapshot.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

const agentSources = fileURLToPath(new URL('../../../../agent', import.meta.url));

/**
 * Every point the agent's sources name: a new one is tested without being added here. Those of `connect --set-dns` have
 * a test of their own, in test/dns.
 */
function listFailpoints(): string[] {
  const names = readdirSync(agentSources, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .flatMap((path) => [...readFileSync(join(agentSources, path), 'utf8').matchAll(/failpoint\('([a-z.-]+)'\)/g)])
    .flatMap(([, name]) => name ?? []);
  return [...new Set(names)].filter((name) => !name.startsWith('resolv-conf.')).sort();
}

t.test(
  'an agent killed at any point of attach, detach and reconcile leaves nothing behind and never stops traffic',
  async (t) => {
    const names = listFailpoints();
    t.not(names.length, 0, 'there are failpoints');
    await withLab(t, { hosts: 2 }, async (lab) => {
      const [host, other] = [lab.host(1), lab.host(2)];
      await host.create({ name: 'net', ipv6: true });
      const [staying, remote] = [await lab.sandbox(), await lab.sandbox()];
      await host.attach('net', staying, { name: 'staying' });
      const { addresses: toRemote } = await other.attach('net', remote);
      for (const address of toRemote) await reaches(staying, address);
      await host.published();
      const bare = await host.snapshot();
      const echo = await listenIn(remote, 'listen-udp', 7000);
      const steady = await listenIn(staying, 'steady', toRemote[0] ?? '', 7000, 10);

      for (const name of names) {
        await t.test(name, async (t) => {
          const sandbox = await lab.sandbox();
          t.ok(await dieAt(host, name, sandbox), 'the agent was killed there');
          await host.startAgent();
          const endpoint = await host.attach('net', sandbox);
          for (const address of toRemote) await reaches(sandbox, address);
          for (const address of endpoint.addresses) await reaches(remote, address);
          await host.detach('net', sandbox);
          await settlesTo(t, () => host.snapshot(), bare);
          await host.published();
          const listed = await waitFor('the cluster to list the two that stay', async () => {
            const endpoints = await other.api.call<EndpointView[]>('GET', '/v1/endpoints?network=net');
            return endpoints.length === 2 ? endpoints : null;
          });
          t.equal(listed.length, 2);
          const held = (await host.api.call<EndpointView[]>('GET', '/v1/agent/endpoints')).length;
          t.equal(held, 1, 'nor in its journal');
        });
      }

      const { lostMs } = await steady.end();
      t.ok(Number(lostMs) < 500, `traffic never stopped: ${String(lostMs)} ms without an answer`);
      await echo.end();
    });
  },
);

/** Starts the agent armed, and attaches and detaches until it dies of it. Reports whether it did. */
async function dieAt(host: LabHost, name: string, sandbox: Sandbox): Promise<boolean> {
  if (host.agent.isRunning()) await host.agent.kill();
  await host.startAgent({ env: { TSNET_FAILPOINT: `${name}=kill` }, until: 'spawned' });
  const died = async (): Promise<boolean> => {
    await waitFor(
      'the agent to answer or die',
      async () => !host.agent.isRunning() || (await host.status()).controller !== null,
      20_000,
    );
    return !host.agent.isRunning();
  };
  if (await died()) return true;
  for (const step of [() => host.attach('net', sandbox), () => host.detach('net', sandbox)]) {
    const failed = await step().then(
      () => false,
      () => true,
    );
    if (failed) await host.agent.ended();
    if (!host.agent.isRunning()) return true;
  }
  // Points behind the answer, such as publishing, are passed soon after it.
  return waitFor('the agent to die', () => !host.agent.isRunning(), 20_000).catch(() => false);
}
