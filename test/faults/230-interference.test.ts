import t from 'tap';
import { reaches } from '../lab/sandbox.js';
import { settlesTo } from '../lab/snapshot.js';
import { waitFor } from '../lab/wait.js';
import { withLab, withSharedLab } from '../lab/with-lab.js';

t.test('a host cut off from the others converges once it is mended', async (t) => {
  await withLab(
    t,
    { hosts: 3, controllerArgs: ['--liveness', '2s'], agentArgs: ['--quarantine', '1s'] },
    async (lab) => {
      const [one, two, three] = [lab.host(1), lab.host(2), lab.host(3)];
      await one.create({ name: 'net' });
      const sandboxes = await Promise.all(lab.hosts.map(() => lab.sandbox()));
      const [first, second, third] = sandboxes;
      if (first === undefined || second === undefined || third === undefined)
        throw new Error('three sandboxes are needed');
      await one.attach('net', first);
      await two.attach('net', second);
      for (const each of lab.hosts) await each.published();
      await one.cut();
      await one.waitForAgent('h1 to notice', ({ controller }) => controller === null);
      await two.detach('net', second);
      const [late = ''] = (await three.attach('net', third)).addresses;
      const alone = await lab.sandbox();
      const [lonely = ''] = (await one.attach('net', alone)).addresses;
      await reaches(first, lonely);
      await one.mend();
      await one.published(20_000);
      await reaches(first, late, 20_000);
      await reaches(third, lonely);
      await waitFor(
        'no entry for the one that left',
        async () => (await one.snapshot()).fdb.split('\n').every((line) => !line.includes('198.18.0.12')),
        20_000,
      );
    },
  );
});

t.test('interference on a host', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'links, entries and addresses that somebody removes or changes are repaired at once': async (t, lab) => {
        const [host, other] = [lab.host(1), lab.host(2)];
        const { id } = await host.create({ name: 'net' });
        const [near, far] = [await lab.sandbox(), await lab.sandbox()];
        await host.attach('net', near);
        const { addresses, mac } = await other.attach('net', far);
        const [address = ''] = addresses;
        for (const each of lab.hosts) await each.published();
        await waitFor('the far record to be realised', async () => (await host.snapshot()).fdb.includes(mac));
        const whole = await host.snapshot();
        const harms = [
          ['ip', 'link', 'delete', `tsx-${id}`],
          ['ip', 'link', 'set', `tsx-${id}`, 'down'],
          ['ip', 'link', 'set', `tsb-${id}`, 'down'],
          ['ip', 'link', 'set', `tsx-${id}`, 'nomaster'],
          ['bridge', 'fdb', 'delete', mac, 'dev', `tsx-${id}`, 'self'],
          ['ip', 'neigh', 'delete', address, 'dev', `tsb-${id}`],
          ['ip', 'addr', 'flush', 'dev', `tsb-${id}`],
        ];
        for (const harm of harms) {
          await t.test(harm.join(' '), async (t) => {
            t.equal((await host.exec(...harm)).status, 0);
            await settlesTo(t, () => host.snapshot(), whole);
            await reaches(near, address);
          });
        }
        t.ok((await host.status()).reconcile.repairs > 0, 'repairs are counted');
      },
      'an agent that is frozen or killed does not stop traffic, and a restart touches nothing that is right': async (
        t,
        lab,
      ) => {
        const [host, other] = [lab.host(1), lab.host(2)];
        await host.create({ name: 'net' });
        const [near, far] = [await lab.sandbox(), await lab.sandbox()];
        await host.attach('net', near);
        const [address = ''] = (await other.attach('net', far)).addresses;
        for (const each of lab.hosts) await each.published();
        await reaches(near, address);
        host.agent.freeze();
        await reaches(near, address);
        host.agent.thaw();
        const title = 'ip monitor h1';
        const argv = ['ip', '-n', host.netns, 'monitor', 'link', 'address', 'route', 'neigh'];
        const monitor = lab.startDaemon({ name: title, logPath: lab.logPath(title), argv, env: {} });
        await monitor.listens();
        await host.agent.kill();
        await host.startAgent();
        await host.published();
        const { reconcile } = await host.status();
        t.equal(reconcile.failing.length, 0);
        const touched = monitor
          .log()
          .split('\n')
          .filter((line) => line.includes('tsx-') || line.includes('tsb-'));
        t.same(touched, [], 'no link, address, route or entry was touched');
      },
    },
  ),
);
