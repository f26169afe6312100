import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { Lab } from '../lab/lab.js';
import { place } from '../lab/place.js';
import { canPing, mustExecIn, type Sandbox } from '../lab/sandbox.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';
import { countArrivals, macOf } from '../nft/arrivals.js';
import { ethernet, ipPacket, sctpPacket } from '../nft/frames.js';
import { sendFrames } from '../nft/send-frames.js';

const sctp = 132;
const [hostPort, port, clientPort] = [9899, 5000, 7777];

async function gatewayMac(sandbox: Sandbox, gateway: string): Promise<string> {
  await canPing(sandbox, gateway);
  return /lladdr (\S+)/.exec(await mustExecIn(sandbox, 'ip', 'neigh', 'show', gateway))?.[1] ?? '';
}

interface Ends {
  readonly lab: Lab;
  readonly server: Sandbox;
  readonly endpoint: EndpointView;
}

/** Sends an INIT from outside. */
async function init({ lab }: Ends, family: 4 | 6, from: number): Promise<void> {
  const [outside, host] =
    family === 4 ? [underlayAddress(1), underlayAddress(11)] : [underlayAddress6(1), underlayAddress6(11)];
  const lan = place(lab, 'lan');
  const macs = { from: await macOf(lan, 'lan'), to: await macOf(place(lab, 'h1'), 'eth0') };
  const packet = ipPacket({ from: outside, to: host }, sctp, sctpPacket('init', from, hostPort));
  await sendFrames(lan, 'lan', ethernet(macs, family === 4 ? 0x0800 : 0x86dd, packet));
}

t.test('a published SCTP port is translated, and so is its answer', async (t) => {
  await withLab(t, { hosts: 1 }, async (lab) => {
    const network = await lab.host(1).create({ name: 'net', ipv6: true });
    const server = await lab.sandbox();
    const endpoint = await lab
      .host(1)
      .attach('net', server, { name: 'server', ports: [{ hostPort, port, protocol: 'sctp' }] });
    const ends: Ends = { lab, server, endpoint };
    const lan = place(lab, 'lan');
    for (const family of [4, 6] as const) {
      const ip = family === 4 ? 'ip' : 'ip6';
      const [own, host, outside] = [
        endpoint.addresses.find((address) => address.includes(':') === (family === 6)) ?? '',
        family === 4 ? underlayAddress(11) : underlayAddress6(11),
        family === 4 ? underlayAddress(1) : underlayAddress6(1),
      ];
      const arrived = await countArrivals(
        server,
        'eth0',
        `${ip} saddr ${outside} ${ip} daddr ${own} sctp sport ${clientPort} sctp dport ${port}`,
      );
      await init(ends, family, clientPort);
      await waitFor(`the INIT over IPv${family}`, async () => (await arrived()) === 1);
      const answered = await countArrivals(
        lan,
        'lan',
        `${ip} saddr ${host} ${ip} daddr ${outside} sctp sport ${hostPort} sctp dport ${clientPort}`,
      );
      const gateway = network.subnets.find(({ subnet }) => subnet.includes(':') === (family === 6))?.gateway ?? '';
      const macs = { from: endpoint.mac, to: await gatewayMac(server, gateway) };
      const packet = ipPacket({ from: own, to: outside }, sctp, sctpPacket('init-ack', port, clientPort));
      await sendFrames(server, 'eth0', ethernet(macs, family === 4 ? 0x0800 : 0x86dd, packet));
      await waitFor(`the answer over IPv${family}`, async () => (await answered()) === 1);
      t.pass(`there and back over IPv${family}`);
    }

    await t.test('until it is published no more, also for an association under way', async (t) => {
      const arrived = await countArrivals(server, 'eth0', 'meta l4proto sctp');
      const control = await countArrivals(place(lab, 'h1'), 'eth0', 'meta l4proto sctp');
      await lab.host(1).json('endpoint', 'set', 'server', '--no-publish');
      for (const from of [clientPort, clientPort + 1])
        for (const family of [4, 6] as const) await init(ends, family, from);
      await waitFor('them to have come to the host', async () => (await control()) === 4);
      t.ok(await canPing(place(lab, 'h1'), endpoint.addresses[0] ?? ''), 'what comes later is there');
      t.equal(await arrived(), 0);
    });
  });
});
