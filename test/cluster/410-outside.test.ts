import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { Lab } from '../lab/lab.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { ownAddresses, seenAs } from '../lab/place.js';
import { canPing, echoBytes, execIn, listenIn, mustExecIn, type Sandbox } from '../lab/sandbox.js';
import { outsideAddress, underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

const vxlanProgram = fileURLToPath(new URL('../nft/vxlan-program.js', import.meta.url));
const quick = { timeoutMs: 500 };

function place(lab: Lab, name: string): Sandbox {
  const netns = `${lab.prefix}${name}`;
  return { name, target: `netns:${netnsPath(netns)}`, enter: enterArgs(netnsPath(netns)) };
}

interface Joined {
  readonly sandbox: Sandbox;
  readonly endpoint: EndpointView;
}

async function join(lab: Lab, host: number, network: string): Promise<Joined> {
  const sandbox = await lab.sandbox();
  return { sandbox, endpoint: await lab.host(host).attach(network, sandbox) };
}

const sysctl = async (lab: Lab, host: number, name: string): Promise<string> =>
  (await lab.host(host).exec('busybox', 'sysctl', '-n', name)).stdout.trim();

t.test('sandboxes reach the outside by an address of their host, and nobody comes in', async (t) => {
  await withLab(t, { hosts: 2, agentArgs: ['--quarantine', '1s'] }, async (lab) => {
    const front = await lab.host(1).create({ name: 'front', ipv6: true });
    const inside = await lab.host(1).create({ name: 'inside', ipv6: true, internal: true });
    t.equal(await sysctl(lab, 1, 'net.ipv4.ip_forward'), '0', 'the host forwards nothing');
    const acceptRa = await sysctl(lab, 1, 'net.ipv6.conf.eth0.accept_ra');
    const web = await join(lab, 1, 'front');
    const closed = await join(lab, 1, 'inside');
    const lan = place(lab, 'lan');

    await t.test('out', async (t) => {
      t.ok(await canPing(web.sandbox, outsideAddress), 'over IPv4');
      t.ok(await canPing(web.sandbox, underlayAddress6(1)), 'over IPv6');
      t.equal(await seenAs(web.sandbox, lan, outsideAddress, 5000), underlayAddress(11), 'seen by its host’s address');
      t.equal(await seenAs(web.sandbox, lan, underlayAddress6(1), 5001), underlayAddress6(11), 'also over IPv6');
      const places = [outsideAddress, underlayAddress6(1)];
      for (const address of places)
        t.notOk(await canPing(closed.sandbox, address, quick), `not from an internal network, to ${address}`);
      const own = await ownAddresses(place(lab, 'h1'), inside);
      for (const [index, family] of ([4, 6] as const).entries()) {
        const via = own[family];
        const dev = ['via', via, 'dev', 'eth0'];
        await mustExecIn(closed.sandbox, 'ip', `-${family}`, 'route', 'add', 'default', ...dev);
        t.ok(await canPing(closed.sandbox, via), `its host is reached by ${via}`);
        t.notOk(await canPing(closed.sandbox, places[index] ?? '', quick), `also with a route made by hand, by ${via}`);
      }
    });

    await t.test('not in', async (t) => {
      for (const { subnet } of front.subnets) {
        const via = subnet.includes(':') ? underlayAddress6(11) : underlayAddress(11);
        await lab.router(`route add ${subnet} via ${via}`);
      }
      for (const address of web.endpoint.addresses)
        t.notOk(await canPing(lan, address, quick), `${address} from outside`);
      for (const address of web.endpoint.addresses)
        t.ok(await canPing(place(lab, 'h1'), address), `${address} from its host`);
    });

    await t.test('forwarding is on for nobody else', async (t) => {
      t.equal(await sysctl(lab, 1, 'net.ipv4.ip_forward'), '0', 'others can still tell that it is off');
      t.equal(
        await sysctl(lab, 1, 'net.ipv6.conf.eth0.accept_ra'),
        acceptRa === '1' ? '2' : acceptRa,
        'the host goes on listening to routers',
      );
      const h2 = place(lab, 'h2');
      await mustExecIn(h2, 'ip', 'route', 'add', outsideAddress, 'via', underlayAddress(11));
      await mustExecIn(h2, 'ip', '-6', 'route', 'add', underlayAddress6(1), 'via', underlayAddress6(11));
      t.notOk(await canPing(h2, outsideAddress, quick), 'IPv4');
      t.notOk(await canPing(h2, underlayAddress6(1), quick), 'IPv6');
      await lab.host(1).exec('busybox', 'sysctl', '-w', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
      await waitFor(
        'forwarding for others',
        async () => (await canPing(h2, outsideAddress, quick)) && (await canPing(h2, underlayAddress6(1), quick)),
      );
      t.pass('once somebody else turns it on, it is on');
      await lab.host(1).exec('busybox', 'sysctl', '-w', 'net.ipv4.ip_forward=0', 'net.ipv6.conf.all.forwarding=0');
      await waitFor(
        'the way out again',
        async () =>
          (await canPing(web.sandbox, outsideAddress, quick)) &&
          (await canPing(web.sandbox, underlayAddress6(1), quick)),
      );
      t.notOk(await canPing(h2, outsideAddress, quick), 'and once turned off again, off for others');
    });

    await t.test('a FORWARD policy of drop is reported, with what to do', async (t) => {
      await lab.host(1).exec('nft', 'add', 'table', 'ip', 'filter');
      await lab
        .host(1)
        .exec(
          'nft',
          'add',
          'chain',
          'ip',
          'filter',
          'FORWARD',
          '{ type filter hook forward priority 0; policy drop; }',
        );
      const status = await lab
        .host(1)
        .waitForAgent('the warning', ({ warnings }) => warnings.some(({ code }) => code === 'ERR_FORWARD_DROPPED'));
      t.match(
        status.warnings.map(({ message }) => message).join(),
        /iptables -I FORWARD -m mark --mark 0x1000\/0x1000 -j ACCEPT/,
      );
      t.notOk(await canPing(web.sandbox, outsideAddress, quick), 'it does drop');
      const told = ['FORWARD', '-m', 'mark', '--mark', '0x1000/0x1000', '-j', 'ACCEPT'];
      await lab.host(1).exec('iptables', '-I', ...told);
      await lab
        .host(1)
        .waitForAgent('no warning', ({ warnings }) => !warnings.some(({ code }) => code === 'ERR_FORWARD_DROPPED'));
      t.ok(await canPing(web.sandbox, outsideAddress), 'what it says opens the way, and ends the warning');
      await lab.host(1).exec('iptables', '-D', ...told);
      await lab
        .host(1)
        .waitForAgent('it again', ({ warnings }) => warnings.some(({ code }) => code === 'ERR_FORWARD_DROPPED'));
      await lab.host(1).exec('nft', 'add', 'chain', 'ip', 'filter', 'DOCKER-USER');
      await lab.host(1).exec('nft', 'add', 'rule', 'ip', 'filter', 'FORWARD', 'jump', 'DOCKER-USER');
      await waitFor('the way through DOCKER-USER', () => canPing(web.sandbox, outsideAddress, quick));
      await lab
        .host(1)
        .waitForAgent('no warning', ({ warnings }) => !warnings.some(({ code }) => code === 'ERR_FORWARD_DROPPED'));
      await waitFor('its rule', async () =>
        /--comment tsnet -j ACCEPT/.test((await lab.host(1).exec('iptables', '-S', 'DOCKER-USER')).stdout),
      );
    });

    await lab.host(1).detach('front', web.sandbox);
    await lab.host(1).detach('inside', closed.sandbox);
    await waitFor(
      'the table to go with the last network',
      async () => !/tsnet/.test((await lab.host(1).exec('nft', 'list', 'ruleset')).stdout),
    );
    for (const [name, value] of [
      ['net.ipv4.conf.eth0.forwarding', '0'],
      ['net.ipv6.conf.all.forwarding', '0'],
      ['net.ipv6.conf.eth0.accept_ra', acceptRa],
    ] as const)
      await t.resolves(
        waitFor(name, async () => (await sysctl(lab, 1, name)) === value),
        `${name} is as before`,
      );
  });
});

t.test('an attacker in a sandbox reaches no other network, tunnel or controller', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const red = await lab.host(1).create({ name: 'red', ipv6: true });
    const blue = await lab.host(1).create({ name: 'blue', ipv6: true });
    const attacker = await join(lab, 1, 'red');
    const far = await join(lab, 2, 'red');
    const victim = await join(lab, 2, 'blue');
    const near = await join(lab, 1, 'blue');

    await t.test('encapsulated frames', async (t) => {
      const [address = ''] = victim.endpoint.addresses;
      const [nearAddress = ''] = near.endpoint.addresses;
      const listener = await listenIn(victim.sandbox, 'listen-group', '0.0.0.0', 7777, 'eth0');
      const nearListener = await listenIn(near.sandbox, 'listen-group', '0.0.0.0', 7777, 'eth0');
      const send = (from: Sandbox, text: string, to: Joined, vtep: string): Promise<string> =>
        mustExecIn(
          from,
          process.execPath,
          vxlanProgram,
          vtep,
          '4789',
          String(blue.vni),
          to.endpoint.mac,
          to === near ? nearAddress : address,
          '7777',
          text,
        );
      await send(attacker.sandbox, 'from the attacker', victim, underlayAddress(12));
      await send(attacker.sandbox, 'from the attacker', near, underlayAddress(11));
      await send(place(lab, 'lan'), 'from a stranger', victim, underlayAddress(12));
      // The way a host that carries the network sends it: what is wrong with the others is who they are.
      await send(place(lab, 'h1'), 'from a host', victim, underlayAddress(12));
      await listener.expect('text');
      t.same(
        listener.lines.flatMap(({ text }) => text ?? []),
        ['from a host'],
        'only a known VTEP is heard',
      );
      await listener.end();
      t.same((await nearListener.end()).text, undefined, 'nor by its own host');
    });

    await t.test('outer VXLAN packets are not tracked, others between the same hosts are', async (t) => {
      for (const address of far.endpoint.addresses)
        t.ok(await canPing(attacker.sandbox, address), `over the tunnel: ${address}`);
      const listener = await listenIn(place(lab, 'h2'), 'listen-udp', 5001);
      await echoBytes(place(lab, 'h1'), 'udp', { address: underlayAddress(12), port: 5001, sizeBytes: 8 });
      await listener.end();
      for (const host of lab.hosts) {
        const tracked = async (port: number): Promise<string> =>
          (await host.exec('conntrack', '-L', '-p', 'udp', '--orig-port-dst', String(port))).stdout;
        t.match(await tracked(5001), /dport=5001 /, `${host.name} tracks connections`);
        t.equal(await tracked(4789), '', `but no VXLAN`);
      }
    });

    await t.test('gateways of other networks', async (t) => {
      for (const { gateway } of red.subnets) t.ok(await canPing(attacker.sandbox, gateway ?? ''), 'its own');
      for (const { gateway } of blue.subnets)
        t.notOk(await canPing(attacker.sandbox, gateway ?? '', quick), `${gateway}`);
      const made = await lab.host(1).create({ name: 'green', ipv6: true });
      const green = await join(lab, 2, 'green');
      for (const address of [...green.endpoint.addresses, ...made.subnets.flatMap(({ gateway }) => gateway ?? [])])
        t.notOk(
          await canPing(attacker.sandbox, address, quick),
          `nor of a network that its host does not carry: ${address}`,
        );
    });

    await t.test('the controller', async (t) => {
      const reach = (from: Sandbox, port: number): Promise<boolean> =>
        echoBytes(from, 'tcp', { address: underlayAddress(2), port, sizeBytes: 1 }).then(
          () => true,
          (error: unknown) =>
            /ECONNRESET|socket|receivedBytes/.test(String(error)) && !/silent|ECONNREFUSED/.test(String(error)),
        );
      const listener = await listenIn(place(lab, 'ctl'), 'listen-tcp', 7999);
      t.ok(await reach(attacker.sandbox, 7999), 'another port of that machine is reached');
      await listener.end();
      const answer = await execIn(
        attacker.sandbox,
        'busybox',
        'timeout',
        '1',
        'busybox',
        'wget',
        '-qO-',
        `http://${underlayAddress(2)}:7420/v1/status`,
      );
      t.not(answer.status, 0, 'the controller is not');
      t.match(answer.stderr, /^(?!.*(401|403|HTTP)).*$/s, 'not even to be turned away');
    });

    await t.test('loopback of the host', async (t) => {
      const host = place(lab, 'h1');
      const listener = await listenIn(host, 'listen-group', '0.0.0.0', 6666, 'lo');
      await mustExecIn(attacker.sandbox, 'ip', 'addr', 'del', '127.0.0.1/8', 'dev', 'lo');
      await mustExecIn(attacker.sandbox, 'busybox', 'sysctl', '-w', 'net.ipv4.conf.eth0.route_localnet=1');
      await mustExecIn(
        attacker.sandbox,
        'ip',
        'route',
        'add',
        '127.0.0.1/32',
        'via',
        red.subnets[0]?.gateway ?? '',
        'dev',
        'eth0',
      );
      const client = await listenIn(attacker.sandbox, 'send-group', '127.0.0.1', 6666, 'eth0', 'from the attacker');
      await waitFor('the packet to be dropped', async () =>
        /daddr 127\.0\.0\.0\/8 counter packets [1-9]/.test((await host1Rules(lab)).stdout),
      );
      await client.end();
      t.same((await listener.end()).text, undefined);
    });
  });
});

const host1Rules = (lab: Lab): ReturnType<typeof execIn> =>
  lab.host(1).exec('nft', 'list', 'chain', 'inet', 'tsnet', 'raw-from-sandbox');
