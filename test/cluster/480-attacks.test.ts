import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { Lab } from '../lab/lab.js';
import { connects, isOpen, place } from '../lab/place.js';
import { canPing, echoBytes, listenIn, mustExecIn, type Sandbox } from '../lab/sandbox.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withLab, withSharedLab } from '../lab/with-lab.js';
import { ethernet, sourceRouted, udpDatagram } from '../nft/frames.js';
import { sendFrames } from '../nft/send-frames.js';

const vxlanProgram = fileURLToPath(new URL('../nft/vxlan-program.js', import.meta.url));
const quick = { timeoutMs: 400 };

interface Joined {
  readonly sandbox: Sandbox;
  readonly endpoint: EndpointView;
}

async function join(lab: Lab, host: number, network: string): Promise<Joined> {
  const sandbox = await lab.sandbox();
  return { sandbox, endpoint: await lab.host(host).attach(network, sandbox) };
}

t.test('over an IPv6 underlay only known VTEPs are heard', async (t) => {
  await withLab(t, { hosts: 2, underlay: 6 }, async (lab) => {
    t.equal((await lab.host(1).status()).vtep, underlayAddress6(11));
    const red = await lab.host(1).create({ name: 'red', ipv6: true });
    const blue = await lab.host(1).create({ name: 'blue', ipv6: true });
    const attacker = await join(lab, 1, 'red');
    const [near, far] = [await join(lab, 1, 'blue'), await join(lab, 2, 'blue')];
    for (const address of far.endpoint.addresses) t.ok(await canPing(near.sandbox, address), 'the network works');
    const other = await listenIn(place(lab, 'h2'), 'listen-udp', 5001);
    await echoBytes(place(lab, 'h1'), 'udp', { address: underlayAddress6(12), port: 5001, sizeBytes: 8 });
    await other.end();
    for (const host of lab.hosts) {
      const tracked = async (port: number): Promise<string> =>
        (await host.exec('conntrack', '-L', '-f', 'ipv6', '-p', 'udp', '--orig-port-dst', String(port))).stdout;
      t.match(await tracked(5001), /dport=5001 /, `${host.name} tracks connections between hosts`);
      t.equal(await tracked(4789), '', 'but not the tunnel');
    }
    const listeners = [
      await listenIn(near.sandbox, 'listen-group', '0.0.0.0', 7777, 'eth0'),
      await listenIn(far.sandbox, 'listen-group', '0.0.0.0', 7777, 'eth0'),
    ];
    const send = (from: Sandbox, text: string, to: Joined, vtep: string): Promise<string> => {
      const [address = ''] = to.endpoint.addresses;
      const inner = [String(blue.vni), to.endpoint.mac, address, '7777', text];
      return mustExecIn(from, process.execPath, vxlanProgram, vtep, '4789', ...inner);
    };
    const gateway6 = red.subnets.find(({ subnet }) => subnet.includes(':'))?.gateway ?? '';
    await send(attacker.sandbox, 'attacker to another host', far, underlayAddress6(12));
    await send(attacker.sandbox, 'attacker to its own host', near, underlayAddress6(11));
    await send(attacker.sandbox, 'attacker to its gateway', near, gateway6);
    await send(attacker.sandbox, 'attacker over IPv4', far, underlayAddress(12));
    await send(place(lab, 'lan'), 'stranger', far, underlayAddress6(12));
    await send(place(lab, 'lan'), 'stranger', near, underlayAddress6(11));
    await send(place(lab, 'h1'), 'host 1', far, underlayAddress6(12));
    await send(place(lab, 'h2'), 'host 2', near, underlayAddress6(11));
    const heard: unknown[] = [];
    for (const listener of listeners) {
      await listener.expect('text');
      heard.push(...listener.lines.flatMap(({ text }) => text ?? []));
      await listener.end();
    }
    t.same(heard, ['host 2', 'host 1']);
    for (const { gateway } of blue.subnets)
      t.notOk(await canPing(attacker.sandbox, gateway ?? '', quick), `${gateway}`);
  });
});

t.test('attacks', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'a packet with a route of its sender’s does not come to the host’s loopback': async (t, lab) => {
        const network = await lab.host(1).create({ name: 'net' });
        const attacker = await join(lab, 1, 'net');
        const h1 = place(lab, 'h1');
        for (const link of ['all', `tsb-${network.id}`])
          await mustExecIn(h1, 'busybox', 'sysctl', '-w', `net.ipv4.conf.${link}.accept_source_route=1`);
        const gateway = network.subnets[0]?.gateway ?? '';
        const ends = { from: attacker.endpoint.addresses[0] ?? '', to: gateway };
        t.ok(await canPing(attacker.sandbox, gateway));
        const neigh = await mustExecIn(attacker.sandbox, 'ip', 'neigh', 'show', gateway);
        const macs = { from: attacker.endpoint.mac, to: /lladdr (\S+)/.exec(neigh)?.[1] ?? '' };
        const frame = (onwards: string, text: string): string =>
          ethernet(macs, 0x0800, sourceRouted(ends, onwards, 17, udpDatagram(7000, 6666, text)));
        const listener = await listenIn(h1, 'listen-group', '0.0.0.0', 6666, 'lo');
        await sendFrames(
          attacker.sandbox,
          'eth0',
          frame('127.0.0.1', 'to loopback'),
          frame(underlayAddress(11), 'to the host'),
        );
        const client = await listenIn(attacker.sandbox, 'send-group', gateway, 6666, 'eth0', 'plainly');
        await listener.expect('text');
        t.same([...new Set(listener.lines.flatMap(({ text }) => text ?? []))], ['plainly']);
        await client.end();
        await listener.end();
        const rules = (await lab.host(1).exec('nft', 'list', 'chain', 'inet', 'tsnet', 'raw-options')).stdout;
        t.match(rules, /ip option lsrr exists counter packets 2 /, 'both came as far as the host');
      },
      'what forwards for our sake only forwards nothing between bridges of others': async (t, lab) => {
        const h1 = place(lab, 'h1');
        const ip = (...lines: string[]): Promise<unknown> =>
          Promise.all([]).then(async () => {
            for (const line of lines) await mustExecIn(h1, 'ip', ...line.split(' '));
          });
        const addBridge = async (name: string, number: number): Promise<void> => {
          await ip(
            `link add ${name} type bridge`,
            `addr add 198.18.${number}.1/24 dev ${name}`,
            `addr add 2001:db8:${number}::1/64 dev ${name} nodad`,
            `link set ${name} up`,
          );
        };
        const addMachine = async (bridge: string, number: number, last: number): Promise<Sandbox> => {
          const sandbox = await lab.sandbox();
          const path = sandbox.target.replace('netns:', '');
          await ip(
            `link add ${bridge}-${last} type veth peer name eth0 netns ${path}`,
            `link set ${bridge}-${last} master ${bridge} up`,
          );
          for (const line of [
            `addr add 198.18.${number}.${last}/24 dev eth0`,
            `addr add 2001:db8:${number}::${last}/64 dev eth0 nodad`,
            'link set eth0 up',
            `route add default via 198.18.${number}.1`,
            `route add default via 2001:db8:${number}::1`,
          ])
            await mustExecIn(sandbox, 'ip', ...line.split(' '));
          return sandbox;
        };
        await addBridge('one', 101);
        await addBridge('two', 102);
        const from = await addMachine('one', 101, 2);
        await addMachine('one', 101, 3);
        await addMachine('two', 102, 2);
        await lab.host(1).create({ name: 'net', ipv6: true });
        const own = await join(lab, 1, 'net');
        const reaches = async (number: number, last: number): Promise<boolean[]> => [
          await canPing(from, `198.18.${number}.${last}`, quick),
          await canPing(from, `2001:db8:${number}::${last}`, quick),
        ];
        await waitFor('a bridge to pass on what is its own', async () => (await reaches(101, 3)).every(Boolean));
        t.same(await reaches(102, 2), [false, false], 'not from one bridge to the other');
        for (const name of ['iptables', 'ip6tables'])
          await mustExecIn(h1, 'busybox', 'sysctl', '-w', `net.bridge.bridge-nf-call-${name}=1`);
        await waitFor('a bridge to pass on what is its own', async () => (await reaches(101, 3)).every(Boolean));
        t.same(await reaches(102, 2), [false, false], 'also where bridged frames are shown to the table');
        await addBridge('late', 103);
        await waitFor('a bridge that comes later', async () =>
          (await lab.host(1).exec('nft', 'list', 'set', 'inet', 'tsnet', 'passing')).stdout.includes('"late"'),
        );
        await lab.host(1).exec('busybox', 'sysctl', '-w', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
        await lab.host(1).exec('busybox', 'sysctl', '-w', 'net.ipv6.conf.default.forwarding=1');
        await waitFor('what somebody else wants forwarded', async () => (await reaches(102, 2)).every(Boolean));
        t.notOk(await canPing(from, own.endpoint.addresses[0] ?? '', quick), 'and not into a network of ours');
      },
      'nobody comes into an internal network, whatever routes he makes': async (t, lab) => {
        const inside = await lab.host(1).create({ name: 'inside', ipv6: true, internal: true });
        await lab.host(1).create({ name: 'front', ipv6: true });
        const victim = await join(lab, 1, 'inside');
        const beside = await join(lab, 1, 'inside');
        const other = await join(lab, 1, 'front');
        const [lan, h1, h2] = [place(lab, 'lan'), place(lab, 'h1'), place(lab, 'h2')];
        await lab.host(1).exec('busybox', 'sysctl', '-w', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
        for (const { subnet } of inside.subnets) {
          const via = subnet.includes(':') ? underlayAddress6(11) : underlayAddress(11);
          for (const from of [lan, h2]) await mustExecIn(from, 'ip', 'route', 'replace', subnet, 'via', via);
        }
        const listener = await listenIn(victim.sandbox, 'listen-tcp', 80);
        for (const address of victim.endpoint.addresses) {
          t.ok(await canPing(beside.sandbox, address), `${address} is reached from beside`);
          t.ok(await isOpen(h1, address, 80), 'and from its host');
          for (const from of [lan, h2, other.sandbox]) {
            t.notOk(await canPing(from, address, quick), `not from ${from.name}`);
            t.notOk(await connects(from, address, 80), `nor its port from ${from.name}`);
          }
        }
        await listener.end();
      },
    },
  ),
);
