import t, { type Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { PortView } from '../../core/api/port.js';
import type { Lab } from '../lab/lab.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { echoBytes, listenIn, mustExecIn, type Sandbox } from '../lab/sandbox.js';
import { Talker, withTalkers } from '../lab/talker.js';
import type { Probe } from '../lab/talker-program.js';
import type { Traffic } from '../lab/traffic.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { quickest, waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

const host1 = { 4: underlayAddress(11), 6: underlayAddress6(11) };

/** A namespace of the lab that is no container: a host, or the router that stands for the outside. */
function place(lab: Lab, name: string): Sandbox {
  const netns = `${lab.prefix}${name}`;
  return { name, target: `netns:${netnsPath(netns)}`, enter: enterArgs(netnsPath(netns)) };
}

async function answers(from: Sandbox, protocol: 'tcp' | 'udp', address: string, port: number): Promise<boolean> {
  return echoBytes(from, protocol, { address, port, sizeBytes: 16 }).then(
    () => true,
    () => false,
  );
}

/** The same by a talker, for what is to be answered. */
function isAnswered(from: Talker, probe: Probe): Promise<boolean> {
  const ask = async (): Promise<boolean | undefined> => (await from.probe([probe]))[0];
  return waitFor(`an answer from ${probe.address}`, ask, 10_000).catch(() => false);
}

async function withServer(
  lab: Lab,
  network: string,
  ports: readonly object[],
  body: (server: { sandbox: Sandbox; endpoint: EndpointView }) => Promise<void>,
): Promise<void> {
  const sandbox = await lab.sandbox();
  const endpoint = await lab.host(1).attach(network, sandbox, { ports: ports as never, name: 'server' });
  const listeners: Traffic[] = [];
  try {
    listeners.push(await listenIn(sandbox, 'listen-tcp', 80), await listenIn(sandbox, 'listen-udp', 80));
    await body({ sandbox, endpoint });
  } finally {
    for (const listener of listeners) await listener.end();
  }
}

const rulesOf = async (lab: Lab, host = 1): Promise<string> =>
  (await lab.host(host).exec('nft', 'list', 'ruleset')).stdout;

async function mended(t: Test, lab: Lab, harm: readonly string[]): Promise<void> {
  const repairs = async (): Promise<number> => (await lab.host(1).status()).firewall?.repairs ?? 0;
  const boundMs = 2000;
  const tookMs = await quickest(boundMs, async () => {
    const before = await repairs();
    t.equal((await lab.host(1).exec(...harm)).status, 0, harm.join(' '));
    const startedMs = performance.now();
    await waitFor('the rules to be back', async () => /8080/.test(await rulesOf(lab)) && (await repairs()) > before);
    return performance.now() - startedMs;
  });
  t.ok(tookMs < boundMs, `${harm.join(' ')} is mended within 2 s (${tookMs.toFixed(0)} ms with the looking)`);
}

t.test('published ports', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'a published port is reached from everywhere, in both families': async (t, lab) => {
        await lab.host(1).create({ name: 'front', ipv6: true });
        await lab.host(1).create({ name: 'other', ipv6: true });
        const ports = [
          { hostPort: 8080, port: 80 },
          { hostPort: 8080, port: 80, protocol: 'udp' },
        ];
        await withServer(lab, 'front', ports, async ({ sandbox, endpoint }) => {
          t.same(endpoint.ports?.length, 2);
          const [near, far, alien] = [await lab.sandbox(), await lab.sandbox(), await lab.sandbox()];
          await lab.host(1).attach('front', near);
          await lab.host(2).attach('front', far);
          await lab.host(1).attach('other', alien);
          const talker = ({ enter }: Sandbox): Promise<Talker> => Talker.start(enter, []);
          const [lan, h1, h2] = [
            await talker(place(lab, 'lan')),
            await talker(place(lab, 'h1')),
            await talker(place(lab, 'h2')),
          ];
          const [itself, beside] = [await talker(sandbox), await talker(near)];
          const [remote, stranger] = [await talker(far), await talker(alien)];
          for (const family of [4, 6] as const) {
            const address = host1[family];
            for (const protocol of ['tcp', 'udp'] as const) {
              const reach = (from: Talker, at: string = address): Promise<boolean> =>
                isAnswered(from, { protocol, address: at, port: 8080 });
              const what = `${protocol} over IPv${family}`;
              t.ok(await reach(lan), `from outside, ${what}`);
              t.ok(await reach(h2), `from another host, ${what}`);
              t.ok(await reach(h1), `from the host itself, ${what}`);
              t.ok(await reach(beside), `from a container beside it, ${what}`);
              t.ok(await reach(remote), `from a container on another host, ${what}`);
              t.ok(await reach(stranger), `from a container of another network, ${what}`);
              t.ok(await reach(itself), `from itself, ${what}`);
              if (family === 4) t.ok(await reach(h1, '127.0.0.1'), `from the host by 127.0.0.1, ${what}`);
              else
                t.notOk(
                  (await h1.probe([{ protocol, address: '::1', port: 8080 }]))[0],
                  `not from the host by [::1], ${what}`,
                );
            }
          }
          for (const each of [lan, h1, h2, itself, beside, remote, stranger]) await each.end();
          const views = await lab
            .host(1)
            .json<PortView[]>('port', 'ls')
            .catch(() => lab.host(1).api.call<PortView[]>('GET', '/v1/agent/ports'));
          t.same(
            views.map(({ hostPort, protocol, name }) => [hostPort, protocol, name]),
            [
              [8080, 'tcp', 'server'],
              [8080, 'udp', 'server'],
            ],
          );
        });
        const server = await lab.host(1).api.call<EndpointView[]>('GET', '/v1/agent/endpoints');
        const sandboxOf = server.find(({ name }) => name === 'server');
        await lab.host(1).api.call('POST', '/v1/agent/detach', { body: { network: 'front', id: sandboxOf?.callerId } });
        t.notMatch(await rulesOf(lab), /8080/, 'nothing of it is left');
        t.notOk(await answers(place(lab, 'lan'), 'tcp', host1[4], 8080), 'and nobody reaches it');
      },
      'the client is seen by its own address where the reply finds its way': async (t, lab) => {
        await lab.host(1).create({ name: 'front' });
        await lab.host(1).create({ name: 'other' });
        await withServer(lab, 'front', [{ hostPort: 8080, port: 81, protocol: 'udp' }], async ({ sandbox }) => {
          const [beside, alien] = [await lab.sandbox(), await lab.sandbox()];
          const [besideAddress] = (await lab.host(1).attach('front', beside)).addresses;
          const [alienAddress] = (await lab.host(1).attach('other', alien)).addresses;
          const own = (await lab.host(1).exec('ip', '-4', '-br', 'addr', 'show', 'type', 'bridge')).stdout;
          const [lan, h1] = [place(lab, 'lan'), place(lab, 'h1')];
          await withTalkers({ lan, h1, server: sandbox, beside, alien }, [81], async (talkers) => {
            const seen = (from: Talker, address: string): Promise<string> =>
              waitFor(`an answer from ${address}`, () => from.seenAs({ address, port: 8080 }), 20_000);
            t.equal(await seen(talkers.lan, host1[4]), underlayAddress(1), 'from outside');
            t.equal(await seen(talkers.h1, host1[4]), host1[4], 'from the host');
            t.equal(await seen(talkers.alien, host1[4]), alienAddress, 'from a container of another network');
            const local = await seen(talkers.h1, '127.0.0.1');
            t.match(own, `${local}/`, 'by loopback: an address of the host in the network');
            const near = await seen(talkers.beside, host1[4]);
            t.not(near, besideAddress, 'from the same network');
            t.match(own, `${near}/`, 'an address of the host in the network');
          });
        });
      },
      'ranges and shifted ranges lead to their ports; host port 0 is chosen': async (t, lab) => {
        await lab.host(1).create({ name: 'front', ipv6: true });
        const ports = [
          { hostPort: 70, hostPortEnd: 89, port: 70 },
          { hostPort: 1079, hostPortEnd: 1081, port: 79 },
          { hostAddress: '127.0.0.1', hostPort: 2080, port: 80 },
          { hostPort: 0, port: 80 },
        ];
        await withServer(lab, 'front', ports, async ({ endpoint }) => {
          const chosen = endpoint.ports?.[3]?.hostPort ?? 0;
          t.ok(chosen >= 49152, `chosen: ${chosen}`);
          await withTalkers({ lan: place(lab, 'lan'), h1: place(lab, 'h1') }, [], async ({ lan, h1 }) => {
            for (const address of [host1[4], host1[6]]) {
              const tcp = (port: number): Probe => ({ protocol: 'tcp', address, port });
              t.ok(await isAnswered(lan, tcp(80)), 'within a range');
              t.ok(await isAnswered(lan, tcp(1080)), 'within a shifted range');
              t.ok(await isAnswered(lan, tcp(chosen)), 'the chosen one');
              t.same(await lan.probe([tcp(2080)]), [false], 'what is for 127.0.0.1 is not for others');
            }
            t.ok(await isAnswered(h1, { protocol: 'tcp', address: '127.0.0.1', port: 2080 }));
          });
          t.equal((await rulesOf(lab)).match(/70-89/g)?.length, 2, 'a range is one element for each family');
        });
      },
      'what cannot be published is refused before anything is made, naming who holds it': async (t, lab) => {
        await lab.host(1).create({ name: 'front' });
        await lab.host(1).create({ name: 'inside', internal: true });
        const listener = await listenIn(place(lab, 'h1'), 'listen-tcp', 9000);
        const refused = async (network: string, port: object, code: string, message: RegExp): Promise<void> => {
          const sandbox = await lab.sandbox();
          await t.rejects(lab.host(1).attach(network, sandbox, { ports: [port as never] }), { code, message });
          t.notMatch(await mustExecIn(sandbox, 'ip', '-br', 'link'), /eth0/, 'nothing is made');
        };
        await refused('front', { hostPort: 9000, port: 80 }, 'ERR_PORT_IN_USE', /process .*pid \d+.*9000/);
        await refused('front', { hostPort: 8990, hostPortEnd: 9010, port: 8990 }, 'ERR_PORT_IN_USE', /9000/);
        await refused('front', { hostPort: 4789, port: 80, protocol: 'udp' }, 'ERR_PORT_IN_USE', /VXLAN/);
        await refused('inside', { hostPort: 8080, port: 80 }, 'ERR_PORT_INTERNAL', /inside/);
        await refused(
          'front',
          { hostAddress: '198.18.0.99', hostPort: 8080, port: 80 },
          'ERR_PORT_HOST_ADDRESS',
          /198\.18\.0\.99/,
        );
        t.notMatch(await rulesOf(lab), /tsnet/, 'no table is there');
        const holder = await lab.sandbox();
        await lab.host(1).attach('front', holder, {
          name: 'holder',
          ports: [{ hostAddress: host1[4], hostPort: 8080, hostPortEnd: 8089, port: 8080 }],
        });
        await refused('front', { hostPort: 8085, port: 80 }, 'ERR_PORT_IN_USE', /endpoint holder/);
        await listener.end();
        await lab.host(1).detach('front', holder);
        const next = await lab.sandbox();
        await t.resolves(
          lab.host(1).attach('front', next, { ports: [{ hostPort: 8085, port: 80 }] }),
          'once given back it can be had',
        );
      },
      'a sandbox that joins several networks at once publishes its ports on each': async (t, lab) => {
        const host = lab.host(1);
        const names = ['one', 'two', 'three', 'four'];
        const beside = await lab.sandbox();
        for (const name of names) {
          await host.create({ name });
          await host.attach(name, beside);
        }
        const sandbox = await lab.sandbox();
        const server = await listenIn(sandbox, 'listen-tcp', 80);
        const lan = await Talker.start(place(lab, 'lan').enter, []);
        for (let round = 1; round <= 3; round += 1) {
          const join = (name: string, at: number): Promise<EndpointView> =>
            host.attach(name, sandbox, { ifname: `e${at}`, ports: [{ hostPort: 8080 + at, port: 80 }] });
          await Promise.all(names.map(join));
          for (const at of names.keys()) {
            const probe = { protocol: 'tcp', address: host1[4], port: 8080 + at } as const;
            t.ok(await isAnswered(lan, probe), `round ${round}, port ${8080 + at}`);
          }
          await Promise.all(names.map((name) => host.detach(name, sandbox)));
        }
        await lan.end();
        await server.end();
        t.notMatch(await rulesOf(lab), /808[0-3]/, 'nothing of it is left');
      },
      'somebody else’s hand in the rules is mended': async (t, lab) => {
        await lab.host(1).create({ name: 'front' });
        const ports = [
          { hostPort: 8080, port: 80 },
          { hostPort: 8081, port: 81 },
        ];
        await withServer(lab, 'front', ports, async ({ sandbox }) => {
          const server = await Talker.start(sandbox.enter, [81]);
          const client = await Talker.start(place(lab, 'lan').enter, []);
          try {
            const say = await client.open({ protocol: 'tcp', address: host1[4], port: 8081 });
            for (const harm of ['flush ruleset', 'delete table inet tsnet', 'flush map inet tsnet port4']) {
              await mended(t, lab, ['nft', ...harm.split(' ')]);
              t.ok(await say(), `${harm}: an open connection goes on`);
            }
          } finally {
            await client.end();
            await server.end();
          }
          await mended(t, lab, ['nft', 'flush', 'chain', 'inet', 'tsnet', 'forward']);
          t.ok(await answers(place(lab, 'lan'), 'tcp', host1[4], 8080));
          await lab.host(1).agent.kill();
          await lab.host(1).startAgent();
          t.ok(await answers(place(lab, 'lan'), 'tcp', host1[4], 8080), 'also after the agent was killed');
        });
      },
    },
  ),
);
