import { join } from 'node:path';
import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { canPing, execIn, mustExecIn, reaches } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';
import { cniEnv, errorOf, runPlugin } from './program.js';
import { addressOf, idsOf, isWaiting, namesIn, pathOf, Runtime, type ResultJson } from './runtime.js';

t.test('the plugin on hosts of one cluster', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'containers of two hosts are added, checked and deleted, and reach each other between': async (t, lab) => {
        await lab.host(1).create({ name: 'net', ipv6: true });
        const runtimes = [new Runtime(lab.host(1)), new Runtime(lab.host(2))] as const;
        const sandboxes = [await lab.sandbox(), await lab.sandbox()] as const;
        const results = [await runtimes[0].add('c1', sandboxes[0]), await runtimes[1].add('c2', sandboxes[1])] as const;
        const [first] = results;
        t.same(
          first.interfaces.map(({ name }) => name.slice(0, 4)),
          ['tsb-', 'tsv-', 'eth0'],
        );
        t.same(
          first.interfaces.map(({ sandbox }) => sandbox),
          [undefined, undefined, pathOf(sandboxes[0])],
        );
        t.same(
          first.ips.map((ip) => ip.interface),
          [2, 2],
        );
        t.match(first.routes, [{ dst: '0.0.0.0/0', gw: first.ips[0]?.gateway }]);
        t.equal((await mustExecIn(sandboxes[0], 'cat', '/proc/net/dev')).includes('eth0'), true);
        await reaches(sandboxes[0], addressOf(results[1]));
        await reaches(sandboxes[1], addressOf(first));

        for (const [index, runtime] of runtimes.entries()) {
          const sandbox = sandboxes[index];
          if (sandbox === undefined) throw new Error('no such sandbox');
          const container = { id: `c${index + 1}`, netns: pathOf(sandbox) };
          const checked = await runtime.call('CHECK', container, { prevResult: results[index] });
          t.same([checked.status, checked.stdout], [0, ''], 'CHECK is silent');
          await mustExecIn(sandbox, 'ip', 'addr', 'del', results[index]?.ips[0]?.address ?? '', 'dev', 'eth0');
          const broken = await runtime.call('CHECK', container, { prevResult: results[index] });
          t.equal(broken.status, 1, 'a lost address is noticed');
          t.match(errorOf(broken).msg, /lacks/);

          const deleted = await runtime.call('DEL', container, { prevResult: results[index] });
          t.same([deleted.status, deleted.stdout], [0, '']);
          t.same(await namesIn(sandbox), ['lo'], 'the name is free when DEL returns');
          t.same((await runtime.call('DEL', container)).status, 0, 'again');
          t.same((await runtime.call('DEL', { ...container, netns: '' })).status, 0, 'without a sandbox');
          t.match(errorOf(await runtime.call('CHECK', container, { prevResult: results[index] })).msg, /no attachment/);
        }
        const before = await runtimes[0].add('c1', sandboxes[0]);
        await runtimes[0].call('DEL', { id: 'c1', netns: pathOf(sandboxes[0]) });
        const again = await runtimes[0].add('c1', sandboxes[0], {
          runtimeConfig: { ips: before.ips.map(({ address }) => address) },
        });
        t.same(again.ips, before.ips, 'the address is free when DEL returns');
        await runtimes[1].add('c2', sandboxes[1]);
        await reaches(sandboxes[1], addressOf(again));
      },
      'an ADD can be repeated, moved to a new sandbox, refused and given up': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'net' });
        const runtime = new Runtime(host);
        const [one, two] = [await lab.sandbox(), await lab.sandbox()];
        const endpoints = (): Promise<EndpointView[]> => host.api.call('GET', '/v1/agent/endpoints');

        const first = await runtime.add('c1', one);
        t.same(await runtime.add('c1', one), first, 'the same sandbox: the stored result');
        const moved = await runtime.add('c1', two);
        t.equal((await endpoints()).length, 1, 'a new sandbox replaces the old one');
        t.same(await namesIn(one), ['lo']);
        t.ok(await canPing(two, moved.ips[0]?.gateway ?? ''));

        await mustExecIn(one, 'ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'other0');
        const taken = errorOf(await runtime.call('ADD', { id: 'c2', netns: pathOf(one) }));
        t.match(taken, { code: 100, msg: /"eth0"/ });
        t.equal((await endpoints()).length, 1, 'a refused ADD leaves nothing');
        await mustExecIn(one, 'ip', 'link', 'del', 'eth0');

        host.agent.freeze();
        const given = runtime.start('ADD', { id: 'c3', netns: pathOf(one) });
        await waitFor('the call to wait for its answer', () => isWaiting(given.child.pid ?? 0));
        const killed = new Promise((resolve) => given.child.once('exit', resolve));
        given.child.kill('SIGKILL');
        await killed;
        host.agent.thaw();
        await host.waitForAgent('the agent to answer', () => true);
        await waitFor('nothing to be left of it, nor in its sandbox', async () => {
          const [listed, names] = [await endpoints(), await namesIn(one)];
          return listed.length === 1 && names.join() === 'lo';
        });

        t.match(errorOf(await runtime.call('ADD', { id: 'c4', netns: '/run/netns/tsnet-no-such' })), { code: 3 });
        t.match(errorOf(await runtime.call('ADD', { id: 'c4', netns: netnsPath(host.netns) })), { code: 8 });
        const ownStdin = JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'tsnet', agentSocket: host.socket });
        const ownEnv = { ...cniEnv('ADD', { id: 'c4', netns: netnsPath(host.netns) }), CNI_NETNS_OVERRIDE: '1' };
        const own = await runPlugin({ env: ownEnv, stdin: ownStdin, enter: enterArgs(netnsPath(host.netns)) });
        t.match(errorOf(own), { code: 8 }, 'the host is no sandbox, whatever the override says');
        t.equal((await runtime.call('DEL', { id: 'c4', netns: netnsPath(host.netns) })).status, 0);
        const unknown = errorOf(await runtime.call('ADD', { id: 'c4', netns: pathOf(one) }, { network: 'nowhere' }));
        t.match(unknown, { code: 7, details: /tsnet create nowhere/ });
        const made = await runtime.call(
          'ADD',
          { id: 'c5', netns: pathOf(one) },
          { network: 'made', subnets: ['10.123.0.0/24'] },
        );
        t.match((made.json as ResultJson).ips[0]?.address, /^10\.123\.0\.\d+\/24$/, 'made from the configuration');
        t.equal((await runtime.call('DEL', { id: 'c5', netns: pathOf(one) }, { network: 'made' })).status, 0);
      },
      'names, addresses and limits come with the call': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'net', subnets: [{ subnet: '10.77.0.0/24' }] });
        const runtime = new Runtime(host, { runtime: 'podman' });
        const [one, two, three] = [await lab.sandbox(), await lab.sandbox(), await lab.sandbox()];
        const container = {
          id: 'c1',
          netns: pathOf(one),
          args: 'IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop;IP=10.77.0.50;MAC=02:11:22:33:44:55',
        };
        const runtimeConfig = {
          aliases: { net: ['www', 'a_b'] },
          portMappings: [{ HostPort: 18080, ContainerPort: 80, Protocol: 'TCP', HostIP: '' }],
          bandwidth: { IngressRate: 8_000_000, IngressBurst: 8_000_000 },
          dns: { Servers: ['10.77.0.1'], Searches: ['a.b'] },
        };
        const added = await runtime.call('ADD', container, { runtimeConfig });
        t.match(added.json, {
          ips: [{ address: '10.77.0.50/24' }],
          dns: { nameservers: ['10.77.0.1'], search: ['a.b'] },
        });
        const [endpoint] = await host.api.call<EndpointView[]>('GET', '/v1/agent/endpoints');
        t.match(endpoint, {
          name: 'web',
          aliases: ['www', 'web.shop'],
          mac: '02:11:22:33:44:55',
          callerId: 'c1',
          labels: { 'cni.name': 'net', 'cni.runtime': 'podman', 'k8s.pod': 'web', 'k8s.namespace': 'shop' },
          ports: [{ hostPort: 18080, port: 80, protocol: 'tcp' }],
          bandwidth: { ingressRateBps: 8_000_000, ingressBurstBytes: 1_000_000 },
        });
        const ranged = await runtime.add('c2', two, {
          runtimeConfig: {
            ipRanges: [[{ Subnet: '10.77.0.0/24', RangeStart: '10.77.0.201', RangeEnd: '10.77.0.202' }]],
          },
        });
        t.match(addressOf(ranged), /^10\.77\.0\.20[12]$/);
        const delegated = await runtime.add('c3', three, {
          cniVersion: '1.0.0',
          ipam: {
            type: 'host-local',
            subnet: '10.77.0.0/24',
            rangeStart: '10.77.0.100',
            dataDir: join(host.dataDir, 'host-local'),
          },
        });
        t.equal(addressOf(delegated), '10.77.0.100', 'another IPAM plugin is asked');
        t.equal(
          (
            await runtime.call(
              'DEL',
              { id: 'c3', netns: '' },
              {
                cniVersion: '1.0.0',
                ipam: { type: 'host-local', subnet: '10.77.0.0/24', dataDir: join(host.dataDir, 'host-local') },
              },
            )
          ).status,
          0,
        );
        t.notOk(
          (await execIn(one, 'ls', join(host.dataDir, 'host-local', 'net', '10.77.0.100'))).status === 0,
          'and gives back',
        );
      },
      'tsnet gives addresses to another plugin’s interfaces': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'pool', subnets: [{ subnet: '10.78.0.0/24' }] });
        const runtime = new Runtime(host, {
          type: 'bridge',
          agentSocket: undefined,
          ipam: { type: 'tsnet', network: 'pool', agentSocket: host.socket },
        });
        const one = await lab.sandbox();
        const added = await runtime.call('ADD', { id: 'c1', netns: pathOf(one) });
        t.match(added.json, {
          ips: [{ address: /^10\.78\.0\.\d+\/24$/, gateway: '10.78.0.1' }],
          routes: [{ dst: '0.0.0.0/0' }],
        });
        t.notMatch(added.json, { interfaces: [] });
        t.equal((await runtime.call('CHECK', { id: 'c1', netns: pathOf(one) })).status, 0);
        t.same(
          (await host.api.call<EndpointView[]>('GET', '/v1/agent/endpoints')).map(({ state }) => state),
          ['reserved'],
        );
        t.equal((await runtime.call('DEL', { id: 'c1', netns: '' })).status, 0);
        t.same(await host.api.call('GET', '/v1/agent/endpoints'), []);
        t.equal((await runtime.call('CHECK', { id: 'c1', netns: pathOf(one) })).status, 1);
      },
      'GC removes what has no sandbox any more, of its own configuration only; the reaper needs nobody': async (
        t,
        lab,
      ) => {
        const host = lab.host(1);
        await host.create({ name: 'net' });
        const [podman, other] = [
          new Runtime(host, { runtime: 'podman' }),
          new Runtime(host, { runtime: 'containerd' }),
        ];
        const ids = (): Promise<string[]> => idsOf(host);
        const reserving = {
          type: 'bridge',
          ipam: { type: 'tsnet', network: 'net', agentSocket: host.socket, runtime: 'podman' },
        };
        const [one, two] = [await lab.sandbox(), await lab.sandbox()];
        await podman.add('lives', one);
        await podman.call('ADD', { id: 'stale', netns: pathOf(two) }, reserving);
        await podman.call('ADD', { id: 'kept', netns: pathOf(two) }, reserving);
        await other.call(
          'ADD',
          { id: 'foreign', netns: pathOf(two) },
          { ...reserving, ipam: { ...reserving.ipam, runtime: 'containerd' } },
        );
        t.same(await ids(), ['foreign', 'kept', 'lives', 'stale']);
        const valid = [{ containerID: 'kept', ifname: 'eth0' }];
        t.equal((await podman.call('GC', { id: '' }, { 'cni.dev/valid-attachments': valid })).status, 0);
        t.same(await ids(), ['foreign', 'kept', 'lives']);
        t.equal((await podman.call('GC', { id: '' }, { 'cni.dev/valid-attachments': null })).status, 0);
        t.same(await ids(), ['foreign', 'lives'], 'null is an empty list, and a sandbox that lives is spared');

        const process = await lab.process();
        await other.call('ADD', { id: 'gone', netns: `/proc/${process.daemon.pid}/ns/net` });
        t.same(await ids(), ['foreign', 'gone', 'lives']);
        await process.daemon.kill();
        await waitFor('the reaper to take it away', async () => !(await ids()).includes('gone'));
        t.equal((await other.call('DEL', { id: 'gone', netns: '' })).status, 0);
      },
    },
  ),
);
