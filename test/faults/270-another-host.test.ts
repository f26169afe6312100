import { join } from 'node:path';
import t from 'tap';
import type { HostView } from '../../core/api/host.js';
import type { AgentStatus } from '../../core/api/status.js';
import { reaches } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

t.test('a host whose underlay gets another address goes on with that one', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const [host, other] = [lab.host(1), lab.host(2)];
    await host.create({ name: 'net', ipv6: true });
    const [near, far] = [await lab.sandbox(), await lab.sandbox()];
    const own = await host.attach('net', near);
    const remote = await other.attach('net', far);
    for (const address of remote.addresses) await reaches(near, address);
    await host.exec('ip', 'addr', 'add', '198.18.0.99/24', 'dev', 'eth0');
    t.equal((await host.status()).vtep, host.options.address, 'a further address changes nothing');

    await host.exec('ip', 'addr', 'del', `${host.options.address}/24`, 'dev', 'eth0');
    await host.exec('ip', 'addr', 'replace', '198.18.0.99/24', 'dev', 'eth0');
    await host.exec('ip', 'route', 'replace', 'default', 'via', '198.18.0.1');
    await host.waitForAgent('the agent to take it up', ({ vtep }) => vtep === '198.18.0.99');
    for (const address of remote.addresses) await reaches(near, address);
    for (const address of own.addresses) await reaches(far, address);
    await waitFor('the cluster to know', async () =>
      (await other.api.call<HostView[]>('GET', '/v1/hosts')).some(({ vtep }) => vtep === '198.18.0.99'),
    );
    await host.published();
    const later = await lab.sandbox();
    for (const address of (await host.attach('net', later)).addresses) await reaches(far, address);

    await host.exec('ip', 'addr', 'flush', 'dev', 'eth0', 'scope', 'global');
    const warns =
      (of: string) =>
      ({ warnings }: AgentStatus): boolean =>
        warnings.some(({ code, message }) => `${code} ${message}`.includes(of));
    await host.waitForAgent('the agent to miss it', warns('ERR_UNDERLAY_UNKNOWN this host has lost 198.18.0.99'));
    await host.exec('ip', 'addr', 'add', '198.18.0.99/24', 'dev', 'eth0');
    await host.exec('ip', 'route', 'replace', 'default', 'via', '198.18.0.1');
    await host.waitForAgent('the agent to have it back', (status) => !warns('ERR_UNDERLAY_UNKNOWN')(status));
    for (const address of remote.addresses) await reaches(near, address);

    await host.exec('ip', 'link', 'set', 'eth0', 'mtu', '1400');
    const large = "ERR_MTU_UNDERLAY network net has MTU 1450, but this host's underlay (MTU 1400) carries 1350";
    await host.waitForAgent('a network to be too large', warns(large));
    await waitFor('the cluster to know', async () =>
      (await other.api.call<HostView[]>('GET', '/v1/hosts')).some(({ underlayMtu }) => underlayMtu === 1400),
    );
    t.equal((await other.create({ name: 'smaller' })).mtu, 1350, 'later networks are made for the smallest underlay');
  });
});

t.test('an agent under another name does not take up what belongs to the first', async (t) => {
  await withLab(t, { hosts: 1 }, async (lab) => {
    const host = lab.host(1);
    const args = ['agent', '--data-dir', host.dataDir, '--run-dir', join(host.runDir, 'x'), '--host-name', 'renamed'];
    await host.create({ name: 'net' });
    await host.attach('net', await lab.sandbox());
    await host.published();
    const before = await host.snapshot();
    await host.agent.kill();
    const { status, stderr } = await host.tsnet(...args);
    t.equal(status, 1);
    t.match(stderr, /is that of host "h1", which has endpoints or address blocks; this agent is "renamed"/);
    t.match(stderr, /--host-name/, 'with what to do');
    t.same(await host.snapshot(), before, 'nothing was touched');
    await host.startAgent();
    await host.published();
    t.equal((await host.status()).endpoints, 1);
  });
});
