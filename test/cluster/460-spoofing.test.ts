import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { linkLocalOf } from '../../core/nft/origin.js';
import type { Lab } from '../lab/lab.js';
import { canPing, mustExecIn, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';
import { addrBytes, arpPacket, ethernet, icmp6Message, ipPacket, udpDatagram } from '../nft/frames.js';

const program = fileURLToPath(new URL('../nft/frame-program.js', import.meta.url));
const alienMac = '02:66:66:66:66:66';

interface Joined {
  readonly sandbox: Sandbox;
  readonly endpoint: EndpointView;
}

/** A frame, and what it is recognised by where it arrives. */
interface Case {
  readonly name: string;
  readonly frame: string;
  readonly match: string;
}

const addressOf = ({ endpoint }: Joined, family: 4 | 6): string =>
  endpoint.addresses.find((address) => address.includes(':') === (family === 6)) ?? '';

const hex = (address: string): string => `0x${Buffer.from(addrBytes(address)).toString('hex')}`;

/** What an endpoint may send, and what it may not, to another one in the place of a third. */
function casesOf(attacker: Joined, victim: Joined, third: Joined): { honest: Case[]; forged: Case[] } {
  const own = { from: attacker.endpoint.mac, to: victim.endpoint.mac };
  const v4 = { from: addressOf(attacker, 4), to: addressOf(victim, 4) };
  const v6 = { from: addressOf(attacker, 6), to: addressOf(victim, 6) };
  const [third4, third6] = [addressOf(third, 4), addressOf(third, 6)];
  const local = { from: linkLocalOf(attacker.endpoint.mac), to: v6.to };
  const asked = { mac: victim.endpoint.mac, address: v4.to };
  const udp = (port: number): number[] => udpDatagram(7000, port);
  const ip = (ends: { from: string; to: string }, port: number): number[] => ipPacket(ends, 17, udp(port));
  const nd = (type: 134 | 135 | 136 | 137, target: string, ends = v6): string =>
    ethernet(own, 0x86dd, ipPacket(ends, 58, icmp6Message(type, target)));
  const arp = (sender: { mac: string; address: string }, target = asked): string =>
    ethernet(own, 0x0806, arpPacket(2, sender, target));
  const advert = (target: string): string => `icmpv6 type nd-neighbor-advert @th,64,128 ${hex(target)}`;
  const unknown = '00:00:00:00:00:00';
  return {
    honest: [
      { name: 'IPv4', frame: ethernet(own, 0x0800, ip(v4, 7001)), match: 'udp dport 7001' },
      { name: 'IPv6', frame: ethernet(own, 0x86dd, ip(v6, 7002)), match: 'udp dport 7002' },
      { name: 'link-local', frame: ethernet(own, 0x86dd, ip(local, 7003)), match: 'udp dport 7003' },
      {
        name: 'ARP',
        frame: arp({ mac: own.from, address: v4.from }),
        match: `arp saddr ip ${v4.from} arp operation reply`,
      },
      {
        name: 'ARP probe',
        frame: ethernet(
          own,
          0x0806,
          arpPacket(1, { mac: own.from, address: '0.0.0.0' }, { mac: unknown, address: v4.from }),
        ),
        match: `arp saddr ip 0.0.0.0 arp daddr ip ${v4.from}`,
      },
      { name: 'advertisement', frame: nd(136, v6.from), match: advert(v6.from) },
      {
        name: 'router solicitation without an address',
        frame: ethernet(own, 0x86dd, ipPacket({ from: '::', to: v6.to }, 58, icmp6Message(133, '::'))),
        match: 'ip6 saddr :: icmpv6 type nd-router-solicit',
      },
      {
        name: 'duplicate address detection',
        frame: nd(135, v6.from, { from: '::', to: v6.to }),
        match: `ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 ${hex(v6.from)}`,
      },
    ],
    forged: [
      {
        name: 'another MAC',
        frame: ethernet({ ...own, from: alienMac }, 0x0800, ip(v4, 7101)),
        match: 'udp dport 7101',
      },
      {
        name: "another's IPv4",
        frame: ethernet(own, 0x0800, ip({ ...v4, from: third4 }, 7102)),
        match: 'udp dport 7102',
      },
      {
        name: "another's IPv6",
        frame: ethernet(own, 0x86dd, ip({ ...v6, from: third6 }, 7103)),
        match: 'udp dport 7103',
      },
      {
        name: 'ARP for another',
        frame: arp({ mac: own.from, address: third4 }),
        match: `arp saddr ip ${third4} arp saddr ether ${own.from}`,
      },
      {
        name: 'ARP with another MAC',
        frame: arp({ mac: alienMac, address: v4.from }),
        match: `arp saddr ether ${alienMac}`,
      },
      {
        name: 'ARP probe for another',
        frame: arp({ mac: own.from, address: '0.0.0.0' }, { mac: unknown, address: third4 }),
        match: `arp saddr ip 0.0.0.0 arp daddr ip ${third4}`,
      },
      { name: 'advertisement for another', frame: nd(136, third6), match: advert(third6) },
      {
        name: "detection of another's address",
        frame: nd(135, third6, { from: '::', to: v6.to }),
        match: `ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 ${hex(third6)}`,
      },
      { name: 'router advertisement', frame: nd(134, '::', local), match: 'icmpv6 type nd-router-advert' },
      { name: 'redirect', frame: nd(137, third6, local), match: 'icmpv6 type nd-redirect' },
      {
        name: "solicitation from another's address",
        frame: nd(135, v6.to, { from: third6, to: v6.to }),
        match: `ip6 saddr ${third6} icmpv6 type nd-neighbor-solicit`,
      },
      {
        name: 'router solicitation from another MAC',
        frame: ethernet(
          { ...own, from: alienMac },
          0x86dd,
          ipPacket({ from: '::', to: v6.to }, 58, icmp6Message(133, '::')),
        ),
        match: `ether saddr ${alienMac} icmpv6 type nd-router-solicit`,
      },
      {
        name: 'another MAC without a protocol',
        frame: ethernet({ ...own, from: alienMac }, 0x88b5, udp(7104)),
        match: `ether saddr ${alienMac} ether type 0x88b5`,
      },
      {
        name: "a VLAN's tag",
        frame: ethernet(own, 0x8100, [0, 5, 0x08, 0x00, ...ip({ ...v4, from: third4 }, 7105)]),
        match: 'vlan id 5',
      },
      // Clients do not all look at the port that a reply is from.
      ...[67, 7000].map((from) => ({
        name: `DHCP reply from ${from}`,
        frame: ethernet(own, 0x0800, ipPacket(v4, 17, udpDatagram(from, 68))),
        match: `udp sport ${from} udp dport 68`,
      })),
      ...[547, 7000].map((from) => ({
        name: `DHCPv6 reply from ${from}`,
        frame: ethernet(own, 0x86dd, ipPacket(local, 17, udpDatagram(from, 546))),
        match: `udp sport ${from} udp dport 546`,
      })),
    ],
  };
}

async function join(lab: Lab, host: number, network: string, labels: Record<string, string> = {}): Promise<Joined> {
  const sandbox = await lab.sandbox();
  return { sandbox, endpoint: await lab.host(host).attach(network, sandbox, { labels }) };
}

/** Sends all frames; the names of those that arrive. An honest one of both ends it. */
async function arrivals(attacker: Joined, victim: Joined, cases: readonly Case[]): Promise<string[]> {
  const run = (...argv: string[]): Promise<string> => mustExecIn(victim.sandbox, ...argv);
  const own = { from: attacker.endpoint.mac, to: victim.endpoint.mac };
  const ends = { from: addressOf(attacker, 4), to: addressOf(victim, 4) };
  const last = ethernet(own, 0x0800, ipPacket(ends, 17, udpDatagram(7000, 7999)));
  await run('nft', 'add table netdev seen');
  await run('nft', 'add chain netdev seen in { type filter hook ingress device eth0 priority 0; }');
  for (const { match } of cases) await run('nft', `add rule netdev seen in ${match} counter`);
  await run('nft', 'add rule netdev seen in udp dport 7999 counter');
  const counts = async (): Promise<number[]> =>
    [...(await run('nft', 'list', 'table', 'netdev', 'seen')).matchAll(/counter packets (\d+)/g)].map(([, count]) =>
      Number(count),
    );
  await mustExecIn(attacker.sandbox, process.execPath, program, 'eth0', ...cases.map(({ frame }) => frame), last);
  await waitFor('the last frame', async () => ((await counts()).at(-1) ?? 0) > 0);
  const seen = await counts();
  await run('nft', 'delete table netdev seen');
  return cases.filter((_, index) => (seen[index] ?? 0) > 0).map(({ name }) => name);
}

const rulesOf = async (lab: Lab, host: number): Promise<string> =>
  (await lab.host(host).exec('nft', 'list', 'ruleset')).stdout;

async function checkHeld(t: Test, attacker: Joined, victim: Joined, third: Joined): Promise<void> {
  const { honest, forged } = casesOf(attacker, victim, third);
  t.same(
    await arrivals(attacker, victim, [...honest, ...forged]),
    honest.map(({ name }) => name),
  );
}

t.test('what endpoints may send', (t) =>
  withSharedLab(
    t,
    { hosts: 2, agentArgs: ['--quarantine', '1s'] },
    {
      'an endpoint sends from its own MAC and addresses only': async (t, lab) => {
        await lab.host(1).create({ name: 'front', ipv6: true });
        const attacker = await join(lab, 1, 'front');
        const beside = await join(lab, 1, 'front');
        const far = await join(lab, 2, 'front');
        for (const to of [beside, far])
          for (const address of to.endpoint.addresses)
            t.ok(await canPing(attacker.sandbox, address), `reaches ${address}`);
        await t.test('to one beside it', (t) => checkHeld(t, attacker, beside, far));
        await t.test('to one on another host', (t) => checkHeld(t, attacker, far, beside));

        await t.test('also after the rules were flushed, and the agent was killed', async (t) => {
          await lab.host(1).exec('nft', 'flush', 'ruleset');
          await waitFor('the table', async () => (await rulesOf(lab, 1)).includes(attacker.endpoint.mac));
          await checkHeld(t, attacker, beside, far);
          await lab.host(1).agent.kill();
          await lab.host(1).startAgent();
          await checkHeld(t, attacker, beside, far);
        });

        await t.test('unless its label says otherwise', async (t) => {
          const free = await join(lab, 1, 'front', { 'tsnet.antispoof': 'off' });
          const { honest, forged } = casesOf(free, beside, far);
          const all = [...honest, ...forged];
          t.same(
            await arrivals(free, beside, all),
            all.map(({ name }) => name),
          );
          await lab.host(1).detach('front', free.sandbox);
        });

        await lab.host(1).detach('front', attacker.sandbox);
        t.notMatch(await rulesOf(lab, 1), attacker.endpoint.mac, 'its elements go with it');
        await lab.host(1).detach('front', beside.sandbox);
        await waitFor('the table to go with the last network', async () => !/tsnet/.test(await rulesOf(lab, 1)));
      },
      'or its network says otherwise': async (t, lab) => {
        await lab.host(1).create({ name: 'open', ipv6: true, options: { antispoof: 'false' } });
        const [attacker, victim, third] = [
          await join(lab, 1, 'open'),
          await join(lab, 1, 'open'),
          await join(lab, 1, 'open'),
        ];
        const { honest, forged } = casesOf(attacker, victim, third);
        const all = [...honest, ...forged];
        t.same(
          await arrivals(attacker, victim, all),
          all.map(({ name }) => name),
        );
      },
    },
  ),
);
