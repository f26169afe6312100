import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { PortView } from '../../core/api/port.js';
import type { Lab } from '../lab/lab.js';
import { ownAddresses, place } from '../lab/place.js';
import type { ProgramResult } from '../lab/program.js';
import { echoBytes, execIn, listenIn, mustExecIn, type Sandbox } from '../lab/sandbox.js';
import { withTalkers, type Talker } from '../lab/talker.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

type Family = 4 | 6;
const host1 = { 4: underlayAddress(11), 6: underlayAddress6(11) } as const;
const host2 = { 4: underlayAddress(12), 6: underlayAddress6(12) } as const;
const outside = { 4: underlayAddress(1), 6: underlayAddress6(1) } as const;
const families: readonly Family[] = [4, 6];

const addressOf = ({ addresses }: EndpointView, family: Family): string =>
  addresses.find((address) => address.includes(':') === (family === 6)) ?? '';

/** The address that the server sees a client's datagrams come from, and answers. */
const seen = (from: Talker, address: string): Promise<string> =>
  waitFor(`an answer from ${address}`, () => from.seenAs({ address, port: 8081 }), 20_000);

/** Whether it is answered by TCP. */
const isAnswered = async (from: Talker, address: string, port = 8080): Promise<boolean> =>
  from.open({ protocol: 'tcp', address, port }).then((say) => say());

async function answers(from: Sandbox, address: string, port: number): Promise<boolean> {
  return echoBytes(from, 'tcp', { address, port, sizeBytes: 16 }).then(
    () => true,
    () => false,
  );
}

const ports = [
  { hostPort: 8080, port: 80 },
  { hostPort: 8081, port: 81, protocol: 'udp' },
] as const;

t.test('who reaches a published port, and as whom', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'a client is seen by its own address where the reply finds its way, in both families': async (t, lab) => {
        const [one, two] = [lab.host(1), lab.host(2)];
        const front = await one.create({ name: 'front', ipv6: true });
        await one.create({ name: 'other', ipv6: true });
        const [server, beside, alien, far] = [
          await lab.sandbox(),
          await lab.sandbox(),
          await lab.sandbox(),
          await lab.sandbox(),
        ];
        await one.attach('front', server, { ports });
        await one.attach('front', beside);
        const stranger = await one.attach('other', alien);
        await two.attach('front', far);
        const own = await ownAddresses(place(lab, 'h1'), front);
        const [lan, h1, h2] = [place(lab, 'lan'), place(lab, 'h1'), place(lab, 'h2')];
        await withTalkers({ lan, h1, h2, server, beside, alien, far }, [81], async (talkers) => {
          for (const family of families) {
            const as = async (who: keyof typeof talkers, expected: string, what: string): Promise<void> => {
              t.equal(await seen(talkers[who], host1[family]), expected, `${what}, IPv${family}`);
            };
            await as('lan', outside[family], 'from outside: its own');
            await as('h2', host2[family], 'another host: its own');
            await as('h1', host1[family], 'the host: the address that it went to');
            await as('alien', addressOf(stranger, family), 'a container of another network: its own');
            await as('far', host2[family], 'a container on another host: its host’s');
            await as('beside', own[family], 'a container of the same network: the host’s in the network');
            await as('server', own[family], 'the container itself: the host’s in the network');
          }
          t.equal(await seen(talkers.h1, '127.0.0.1'), own[4], 'by 127.0.0.1');
        });
      },
      'a port on a network without the default route is translated to the host’s own address': async (t, lab) => {
        const host = lab.host(1);
        for (const name of ['main', 'third']) await host.create({ name, ipv6: true });
        const side = await host.create({ name: 'side', ipv6: true });
        const [server, alien] = [await lab.sandbox(), await lab.sandbox()];
        await host.attach('main', server);
        await host.attach('side', server, { ports });
        await host.attach('third', alien);
        const routes = await mustExecIn(server, 'ip', 'route', 'show', 'default');
        t.match(routes, / dev eth0/, 'the default route is the other network’s');
        const own = await ownAddresses(place(lab, 'h1'), side);
        const [lan, h1, h2] = [place(lab, 'lan'), place(lab, 'h1'), place(lab, 'h2')];
        await withTalkers({ lan, h1, h2, server, alien }, [80, 81], async (talkers) => {
          const clients = { outside: talkers.lan, 'the host': talkers.h1, 'another host': talkers.h2 };
          for (const family of families) {
            const address = host1[family];
            for (const [what, client] of Object.entries(clients)) {
              t.equal(await seen(client, address), own[family], `${what}, IPv${family}`);
              t.ok(await isAnswered(client, address), `${what} is answered, IPv${family}`);
            }
            t.equal(await seen(talkers.alien, address), own[family], `a container, IPv${family}`);
            t.ok(await isAnswered(talkers.server, address), `the container itself is answered, IPv${family}`);
          }
        });
      },
      'a sandbox on several networks sees containers by the host’s address, all others by their own': async (
        t,
        lab,
      ) => {
        const host = lab.host(1);
        const main = await host.create({ name: 'main', ipv6: true });
        await host.create({ name: 'side', ipv6: true });
        const [server, beside] = [await lab.sandbox(), await lab.sandbox()];
        await host.attach('main', server, { ports });
        // The server has a link in this network, by which its answer would go past the translation.
        await host.attach('side', server);
        await host.attach('side', beside);
        const own = await ownAddresses(place(lab, 'h1'), main);
        await withTalkers({ lan: place(lab, 'lan'), server, beside }, [80, 81], async (talkers) => {
          for (const family of families) {
            const address = host1[family];
            t.equal(await seen(talkers.lan, address), outside[family], `IPv${family}`);
            t.equal(await seen(talkers.beside, address), own[family], `a container, IPv${family}`);
            t.ok(await isAnswered(talkers.beside, address), `which is answered, IPv${family}`);
            t.ok(await isAnswered(talkers.lan, address), `as is the outside, IPv${family}`);
          }
        });
      },
      'connect and run publish, and say which port was chosen': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'front', ipv6: true });
        const sandbox = await lab.sandbox();
        const publish = ['-p', '8080:80', '--publish', `[${host1[6]}]:8090-8092:80-82`, '-p', '0:80', '-p', '0:80/udp'];
        const made = await host.tsnet('connect', 'front', sandbox.target, '--name', 'web', ...publish);
        t.equal(made.status, 0, made.stderr);
        const views = await host.json<PortView[]>('port', 'ls');
        t.same(new Set(views.map(({ name }) => name)), new Set(['web']));
        const chosen = views.filter(({ hostPort }) => hostPort >= 49_152);
        t.same(chosen.map(({ protocol }) => protocol).sort(), ['tcp', 'udp'], 'two were chosen');
        for (const { hostPort } of chosen) t.match(made.stdout, `,${hostPort}:80/`, 'connect says which');
        t.match((await host.tsnet('port', 'ls')).stdout, /8090-8092/, 'ranges are listed as such');
        const lan = place(lab, 'lan');
        await withTalkers({ lan, server: sandbox }, [80], async (talkers) => {
          for (const family of families) {
            const address = host1[family];
            t.ok(await isAnswered(talkers.lan, address), `8080, IPv${family}`);
            for (const { protocol, hostPort } of chosen) {
              const say = await talkers.lan.open({ protocol: protocol as 'tcp' | 'udp', address, port: hostPort });
              await t.resolves(waitFor('an answer', say), `the chosen ${hostPort}/${protocol}, IPv${family}`);
            }
            const isReached = await isAnswered(talkers.lan, address, 8090);
            t.equal(isReached, family === 6, `what is for one address, IPv${family}`);
          }
        });

        const echo = ['busybox', 'nc', '-ll', '-p', '80', '-e', '/bin/cat'];
        const asked = ['-p', '8085:80', '-p', '127.0.0.1:0:80'];
        const run = lab.startDaemon({
          name: 'run',
          logPath: lab.logPath('run'),
          argv: [...place(lab, 'h1').enter, host.options.tsnet, 'run', '--network', 'front', ...asked, '--', ...echo],
          env: { TSNET_AGENT_SOCKET: host.socket },
        });
        await waitFor('what runs to answer', () => answers(lan, host1[4], 8085), 20_000);
        t.ok(await answers(lan, host1[6], 8085), 'run publishes in both families');
        const told = /^published: 127\.0\.0\.1:(\d+):80\/tcp$/m.exec(run.log())?.[1];
        t.ok(await answers(place(lab, 'h1'), '127.0.0.1', Number(told)), `and says which port was chosen: ${told}`);
        await run.stop();
        await waitFor('its port to go with it', async () =>
          (await host.json<PortView[]>('port', 'ls')).every(({ hostPort }) => hostPort !== 8085),
        );
        t.notOk(await answers(lan, host1[4], 8085));
      },
      'the name server’s port is published by an address of the host only, and sandboxes go on to look up names':
        async (t, lab) => {
          const host = lab.host(1);
          const front = await host.create({ name: 'front', ipv6: true });
          const [server, client] = [await lab.sandbox(), await lab.sandbox()];
          // The first of its host: no name server is there yet that would be in the way.
          for (const protocol of ['udp', 'tcp'] as const)
            await t.rejects(host.attach('front', server, { ports: [{ hostPort: 53, port: 80, protocol }] }), {
              code: 'ERR_PORT_IN_USE',
              message: /the name server of tsnet/,
            });
          const ports = families.map((family) => ({
            hostAddress: host1[family],
            hostPort: 53,
            port: 80,
            protocol: 'udp' as const,
          }));
          await host.attach('front', server, { name: 'web', ports });
          await host.attach('front', client);
          const listener = await listenIn(server, 'listen-udp', 80);
          for (const { gateway } of front.subnets) {
            const asked = await waitFor(`an answer of ${gateway}`, async () => {
              const { stdout } = await execIn(
                client,
                'busybox',
                'timeout',
                '2',
                'busybox',
                'nslookup',
                'web.front',
                gateway ?? '',
              );
              return /Name:\s+web\.front/.test(stdout) ? stdout : null;
            }).catch(() => '');
            t.match(asked, 'web.front', `a sandbox looks up names at ${gateway}`);
          }
          for (const family of families)
            await t.resolves(
              echoBytes(place(lab, 'lan'), 'udp', { address: host1[family], port: 53, sizeBytes: 8 }),
              `IPv${family}`,
            );
          await listener.end();
        },
      'a port that a socket of the host takes is refused for just the addresses that it takes': (t, lab) =>
        checkListeners(t, lab),
    },
  ),
);

/** Sockets that listen, and what may be published beside each. */
async function checkListeners(t: Test, lab: Lab): Promise<void> {
  const host = lab.host(1);
  await host.create({ name: 'front', ipv6: true });
  const rows: readonly (readonly [
    protocol: 'tcp' | 'udp',
    on: string,
    refused: readonly (string | null)[],
    free: readonly string[],
  ])[] = [
    ['tcp', host1[4], [null, host1[4]], ['127.0.0.1', host1[6]]],
    ['tcp', '127.0.0.1', [null, '127.0.0.1'], [host1[4]]],
    ['tcp', '::', [null, '127.0.0.1', host1[4], host1[6]], []],
    // An IPv4 address, as a socket of family 6 shows it.
    ['tcp', `::ffff:${host1[4]}`, [null, host1[4]], ['127.0.0.1', host1[6]]],
    ['udp', host1[6], [null, host1[6]], [host1[4]]],
    ['udp', '0.0.0.0', [null, '127.0.0.1', host1[4]], [host1[6]]],
  ];
  const sandbox = await lab.sandbox();
  await host.attach('front', sandbox, { name: 'web' });
  const set = async (...ports: readonly string[]): Promise<ProgramResult> =>
    host.tsnet('endpoint', 'set', 'web', ...ports.flatMap((port) => ['-p', port]));
  t.match((await set('[::1]:8080:80')).stderr, /^error: .*nothing that is sent to \[::1\]\nhint: /, 'nobody could');
  const firstPort = 9000;
  const name = 'listeners';
  const { pid } = lab.startDaemon({
    name,
    logPath: lab.logPath(name),
    argv: [
      ...place(lab, 'h1').enter,
      process.execPath,
      '-e',
      rows.map(([protocol, on], index) => listenText(protocol, on, firstPort + index)).join(';'),
    ],
    env: {},
  });
  const log = (): string => readFileSync(lab.logPath(name), 'utf8');
  await waitFor('all sockets to listen', () => log().match(/ready/g)?.length === rows.length);
  for (const [index, [protocol, on, refused, free]] of rows.entries()) {
    const hostPort = firstPort + index;
    const publish = (hostAddress: string | null, by: 'tcp' | 'udp' = protocol): Promise<unknown> => {
      const body = { ports: [{ hostAddress, hostPort, port: 80, protocol: by }] };
      return host.api.call('PATCH', '/v1/agent/endpoints/web', { body });
    };
    for (const at of refused)
      await t.rejects(
        publish(at),
        { code: 'ERR_PORT_IN_USE', message: new RegExp(`process \\S+ \\(pid ${pid}\\).*${hostPort}`) },
        `${at ?? 'all addresses'}, ${protocol}, beside ${on}: names the holder`,
      );
    for (const at of free) await t.resolves(publish(at), `${at}, ${protocol}, beside ${on}`);
    await t.resolves(publish(null, protocol === 'tcp' ? 'udp' : 'tcp'), `the other protocol beside ${on}`);
  }
  t.match((await set('9000:80')).stderr, /^error: .*process .*9000.*\nhint: /, 'the command says so too');
  t.equal((await set('127.0.0.1:9000:80')).status, 0);
}

const listenText = (protocol: 'tcp' | 'udp', address: string, port: number): string =>
  protocol === 'tcp'
    ? `require('net').createServer().listen(${port}, '${address}', () => console.log('ready'))`
    : `require('dgram').createSocket('${address.includes(':') ? 'udp6' : 'udp4'}').bind(${port}, '${address}', () => console.log('ready'))`;
