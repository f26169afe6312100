import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { LabHost } from '../lab/host.js';
import { settlesTo } from '../lab/snapshot.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';
import { root } from '../cli/program.js';
import { errorOf } from './program.js';
import { idsOf, isWaiting, namesIn, pathOf, Runtime } from './runtime.js';

/** The points of a verb that the agent's sources name, in their order. */
function pointsOf(verb: 'attach' | 'detach'): string[] {
  const steps = readFileSync(join(root, 'agent/attach/steps.ts'), 'utf8');
  const found = [...steps.matchAll(/failpoint\('([a-z.-]+)'\)/g)].flatMap(([, name]) => name ?? []);
  return [...new Set(found)].filter((name) => name.startsWith(`${verb}.`));
}

const isStopped = (host: LabHost): boolean => / T /.test(readFileSync(`/proc/${host.agent.pid}/stat`, 'utf8'));

t.test('whoever dies at whatever point of an ADD or DEL, nothing half made stays', async (t) => {
  const [adds, dels] = [pointsOf('attach'), pointsOf('detach')];
  t.ok(adds.length > 3 && dels.length > 2, 'there are points');
  await withLab(t, { hosts: 1 }, async (lab) => {
    const host = lab.host(1);
    await host.create({ name: 'net', ipv6: true });
    const runtime = new Runtime(host);
    await runtime.add('stays', await lab.sandbox());
    const one = await lab.sandbox();
    const container = { id: 'c1', netns: pathOf(one) };
    const ports = { runtimeConfig: { portMappings: [{ hostPort: 18_092, containerPort: 80 }] } };
    await host.published();
    const bare = await host.snapshot();
    const isBare = async (): Promise<void> => {
      await waitFor('nothing but what stays', async () => (await idsOf(host)).join() === 'stays');
      t.same(await namesIn(one), ['lo']);
      await settlesTo(t, () => host.snapshot(), bare);
      t.same(readdirSync(join(host.runDir, 'cni-spool')), []);
    };

    // The nth ADD stops at the nth point. Each ADD is one removal, whoever asks for it.
    const stops = [
      ...adds.map((name, at) => `${name}@${at + 1}=stop`),
      ...dels.map((name, at) => `${name}@${adds.length + at + 1}=stop`),
    ];
    await host.agent.stop();
    await host.startAgent({ env: { TSNET_FAILPOINT: stops.join() } });
    const killAtStop = async (verb: string): Promise<void> => {
      const given = runtime.start(verb, container, ports);
      await waitFor('the agent to stop', () => isStopped(host));
      await waitFor('the caller to wait', () => isWaiting(given.child.pid ?? 0));
      given.child.kill('SIGKILL');
      await given.ended;
      host.agent.thaw();
    };
    for (const name of adds) {
      t.comment(`the caller of ADD is killed at ${name}`);
      await killAtStop('ADD');
      await isBare();
      t.equal((await runtime.call('DEL', container, ports)).status, 0);
      await isBare();
    }
    for (const name of dels) {
      t.comment(`the caller of DEL is killed at ${name}`);
      await runtime.add('c1', one, ports);
      await killAtStop('DEL');
      await isBare();
      t.equal((await runtime.call('DEL', container, ports)).status, 0);
    }

    // All the others are those of test/faults.
    const some = (names: readonly string[]): string[] => names.filter((_name, at) => at % 3 === 1);
    for (const name of some(adds)) {
      t.comment(`the agent is killed at ${name}`);
      await host.agent.kill();
      await host.startAgent({ env: { TSNET_FAILPOINT: `${name}=kill` } });
      const broken = errorOf(await runtime.call('ADD', container, ports));
      t.match(broken, { code: 11, details: /the agent broke off/ });
      await host.agent.ended();
      t.equal((await runtime.call('DEL', container, ports)).status, 0, 'its DEL is written down');
      await host.startAgent();
      await isBare();
    }
    for (const name of some(dels)) {
      t.comment(`the agent is killed at ${name}`);
      await host.agent.kill();
      await host.startAgent({ env: { TSNET_FAILPOINT: `${name}=kill` } });
      await runtime.add('c1', one, ports);
      t.equal((await runtime.call('DEL', container, ports)).status, 0, 'done, or written down');
      await host.agent.ended();
      await host.startAgent();
      await isBare();
    }
    t.equal((await runtime.call('ADD', container, ports)).status, 0);
    t.equal((await runtime.call('DEL', container, ports)).status, 0);
    await isBare();
  });
});
