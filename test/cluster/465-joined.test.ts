import t, { type Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { NetworkView } from '../../core/api/network.js';
import type { Lab } from '../lab/lab.js';
import { canPing, echoBytes, listenIn, mustExecIn, reaches, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';
import { ethernet, ipPacket, udpDatagram } from '../nft/frames.js';
import { sendFrames } from '../nft/send-frames.js';

const quick = { timeoutMs: 300 };

interface Joined {
  readonly sandbox: Sandbox;
  readonly endpoint: EndpointView;
}

async function join(lab: Lab, host: number, network: string): Promise<Joined> {
  const sandbox = await lab.sandbox();
  return { sandbox, endpoint: await lab.host(host).attach(network, sandbox) };
}

const addressOf = ({ endpoint }: Joined, family: 4 | 6): string =>
  endpoint.addresses.find((address) => address.includes(':') === (family === 6)) ?? '';

async function reachEachOther(t: Test, ...pairs: (readonly [Joined, Joined])[]): Promise<void> {
  for (const [one, other] of pairs) {
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const)
      for (const address of to.endpoint.addresses)
        t.ok(await reaches(from.sandbox, address), `${from.sandbox.name} reaches ${address}`);
  }
}

async function keptApart(t: Test, ...pairs: (readonly [Joined, Joined])[]): Promise<void> {
  for (const [one, other] of pairs) {
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const)
      for (const address of to.endpoint.addresses)
        t.notOk(await canPing(from.sandbox, address, quick), `${from.sandbox.name} does not reach ${address}`);
  }
}

const rulesOf = async (lab: Lab, host: number): Promise<string> =>
  (await lab.host(host).exec('nft', 'list', 'ruleset')).stdout;

const hasPair = async (lab: Lab, host: number, one: NetworkView, other: NetworkView): Promise<boolean> =>
  (await rulesOf(lab, host)).includes(`"tsb-${one.id}" . "tsb-${other.id}"`);

async function keptApartSoon(sandbox: Sandbox, address: string): Promise<void> {
  await waitFor(`${address} to be out of reach`, async () => !(await canPing(sandbox, address, quick)));
}

/** From one fixed port, so that it is the same connection each time. */
const udpEcho = (from: Sandbox, address: string): Promise<boolean> =>
  echoBytes(from, 'udp', { address, port: 6000, sizeBytes: 8, fromPort: 6001 }).then(
    () => true,
    () => false,
  );

t.test('joining networks', (t) =>
  withSharedLab(
    t,
    { hosts: 2, agentArgs: ['--quarantine', '1s'] },
    {
      'joined networks reach each other, and are apart again afterwards': async (t, lab) => {
        const [host1, host2] = [lab.host(1), lab.host(2)];
        const red = await host1.create({ name: 'red', ipv6: true });
        const blue = await host1.create({ name: 'blue', ipv6: true });
        const green = await host1.create({ name: 'green', ipv6: true });
        const red1 = await join(lab, 1, 'red');
        const blue2 = await join(lab, 2, 'blue');
        const green1 = await join(lab, 1, 'green');
        await keptApart(t, [red1, blue2]);

        const view = await host1.json<NetworkView>('update', 'red', '--join', 'blue');
        t.same(view.joined, ['blue']);
        t.same((await host1.json<NetworkView[]>('inspect', 'blue'))[0]?.joined, ['red'], 'each says so of the other');
        await host1.json('update', 'green', '--join', 'blue');
        await waitFor(
          'both hosts to carry both',
          async () => (await hasPair(lab, 1, red, blue)) && hasPair(lab, 2, blue, red),
        );

        await t.test('across hosts, where each carries an endpoint of one of them only', async (t) => {
          await reachEachOther(t, [red1, blue2]);
          for (const family of [4, 6] as const) {
            const listener = await listenIn(blue2.sandbox, 'listen-tcp', 5000 + family);
            const size = { sizeBytes: 200_000, port: 5000 + family, address: addressOf(blue2, family) };
            t.equal((await echoBytes(red1.sandbox, 'tcp', size)).receivedBytes, 200_000, `TCP over IPv${family}`);
            await listener.end();
          }
        });
        const blue1 = await join(lab, 1, 'blue');
        const red2 = await join(lab, 2, 'red');
        await t.test('on one host, and all others', (t) =>
          reachEachOther(t, [red1, blue1], [red2, blue1], [red2, blue2], [green1, blue2]),
        );

        await t.test('with its own source, and no other', async (t) => {
          const listener = await listenIn(blue2.sandbox, 'listen-group', '0.0.0.0', 7000, 'eth0');
          const ends = { from: addressOf(red1, 4), to: addressOf(blue2, 4) };
          const gateway = (await mustExecIn(red1.sandbox, 'ip', 'neigh', 'show', red.subnets[0]?.gateway ?? '')).split(
            ' ',
          );
          const mac = gateway[gateway.indexOf('lladdr') + 1] ?? '';
          const frame = (from: string, text: string): string =>
            ethernet(
              { from: red1.endpoint.mac, to: mac },
              0x0800,
              ipPacket({ ...ends, from }, 17, udpDatagram(7000, 7000, text)),
            );
          await sendFrames(red1.sandbox, 'eth0', frame(addressOf(blue1, 4), 'forged'), frame(ends.from, 'honest'));
          t.equal(await listener.expect('text'), 'honest');
          t.equal(await listener.expect('from'), ends.from, 'the source is kept');
          await listener.end();
        });

        await t.test('a network that one of them is joined to is not reached through it', async (t) => {
          await keptApart(t, [red1, green1]);
          for (const { gateway } of blue.subnets)
            t.notOk(await canPing(red1.sandbox, gateway ?? '', quick), 'nor the gateway of a joined one');
        });

        await t.test('also from a sandbox whose default route is elsewhere, and from one without', async (t) => {
          await host1.create({ name: 'inside', ipv6: true, internal: true });
          const both = await lab.sandbox();
          const inside = await join(lab, 1, 'inside');
          await host1.attach('green', both);
          const second = { sandbox: both, endpoint: await host1.attach('red', both) };
          const routes = await mustExecIn(both, 'ip', 'route');
          t.match(routes, new RegExp(`${blue.subnets[0]?.subnet} via ${red.subnets[0]?.gateway} dev eth1`));
          await host1.json('update', 'inside', '--join', 'blue');
          await reachEachOther(t, [inside, blue2], [inside, blue1]);
          await keptApart(t, [inside, red1]);
          await host1.detach('green', both);
          await reachEachOther(t, [second, blue2]);
          await host1.json('update', 'inside', '--unjoin', 'blue');
          await keptApartSoon(inside.sandbox, addressOf(blue2, 4));
          for (const family of ['-4', '-6'])
            await waitFor(
              'its routes to go',
              async () => !/2084/.test(await mustExecIn(inside.sandbox, 'ip', family, 'route')),
            );
          await host1.detach('inside', inside.sandbox);
          await host1.detach('red', both);
        });

        await t.test('also after the agents were killed', async (t) => {
          for (const host of [host1, host2]) {
            await host.agent.kill();
            await host.startAgent();
          }
          await reachEachOther(t, [red1, blue2], [red2, blue1]);
        });

        await t.test('until they are parted, established connections included', async (t) => {
          const listeners = [
            await listenIn(blue2.sandbox, 'listen-udp', 6000),
            await listenIn(blue1.sandbox, 'listen-udp', 6000),
          ];
          const flow = (to: Joined): Promise<boolean> => udpEcho(red1.sandbox, addressOf(to, 4));
          t.same([await flow(blue1), await flow(blue2)], [true, true], 'before');
          await host1.json('update', 'blue', '--unjoin', 'red');
          await waitFor(
            'it to be heard',
            async () => !(await hasPair(lab, 1, red, blue)) && !(await hasPair(lab, 2, blue, red)),
          );
          await t.resolves(
            waitFor('flows to end', async () => !(await flow(blue1)) && !(await flow(blue2))),
            'the same addresses and ports',
          );
          for (const listener of listeners) await listener.end();
          await keptApart(t, [red1, blue1], [red1, blue2], [red2, blue1], [red2, blue2]);
          await reachEachOther(t, [green1, blue2]);
        });

        await t.test('what was carried for another network only goes with it', async (t) => {
          t.match((await host2.exec('ip', 'link')).stdout, `tsb-${green.id}`, 'for blue');
          await lab.host(2).detach('blue', blue2.sandbox);
          await waitFor(
            'green to go',
            async () => !(await host2.exec('ip', 'link')).stdout.includes(`tsb-${green.id}`),
          );
          await waitFor('blue to go', async () => !(await host2.exec('ip', 'link')).stdout.includes(`tsb-${blue.id}`));
          await waitFor('its rules to go', async () => !(await rulesOf(lab, 2)).includes(`tsb-${blue.id}`));
          await reachEachOther(t, [red1, red2], [green1, blue1]);
          await host1.detach('blue', blue1.sandbox);
          const removed = await waitFor('blue to be free', async () => (await host1.tsnet('rm', 'blue')).status === 0);
          t.ok(removed);
          t.equal(
            (await host1.json<NetworkView[]>('inspect', 'green'))[0]?.joined,
            undefined,
            'nobody is joined to it',
          );
        });
      },
      'what cannot be joined is refused': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'red' });
        await host.create({ name: 'local', driver: 'bridge' });
        await host.create({ name: 'six', subnets: [{ subnet: 'fd00:6::/64' }] });
        await host.create({
          name: 'lan',
          driver: 'macvlan',
          subnets: [{ subnet: '203.0.113.0/24' }],
          options: { parent: 'eth0' },
        });
        const refused = async (code: string, message: RegExp, name: string, other: string): Promise<void> => {
          const change = host.api.call('PATCH', `/v1/networks/${name}`, { body: { join: [other] } });
          await t.rejects(change, { code, message }, `${name} and ${other}`);
        };
        await refused('ERR_JOIN_UNSUPPORTED', /itself/, 'red', 'red');
        await refused('ERR_JOIN_UNSUPPORTED', /bridge/, 'red', 'local');
        await refused('ERR_JOIN_UNSUPPORTED', /macvlan/, 'lan', 'red');
        await refused('ERR_JOIN_UNSUPPORTED', /family/, 'six', 'red');
        await refused('ERR_NETWORK_UNKNOWN', /nobody/, 'red', 'nobody');
        await t.rejects(host.create({ name: 'new', join: ['nobody'] }), {
          code: 'ERR_NETWORK_UNKNOWN',
          message: /nobody/,
        });
        t.same(
          (await host.json<NetworkView[]>('ls')).map(({ name, joined }) => [name, joined]),
          [
            ['lan', undefined],
            ['local', undefined],
            ['red', undefined],
            ['six', undefined],
          ],
          'and changes nothing',
        );

        await t.test('bridges of one host can', async (t) => {
          const made = await host.json<NetworkView>('create', 'near', '--driver', 'bridge', '--join', 'local');
          t.same(made.joined, ['local']);
          await reachEachOther(t, [await join(lab, 1, 'near'), await join(lab, 1, 'local')]);
        });
      },
    },
  ),
);
