import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { NetworkCreate, NetworkView } from '../../core/api/network.js';
import { canPing, echoBytes, listenIn, reaches, type Sandbox } from '../lab/sandbox.js';
import { withLab } from '../lab/with-lab.js';

interface Case {
  readonly network: NetworkCreate;
  readonly families: readonly (4 | 6)[];
  /** Whether the second sandbox is on the other host. */
  readonly across: boolean;
}

const parent = { parent: 'eth0' };
const cases: readonly Case[] = [
  { network: { name: 'overlay4' }, families: [4], across: true },
  { network: { name: 'overlay6', subnets: [{ subnet: 'fd10:6::/64' }] }, families: [6], across: true },
  { network: { name: 'overlay46', ipv6: true }, families: [4, 6], across: true },
  { network: { name: 'bridge4', driver: 'bridge' }, families: [4], across: false },
  {
    network: { name: 'bridge6', driver: 'bridge', subnets: [{ subnet: 'fd10:7::/64' }] },
    families: [6],
    across: false,
  },
  { network: { name: 'bridge46', driver: 'bridge', ipv6: true }, families: [4, 6], across: false },
  {
    network: {
      name: 'macvlan46',
      driver: 'macvlan',
      subnets: [
        { subnet: '198.19.1.0/24', gateway: '198.19.1.1' },
        { subnet: 'fd10:8::/64', gateway: 'fd10:8::1' },
      ],
      options: parent,
    },
    families: [4, 6],
    across: true,
  },
];

const tcpPort = 7000;
const udpPort = 7001;

t.test('sandboxes reach each other by ping, TCP and UDP, on every driver and in every family', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    await lab.router('addr add 198.19.1.1/24 dev lan', 'addr add fd10:8::1/64 dev lan nodad');
    for (const { network, families, across } of cases) {
      await t.test(`${network.name}${across ? ' across two hosts' : ''}`, async (t) => {
        const [one, two] = [lab.host(1), across ? lab.host(2) : lab.host(1)];
        const [server, client] = [await lab.sandbox(), await lab.sandbox()];
        const created = await one.create(network);
        const served = await one.attach(network.name, server, { name: 'server' });
        const asking = await two.attach(network.name, client);
        t.equal(served.addresses.length, families.length, 'one address a family');
        t.equal(served.ifname, 'eth0');
        const [tcp, udp] = [
          await listenIn(server, 'listen-tcp', tcpPort),
          await listenIn(server, 'listen-udp', udpPort),
        ];
        for (const family of families) {
          const address = addressOf(served, family);
          t.ok(await canPing(client, address), `IPv${family}: the first ping after attach is answered`);
          t.match(await echoBytes(client, 'tcp', { address, port: tcpPort, sizeBytes: 300_000 }), {
            receivedBytes: 300_000,
          });
          t.match(await echoBytes(client, 'udp', { address, port: udpPort, sizeBytes: 1000 }), {
            receivedBytes: 1000,
            from: address,
          });
          t.ok(await canPing(server, addressOf(asking, family)), `IPv${family}: and the other way`);
        }
        await Promise.all([tcp.end(), udp.end()]);
        await reachesGateways(client, created);
        t.same((await one.detach(network.name, server)).detached, [served.id]);
        t.same((await two.detach(network.name, client)).detached, [asking.id]);
        await Promise.all([one.published(), two.published()]);
        await one.api.call('DELETE', `/v1/networks/${network.name}`);
      });
    }
  });
});

function addressOf(endpoint: EndpointView, family: 4 | 6): string {
  const address = endpoint.addresses.find((candidate) => candidate.includes(':') === (family === 6));
  if (address === undefined)
    throw new Error(`${endpoint.id} has no IPv${family} address: ${endpoint.addresses.join(' ')}`);
  return address;
}

/** The gateway answers: the host's own bridge, or the LAN's router with macvlan. */
async function reachesGateways(client: Sandbox, network: NetworkView): Promise<void> {
  for (const { gateway } of network.subnets) {
    if (gateway !== null) await reaches(client, gateway);
  }
}
