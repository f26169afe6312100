import t from 'tap';
import type { AgentStatus } from '../../core/api/status.js';
import type { HostView } from '../../core/api/host.js';
import { ipBatch } from '../lab/netns.js';
import { reaches } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

const warns =
  (of: string) =>
  ({ warnings }: AgentStatus): boolean =>
    warnings.some(({ code, message }) => `${code} ${message}`.includes(of));

t.test('an agent starts without an underlay, and takes it up when it comes', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const [host, other] = [lab.host(1), lab.host(2)];
    const { address } = host.options;
    const flush = (): Promise<unknown> => host.exec('ip', 'addr', 'flush', 'dev', 'eth0', 'scope', 'global');
    const restore = (): Promise<void> =>
      ipBatch(host.netns, [`addr add ${address}/24 dev eth0`, 'route replace default via 198.18.0.1']);
    await other.create({ name: 'net' });
    await waitFor('the host to know the network', async () =>
      (await host.json<{ name: string }[]>('ls')).some(({ name }) => name === 'net'),
    );
    const far = await lab.sandbox();
    const remote = await other.attach('net', far);
    await other.published();

    await t.test('that of a host which has carried nothing yet', async (t) => {
      await host.agent.kill();
      await flush();
      await host.startAgent({ until: 'answering' });
      const status = await host.status();
      t.equal(status.vtep, null);
      t.ok(warns('ERR_UNDERLAY_UNKNOWN this host has no address to carry VXLAN yet')(status), 'it says so');
      t.match((await host.tsnet('status')).stdout, /VTEP\s+none yet/);
      const sandbox = await lab.sandbox();
      await t.rejects(host.attach('net', sandbox), { code: 'ERR_UNDERLAY_UNKNOWN' }, 'nothing can be carried');
      await restore();
      const ready = await host.waitForAgent('a controller', ({ controller }) => controller !== null);
      t.equal(ready.vtep, address);
      t.notOk(warns('UNDERLAY')(ready), 'and warns no more');
      await host.attach('net', sandbox);
      for (const there of remote.addresses) await reaches(sandbox, there);
      await host.detachAll();
    });

    await t.test('that of a host which carries networks', async (t) => {
      const near = await lab.sandbox();
      const own = await host.attach('net', near);
      await host.agent.kill();
      await flush();
      await host.startAgent({ until: 'answering' });
      const status = await host.status();
      t.equal(status.vtep, address, 'it keeps what its devices have');
      t.ok(warns(`ERR_UNDERLAY_UNKNOWN this host has lost ${address}`)(status), 'it says so');
      const local = await lab.sandbox();
      await host.attach('net', local);
      for (const here of own.addresses) await reaches(local, here);
      await ipBatch(host.netns, ['addr add 198.18.0.99/24 dev eth0', 'route replace default via 198.18.0.1']);
      await host.waitForAgent('a controller', ({ controller, vtep }) => controller !== null && vtep === '198.18.0.99');
      await waitFor('the cluster to know', async () =>
        (await other.api.call<HostView[]>('GET', '/v1/hosts')).some(({ vtep }) => vtep === '198.18.0.99'),
      );
      for (const there of remote.addresses) await reaches(local, there);
    });

    await t.test('not one that the host does not have', async (t) => {
      await host.agent.kill();
      const args = ['--data-dir', host.dataDir, '--run-dir', host.runDir, '--host-name', host.name];
      const { status, stderr } = await host.tsnet('agent', ...args, '--underlay', 'eth7');
      t.equal(status, 1);
      t.match(stderr, /no interface of this host is, or has the address, "eth7"/);
    });

    await t.test('one whose interface has no link', async (t) => {
      await host.cut();
      await host.startAgent({ until: 'answering' });
      const status = await host.status();
      t.equal(status.vtep, '198.18.0.99', 'its address is there');
      t.ok(warns('ERR_UNDERLAY_DOWN interface eth0')(status), 'it says what is wrong');
      await host.mend();
      const ready = await host.waitForAgent(
        'a controller',
        (now) => now.controller !== null && !warns('ERR_UNDERLAY_DOWN')(now),
      );
      t.notOk(warns('UNDERLAY')(ready), 'and warns no more');
    });
  });
});
