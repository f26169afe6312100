import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { canPing, execIn, mustExecIn, reaches, type Sandbox } from '../lab/sandbox.js';
import { withSharedLab } from '../lab/with-lab.js';

interface Joined {
  readonly sandbox: Sandbox;
  readonly endpoint: EndpointView;
}

t.test('networks are apart', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'a sandbox on two networks reaches both, and its default route is the first one’s': async (t, lab) => {
        await lab.host(1).create({ name: 'front' });
        const back = await lab.host(1).create({ name: 'back' });
        const [both, web, store] = [await lab.sandbox(), await lab.sandbox(), await lab.sandbox()];
        const first = await lab.host(1).attach('front', both);
        const second = await lab.host(1).attach('back', both);
        t.same([first.ifname, second.ifname], ['eth0', 'eth1']);
        const [toWeb = ''] = (await lab.host(2).attach('front', web)).addresses;
        const [toStore = ''] = (await lab.host(2).attach('back', store)).addresses;
        await reaches(both, toWeb);
        await reaches(both, toStore);
        t.match((await execIn(both, 'ip', 'route', 'show', 'default')).stdout, /dev eth0/, 'the first network has it');

        const moved = await lab.sandbox();
        await lab.host(1).attach('front', moved, { defaultRoute: false });
        await lab.host(1).attach('back', moved);
        const route = (await execIn(moved, 'ip', 'route', 'show', 'default')).stdout;
        t.match(route, /dev eth1/, 'unless told otherwise');
        t.match(route, back.subnets[0]?.gateway ?? 'none');

        await lab.host(1).detach('back', both);
        t.notMatch(
          (await execIn(both, 'ip', '-br', 'link')).stdout,
          /eth1/,
          'leaving one network leaves the other alone',
        );
        await reaches(both, toWeb);
      },
      'two networks are apart from each other, on one host and across hosts': async (t, lab) => {
        await lab.host(1).create({ name: 'red', ipv6: true });
        await lab.host(1).create({ name: 'blue', ipv6: true });
        const join = async (host: number, network: string): Promise<Joined> => {
          const sandbox = await lab.sandbox();
          return { sandbox, endpoint: await lab.host(host).attach(network, sandbox) };
        };
        const [red1, red2] = [await join(1, 'red'), await join(2, 'red')];
        const [blue1, blue2] = [await join(1, 'blue'), await join(2, 'blue')];
        const reachesAll = async (from: Joined, to: Joined): Promise<void> => {
          for (const address of to.endpoint.addresses) await reaches(from.sandbox, address);
        };
        const answersOf = (from: Joined, to: Joined): Promise<boolean[]> =>
          Promise.all(to.endpoint.addresses.map((address) => canPing(from.sandbox, address, { timeoutMs: 300 })));

        await t.resolves(reachesAll(red1, red2), 'red reaches red');
        await t.resolves(reachesAll(blue1, blue2), 'blue reaches blue');
        t.same(await answersOf(red1, blue1), [false, false], 'red does not reach blue on the same host');
        t.same(await answersOf(red1, blue2), [false, false], 'nor on the other');

        await t.test('even where the host forwards packets, as container engines make it do', async (t) => {
          for (const host of lab.hosts) {
            await host.exec('busybox', 'sysctl', '-w', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
          }
          await t.resolves(reachesAll(red1, red2), 'red still reaches red');
          t.same(await answersOf(red1, blue1), [false, false], 'red does not reach blue by way of its host');
          t.same(await answersOf(red1, blue2), [false, false], 'nor by way of the other host');
        });

        await t.test('even with an address of the other network put on by hand', async (t) => {
          const [address = ''] = blue2.endpoint.addresses;
          await mustExecIn(red1.sandbox, 'ip', 'route', 'replace', address, 'dev', 'eth0');
          t.notOk(await canPing(red1.sandbox, address, { timeoutMs: 300 }));
        });
      },
    },
  ),
);
