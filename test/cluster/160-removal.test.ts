import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { execIn, mustExecIn, reaches } from '../lab/sandbox.js';
import { mustRun } from '../lab/program.js';
import { settlesTo } from '../lab/snapshot.js';
import { quickest, waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

t.test('what leaves, leaves nothing', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'once the last endpoint has left and the network is removed, no trace of it is on any host': async (t, lab) => {
        await lab.router('addr add 198.19.1.1/24 dev lan');
        const before = await Promise.all(lab.hosts.map((host) => host.snapshot()));
        const macvlan = [
          '--driver',
          'macvlan',
          '--subnet',
          '198.19.1.0/24',
          '--gateway',
          '198.19.1.1',
          '--opt',
          'parent=eth0',
        ];
        const networks = [
          ['overlay1', '--ipv6'],
          ['bridge1', '--driver', 'bridge', '--ipv6'],
          ['macvlan1', ...macvlan, '--opt', 'host-shim=true'],
        ];
        for (const network of networks) await lab.host(1).json('create', ...network);
        const names = networks.map(([name = '']) => name);
        for (const host of lab.hosts) {
          for (const name of names) {
            const sandbox = await lab.sandbox();
            const inside = await execIn(sandbox, 'ip', '-j', 'link');
            await host.attach(name, sandbox);
            await host.detach(name, sandbox);
            t.equal((await execIn(sandbox, 'ip', '-j', 'link')).stdout, inside.stdout, 'the sandbox is as before');
          }
        }
        for (const host of lab.hosts) await host.published();
        t.equal((await lab.host(1).tsnet('rm', ...names)).status, 0);
        for (const [index, host] of lab.hosts.entries()) {
          const expected = before[index];
          if (expected !== undefined) await settlesTo(t, () => host.snapshot(), expected);
        }
      },
      'a network with endpoints is not removed, and the error names them': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'net' });
        const sandbox = await lab.sandbox();
        await host.attach('net', sandbox, { name: 'web' });
        await host.published();
        const refused = await host.tsnet('rm', 'net');
        t.equal(refused.status, 1);
        t.match(refused.stderr, /^error: .*web/);
        t.match(refused.stderr, /^hint: /m);
        await host.detach('net', sandbox);
        await host.published();
        t.equal((await host.tsnet('rm', 'net')).status, 0);
      },
      'a sandbox that vanishes without a detach is noticed and cleaned up within five seconds': async (t, lab) => {
        const [host, watcher] = [lab.host(1), lab.host(2)];
        await host.create({ name: 'net' });
        const staying = await lab.sandbox();
        const { id: stays } = await host.attach('net', staying);
        const bare = await host.snapshot();

        const left = async (): Promise<string[]> =>
          (await watcher.api.call<EndpointView[]>('GET', '/v1/endpoints?network=net')).map(({ id }) => id);
        const known = (id: string) =>
          waitFor('the cluster to know the endpoint', async () => (await left()).includes(id));
        const gone = async (id: string): Promise<number> => {
          const startedMs = performance.now();
          await waitFor('the cluster to know it has gone', async () => !(await left()).includes(id));
          return performance.now() - startedMs;
        };

        const boundMs = 5000;
        const processEnds = await quickest(boundMs, async () => {
          const dying = await lab.process();
          const { id } = await host.attach('net', dying);
          await known(id);
          await dying.daemon.kill();
          return gone(id);
        });
        t.ok(processEnds < boundMs, `a process that ended: after ${processEnds.toFixed(0)} ms`);
        const unbound = await quickest(boundMs, async () => {
          const deleted = await lab.sandbox();
          const { id } = await host.attach('net', deleted);
          await known(id);
          await mustRun('ip', ['netns', 'delete', `${lab.prefix}${deleted.name}`]);
          return gone(id);
        });
        t.ok(unbound < boundMs, `a namespace that was unbound: after ${unbound.toFixed(0)} ms`);

        t.same(await left(), [stays], 'the other endpoint stays');
        await settlesTo(t, () => host.snapshot(), bare);
        t.match(await mustExecIn(staying, 'ip', '-br', 'addr'), /eth0/);
      },
      'tsnet run passes output and exit status through, and leaves nothing when the command ends': async (t, lab) => {
        const [one, two] = [lab.host(1), lab.host(2)];
        await one.json('create', 'net');
        const sandbox = await lab.sandbox();
        const [address = ''] = (await two.attach('net', sandbox)).addresses;
        const ran = await one.tsnet(
          'run',
          '--network',
          'net',
          '--',
          'sh',
          '-c',
          `ping -n -c 1 -W 2 ${address} && ip -br addr show eth0; exit 7`,
        );
        t.equal(ran.status, 7);
        t.match(ran.stdout, /1 received/);
        t.match(ran.stdout, /eth0/);
        t.equal((await one.tsnet('run', '--network', 'net', '--', 'no-such-command')).status, 127);
        await waitFor('the endpoint to be gone', async () => {
          const left = await two.json<EndpointView[]>('endpoint', 'ls', 'net');
          return left.every(({ host }) => host === 'h2');
        });
        await reaches(sandbox, address);
      },
    },
  ),
);
