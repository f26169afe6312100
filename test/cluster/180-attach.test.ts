import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { execIn, mustExecIn, reaches } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

t.test('an attach', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'attach and detach are idempotent by network, caller’s id and interface name': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'net', ipv6: true });
        const sandbox = await lab.sandbox();
        const first = await host.attach('net', sandbox, { id: 'container-1', ifname: 'eth0' });
        // The operational state follows by itself, up to a second later.
        const linksOf = async (): Promise<object[]> =>
          (JSON.parse(await mustExecIn(sandbox, 'ip', '-j', 'link')) as { ifindex: number; ifname: string }[]).map(
            ({ ifindex, ifname }) => ({ ifindex, ifname }),
          );
        const links = await linksOf();
        const again = await host.attach('net', sandbox, { id: 'container-1', ifname: 'eth0' });
        t.same([again.id, again.addresses, again.mac], [first.id, first.addresses, first.mac]);
        t.same(await linksOf(), links, 'no second interface');
        const inside = (): Promise<string> => mustExecIn(sandbox, 'sh', '-c', 'ip -br addr; ip route; ip -6 route');
        await waitFor('the link-local address', async () => (await inside()).includes('fe80:'), 10_000);
        const configured = await inside();
        await mustExecIn(sandbox, 'ip', 'addr', 'flush', 'dev', 'eth0', 'scope', 'global');
        t.not(await inside(), configured);
        await host.attach('net', sandbox, { id: 'container-1', ifname: 'eth0' });
        t.equal(await inside(), configured, 'what was flushed inside is there again');
        const both = await Promise.all(
          [1, 2].map(() => host.attach('net', sandbox, { id: 'container-1', ifname: 'eth1' })),
        );
        t.equal(both[0]?.id, both[1]?.id, 'also when asked twice at once');
        t.same((await host.detach('net', sandbox)).detached.length, 2);
        t.same((await host.detach('net', sandbox)).detached, [], 'detaching again is no error');
      },
      'the steps of an attach can be taken one by one': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'net' });
        const [sandbox, watcher] = [await lab.sandbox(), await lab.sandbox()];
        await lab.host(2).attach('net', watcher);
        const reserved = await host.api.call<EndpointView>('POST', '/v1/agent/reserve', {
          body: { network: 'net', id: 'steps' },
        });
        t.equal(reserved.state, 'reserved');
        t.equal(reserved.sandbox, null);
        const linked = await host.api.call<EndpointView>('POST', '/v1/agent/link', { body: { endpoint: reserved.id } });
        t.equal(linked.state, 'linked', 'without a target it waits in the host namespace');
        t.notMatch((await host.exec('ip', '-br', 'addr')).stdout, reserved.addresses[0] ?? 'none', 'unnumbered');
        t.notMatch((await execIn(sandbox, 'ip', '-br', 'link')).stdout, /eth0/);
        const body = { endpoint: reserved.id, target: sandbox.target };
        const attached = await host.api.call<EndpointView>('POST', '/v1/agent/configure', { body });
        t.equal(attached.state, 'attached');
        t.same(attached.addresses, reserved.addresses);
        for (const address of attached.addresses) await reaches(watcher, address);
        const { detached } = await host.api.call<{ detached: string[] }>('POST', '/v1/agent/detach', {
          body: { network: 'net', id: 'steps' },
        });
        t.same(detached, [reserved.id]);
      },
      'an endpoint made by the CLI has the fields that programs rely on': async (t, lab) => {
        const host = lab.host(1);
        const network = await host.json<object>('create', 'net', '--label', 'tier=web', '--internal');
        t.same(Object.keys(network).slice(0, 8), [
          'id',
          'name',
          'driver',
          'subnets',
          'vni',
          'mtu',
          'internal',
          'labels',
        ]);
        const sandbox = await lab.sandbox();
        const name = sandbox.target.replace('netns:/run/netns/', '');
        const options = ['--name', 'web', '--alias', 'www', '--label', 'a=b', '--id', 'c1', '--ifname', 'net0'];
        const endpoint = await host.json<EndpointView>('connect', 'net', name, ...options);
        const keys = [
          'id',
          'name',
          'aliases',
          'network',
          'host',
          'addresses',
          'mac',
          'ifname',
          'sandbox',
          'generation',
        ];
        t.same(Object.keys(endpoint).slice(0, keys.length), keys);
        t.match(endpoint, {
          name: 'web',
          aliases: ['www'],
          network: 'net',
          host: 'h1',
          ifname: 'net0',
          labels: { a: 'b' },
        });
        await host.published();
        t.match(await host.json('endpoint', 'ls', 'net'), [{ id: endpoint.id }]);
        t.match(await host.json('host', 'ls'), [{ name: 'h1', vtep: host.options.address, state: 'up' }]);
        t.match((await host.tsnet('ls')).stdout, /net/);
        t.equal((await host.tsnet('disconnect', 'net', name)).status, 0);
      },
    },
  ),
);
