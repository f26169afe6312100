import t, { type Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { ServiceView } from '../../core/api/service.js';
import type { Lab } from '../lab/lab.js';
import { ownAddresses, place } from '../lab/place.js';
import { canPing, mustExecIn, type Sandbox } from '../lab/sandbox.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';
import { countArrivals, macOf } from '../nft/arrivals.js';
import { ethernet, ipPacket, sctpPacket } from '../nft/frames.js';
import { sendFrames } from '../nft/send-frames.js';

const sctp = 132;
const [hostPort, port, target] = [9898, 9899, 5000];
const families = [4, 6] as const;
type Family = (typeof families)[number];

/** The kernel here has no SCTP sockets: both ends of an association are frames that are sent past the stack. */
interface End {
  readonly sandbox: Sandbox;
  readonly ifname: string;
  readonly addresses: readonly string[];
}

interface Packet {
  readonly kind: 'init' | 'init-ack';
  readonly from: readonly [address: string, port: number];
  readonly to: readonly [address: string, port: number];
}

const inFamily = (family: Family, addresses: readonly string[]): string =>
  addresses.find((address) => address.includes(':') === (family === 6)) ?? '';

/** Sends a packet to a neighbour, or by one. */
async function send({ sandbox, ifname }: End, { kind, from, to }: Packet, by = to[0]): Promise<void> {
  await waitFor(`${by} to answer`, () => canPing(sandbox, by, { timeoutMs: 500 }));
  const neighbour = await mustExecIn(sandbox, 'ip', 'neigh', 'show', by, 'dev', ifname);
  const macs = { from: await macOf(sandbox, ifname), to: /lladdr (\S+)/.exec(neighbour)?.[1] ?? '' };
  const packet = ipPacket({ from: from[0], to: to[0] }, sctp, sctpPacket(kind, from[1], to[1]));
  await sendFrames(sandbox, ifname, ethernet(macs, packet[0] === 0x60 ? 0x86dd : 0x0800, packet));
}

/** Counts what arrives at an end, with the checksum of the ports that it has there. */
function arrivals({ sandbox, ifname }: End, { kind, from, to }: Packet): Promise<() => Promise<number>> {
  const ip = to[0].includes(':') ? 'ip6' : 'ip';
  const checksum = Buffer.from(sctpPacket(kind, from[1], to[1]).slice(8, 12)).toString('hex');
  const match = `${ip} saddr ${from[0]} ${ip} daddr ${to[0]} sctp sport ${from[1]} sctp dport ${to[1]}`;
  return countArrivals(sandbox, ifname, `${match} @th,64,32 0x${checksum}`);
}

/** A client begins an association with one address and hears an answer from it; the backend sees somebody. */
async function associate(
  { client, backend, family }: { readonly client: End; readonly backend: End; readonly family: Family },
  way: {
    readonly from: readonly [string, number];
    readonly to: readonly [string, number];
    /** Whom the backend sees. */
    readonly seen: string;
    /** The neighbour by which the backend answers; absent: it is the one that it sees. */
    readonly by?: string;
  },
): Promise<void> {
  const { from, to, seen, by } = way;
  const own = [inFamily(family, backend.addresses), target] as const;
  const what = `${from[0]} to ${to[0]}`;
  const begun = await arrivals(backend, { kind: 'init', from: [seen, from[1]], to: own });
  await send(client, { kind: 'init', from, to });
  await waitFor(`the INIT of ${what}`, async () => (await begun()) === 1);
  const answered = await arrivals(client, { kind: 'init-ack', from: to, to: from });
  const answer = { kind: 'init-ack', from: own, to: [seen, from[1]] } as const;
  await send(backend, answer, by);
  await waitFor(`the answer of ${what}`, async () => (await answered()) === 1);
}

interface Scene {
  readonly lab: Lab;
  readonly service: ServiceView;
  readonly backend: End & { readonly endpoint: EndpointView };
  readonly near: End;
  readonly far: End;
  readonly gateways: readonly string[];
  /** Of the second host in the network. */
  readonly own: Readonly<Record<Family, string>>;
}

/** A backend on the first host, a client on each. */
async function newScene(lab: Lab): Promise<Scene> {
  const [one, two] = [lab.host(1), lab.host(2)];
  const network = await one.create({ name: 'front', ipv6: true });
  const attach = async (number: number, name: string): Promise<Scene['backend']> => {
    const sandbox = await lab.sandbox();
    const endpoint = await lab.host(number).attach('front', sandbox, { name });
    return { sandbox, ifname: 'eth0', addresses: endpoint.addresses, endpoint };
  };
  const [backend, near, far] = [await attach(1, 'backend'), await attach(1, 'near'), await attach(2, 'far')];
  const own = await ownAddresses(place(lab, 'h2'), network);
  const { status, stderr } = await one.tsnet(
    ...['service', 'create', 'web', '--network', 'front', '--backend', 'backend'],
    ...['--port', `${port}:${target}/sctp`, '--port', `7:7`, '--publish', `${hostPort}:${port}`],
  );
  if (status !== 0) throw new Error(stderr);
  const service = await one.api.call<ServiceView>('GET', '/v1/services/web');
  // Known to be led on where connections are: the table is written in one step.
  for (const host of [one, two])
    await waitFor(`the service on ${host.name}`, async () =>
      (await host.exec('nft', 'list', 'map', 'inet', 'tsnet-services', 'vip6')).stdout.includes(`sctp . ${port}`),
    );
  const gateways = network.subnets.map(({ gateway }) => gateway ?? '');
  return { lab, service, backend, near, far, gateways, own };
}

async function inside(t: Test, { service, backend, near, far }: Scene): Promise<void> {
  for (const family of families) {
    for (const [client, where] of [
      [near, 'of its host'],
      [far, 'of another host'],
    ] as const) {
      const own = inFamily(family, client.addresses);
      const way = { from: [own, 7777], to: [inFamily(family, service.addresses), port], seen: own } as const;
      await associate({ client, backend, family }, way);
      t.pass(`a client ${where}, over IPv${family}`);
    }
  }
}

async function outside(t: Test, { lab, backend, gateways, own }: Scene): Promise<void> {
  const client = { sandbox: place(lab, 'lan'), ifname: 'lan', addresses: [underlayAddress(1), underlayAddress6(1)] };
  for (const family of families) {
    const address = inFamily(family, client.addresses);
    const at = (number: number): string => (family === 4 ? underlayAddress(number) : underlayAddress6(number));
    const ways = [
      { from: [address, 7001], to: [at(11), hostPort], seen: address, by: inFamily(family, gateways) },
      { from: [address, 7002], to: [at(12), hostPort], seen: own[family] },
    ] as const;
    for (const way of ways) {
      await associate({ client, backend, family }, way);
      t.pass(`from outside to ${way.to[0]}`);
    }
  }
}

/** Without a backend: refused by a message that names the port, and nothing comes to where the backend was. */
async function refused(t: Test, { lab, service, backend, near, far }: Scene): Promise<void> {
  await lab.host(1).api.call('PATCH', '/v1/services/web', { body: { backends: ['nobody'] } });
  for (const host of lab.hosts)
    await waitFor(
      `${host.name} to lead nowhere`,
      async () => !(await host.exec('nft', 'list', 'map', 'inet', 'tsnet-services', 'vip6')).stdout.includes('sctp'),
    );
  const arrived = await countArrivals(backend.sandbox, 'eth0', 'meta l4proto sctp');
  for (const client of [near, far]) {
    for (const family of families) {
      const own = inFamily(family, client.addresses);
      const to = [inFamily(family, service.addresses), port] as const;
      const match =
        family === 4
          ? 'icmp type destination-unreachable icmp code 3'
          : 'icmpv6 type destination-unreachable icmpv6 code 4';
      const told = await countArrivals(client.sandbox, 'eth0', match);
      await send(client, { kind: 'init', from: [own, 8888], to });
      await waitFor('the refusal', async () => (await told()) === 1);
      t.pass(`told so over IPv${family}, ${client.sandbox.name}`);
    }
  }
  t.equal(await arrived(), 0);
}

t.test('SCTP associations go through a service, there and back', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const scene = await newScene(lab);
    await t.test('from clients of the network, which the backend sees', (t) => inside(t, scene));
    await t.test('by its published port of every host', (t) => outside(t, scene));
    await t.test('and are refused while it has no backend', (t) => refused(t, scene));
  });
});
