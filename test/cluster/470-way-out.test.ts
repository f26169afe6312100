import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { Lab } from '../lab/lab.js';
import { place, seenAs } from '../lab/place.js';
import { canPing, type Sandbox } from '../lab/sandbox.js';
import { outsideAddress, underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

const chosen = { 4: underlayAddress(21), 6: underlayAddress6(21) } as const;
const outside = { 4: outsideAddress, 6: underlayAddress6(1) } as const;
const quick = { timeoutMs: 500 };

interface Joined {
  readonly sandbox: Sandbox;
  readonly endpoint: EndpointView;
}

async function join(lab: Lab, host: number, network: string): Promise<Joined> {
  const sandbox = await lab.sandbox();
  return { sandbox, endpoint: await lab.host(host).attach(network, sandbox) };
}

t.test('ways out', (t) =>
  withSharedLab(
    t,
    { hosts: 2, agentArgs: ['--quarantine', '1s'] },
    {
      'a network leaves by the address that was chosen for it, where the host has it': async (t, lab) => {
        const [host1, host2] = [lab.host(1), lab.host(2)];
        const addr = async (verb: 'add' | 'del'): Promise<void> => {
          await host1.exec('ip', 'addr', verb, `${chosen[4]}/24`, 'dev', 'eth0');
          await host1.exec('ip', 'addr', verb, `${chosen[6]}/64`, 'dev', 'eth0', ...(verb === 'add' ? ['nodad'] : []));
        };
        await addr('add');
        await host1.json('create', 'front', '--ipv6', '--opt', `masquerade-source=${chosen[4]},${chosen[6]}`);
        await host1.create({ name: 'plain', ipv6: true });
        const web = await join(lab, 1, 'front');
        const plain = await join(lab, 1, 'plain');
        const far = await join(lab, 2, 'front');
        const lan = place(lab, 'lan');
        const seen = (from: Joined, family: 4 | 6): Promise<unknown> =>
          seenAs(from.sandbox, lan, outside[family], 5000 + family);

        t.equal(await seen(web, 4), chosen[4]);
        t.match(await seen(web, 6), chosen[6]);
        t.ok(await canPing(web.sandbox, outside[4]), 'and answers come back');
        t.ok(await canPing(web.sandbox, outside[6]));
        t.equal(await seen(plain, 4), underlayAddress(11), 'another network by the route’s');
        t.equal(await seen(far, 4), underlayAddress(12), 'as on a host without it');
        t.match(await seen(far, 6), underlayAddress6(12));
        const warned = async (host = host1): Promise<number> =>
          (await host.status()).warnings.filter(({ code }) => code === 'ERR_MASQUERADE_SOURCE').length;
        await t.resolves(
          waitFor('warnings', async () => (await warned(host2)) === 2),
          'which says so, for each family',
        );
        t.equal(await warned(), 0);

        await addr('del');
        await waitFor('the warning', async () => (await warned()) === 2);
        await t.resolves(
          waitFor('another source', async () => (await seen(web, 4)) === underlayAddress(11)),
          'without the address it leaves by another one',
        );
        await addr('add');
        await waitFor('no warning', async () => (await warned()) === 0);
        await t.resolves(
          waitFor('the source', async () => (await seen(web, 4)) === chosen[4]),
          'and with it again as before',
        );
        for (const host of [host1, host2]) for (const { sandbox } of [web, far]) await host.detach('front', sandbox);
        await waitFor(
          'its elements to go',
          async () => !(await host1.exec('nft', 'list', 'ruleset')).stdout.includes(chosen[4]),
        );
      },
      'a network without masquerade keeps its own addresses outside': async (t, lab) => {
        const network = await lab.host(1).create({ name: 'own', ipv6: true, options: { masquerade: 'false' } });
        const web = await join(lab, 1, 'own');
        const lan = place(lab, 'lan');
        for (const { subnet } of network.subnets) {
          const family = subnet.includes(':') ? 6 : 4;
          const address = web.endpoint.addresses.find((each) => each.includes(':') === (family === 6)) ?? '';
          t.match(await seenAs(web.sandbox, lan, outside[family], 5000 + family), address);
          await lab.router(`route add ${subnet} via ${family === 6 ? underlayAddress6(11) : underlayAddress(11)}`);
          t.ok(await canPing(web.sandbox, outside[family]), 'answers find it by a route');
          t.notOk(await canPing(lan, address, quick), 'and nobody comes in by that route');
        }
      },
      'a source that cannot be is refused': async (t, lab) => {
        const refused = async (value: string, more: object = {}): Promise<void> => {
          const create = lab.host(1).create({ name: 'net', options: { 'masquerade-source': value }, ...more });
          await t.rejects(create, { code: 'ERR_INVALID_OPTION', message: /masquerade-source/ }, value);
        };
        await refused('nobody');
        await refused('127.0.0.1');
        await refused('198.18.0.1,198.18.0.2');
        await refused('198.18.0.1', { internal: true });
        await refused('198.18.0.1', { options: { 'masquerade-source': '198.18.0.1', masquerade: 'false' } });
      },
    },
  ),
);
