import t, { type Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { loadNative } from '../../native/index.js';
import { conntrackList, NETLINK_NETFILTER } from '../../lib/netlink/conntrack.js';
import { NetlinkConnection } from '../../lib/netlink/connection.js';
import type { Lab } from '../lab/lab.js';
import { netnsPath } from '../lab/netns.js';
import { NftTransactions } from '../lab/nft-transactions.js';
import { place } from '../lab/place.js';
import { canPing, listenIn, mustExecIn, type Sandbox } from '../lab/sandbox.js';
import { Talker, withTalkers } from '../lab/talker.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

interface Joined {
  readonly sandbox: Sandbox;
  readonly endpoint: EndpointView;
}

async function join(lab: Lab, host: number, network: string, more: object = {}): Promise<Joined> {
  const sandbox = await lab.sandbox();
  return { sandbox, endpoint: await lab.host(host).attach(network, sandbox, more) };
}

/** The tracked UDP connections of a host by where they were sent to, each with all that tells it from another. */
async function flowsOf(lab: Lab, host: string): Promise<Map<number, string[]>> {
  const connection = await NetlinkConnection.open(loadNative(), {
    protocol: NETLINK_NETFILTER,
    netns: { path: netnsPath(`${lab.prefix}${host}`) },
  });
  try {
    const flows = new Map<number, string[]>();
    for (const family of [4, 6] as const) {
      for (const { dst, dstPort, identity } of await conntrackList(connection, { family, protocol: 'udp' })) {
        const text = `${dst} ${JSON.stringify(identity)}`;
        flows.set(dstPort, [...(flows.get(dstPort) ?? []), text].sort());
      }
    }
    return flows;
  } finally {
    connection.close();
  }
}

const probeFrom = (from: Talker, address: string, port: number): Promise<boolean[]> =>
  from.probe([{ protocol: 'udp', address, port, fromPort: 7000 }]);

/** Sends a datagram, from a port that is always the same, until one is answered. */
const sent = (from: Talker, address: string, port: number): Promise<unknown> =>
  waitFor(`an answer from ${address} port ${port}`, async () => (await probeFrom(from, address, port))[0]);

async function unanswered(t: Test, from: Talker, address: string, port: number): Promise<void> {
  t.same(await probeFrom(from, address, port), [false], `nobody answers at ${address} port ${port}`);
}

async function outliving(t: Test, lab: Lab): Promise<void> {
  const host = lab.host(1);
  await host.create({ name: 'net', ipv6: true });
  const [a, b, client] = [
    await join(lab, 1, 'net', { name: 'a', ports: [{ hostPort: 8080, port: 80, protocol: 'udp' }] }),
    await join(lab, 1, 'net', { name: 'b', ports: [{ hostPort: 8081, port: 80, protocol: 'udp' }] }),
    await join(lab, 1, 'net'),
  ];
  const lan = place(lab, 'lan');
  const listeners = [
    await listenIn(a.sandbox, 'listen-udp', 80),
    await listenIn(b.sandbox, 'listen-udp', 80),
    await listenIn(lan, 'listen-udp', 5000),
    await listenIn(place(lab, 'h1'), 'listen-udp', 8082),
  ];
  await withTalkers({ lan, a: a.sandbox, client: client.sandbox }, [], async (talkers) => {
    for (const address of [underlayAddress(11), underlayAddress6(11)])
      for (const port of [8080, 8081, 8082]) await sent(talkers.lan, address, port);
    for (const from of [talkers.a, talkers.client])
      for (const address of [underlayAddress(1), underlayAddress6(1)]) await sent(from, address, 5000);
  });
  const others = (flows: Map<number, string[]>, ...ports: number[]): unknown => ports.map((port) => flows.get(port));
  const before = await flowsOf(lab, 'h1');
  t.same(
    [8080, 8081, 8082, 5000].map((port) => before.get(port)?.length),
    [2, 2, 2, 4],
    'one of each family for each sender',
  );

  await host.json('endpoint', 'set', 'a', '--no-publish');
  await waitFor('those to the mapping to go', async () => !(await flowsOf(lab, 'h1')).has(8080));
  t.same(others(await flowsOf(lab, 'h1'), 8081, 8082, 5000), others(before, 8081, 8082, 5000), 'and no others');

  // To a port that nobody had published: it came to the host, and would go on doing so.
  await withTalkers({ lan }, [], ({ lan }) => unanswered(t, lan, underlayAddress(11), 8083));
  t.equal((await flowsOf(lab, 'h1')).get(8083)?.length, 1);
  await host.json('endpoint', 'set', 'a', '-p', '8083:80/udp');
  await waitFor('those from before the mapping to go', async () => !(await flowsOf(lab, 'h1')).has(8083));
  t.same(others(await flowsOf(lab, 'h1'), 8081, 8082, 5000), others(before, 8081, 8082, 5000), 'and no others');

  await host.detach('net', b.sandbox);
  await waitFor('those to the endpoint to go', async () => !(await flowsOf(lab, 'h1')).has(8081));
  t.same(others(await flowsOf(lab, 'h1'), 8082, 5000), others(before, 8082, 5000), 'and no others');
  for (const listener of listeners) await listener.end();
}

async function apart(t: Test, lab: Lab): Promise<void> {
  const host = lab.host(1);
  const [own, own6, second] = [underlayAddress(11), underlayAddress6(11), underlayAddress(21)];
  await host.exec('ip', 'addr', 'add', `${second}/24`, 'dev', 'eth0');
  await host.create({ name: 'net', ipv6: true });
  const lan = place(lab, 'lan');
  const web = await join(lab, 1, 'net', { name: 'web' });
  const publish = (...ports: string[]): Promise<unknown> =>
    host.json('endpoint', 'set', 'web', ...ports.flatMap((port) => ['-p', port]));
  const changing = `${own}:8080:80/udp`;
  const staying = [`${second}:8080:80/udp`, `[${own6}]:8080:80/udp`, '8080:80/tcp', `${own}:8081:80/udp`];
  await publish(changing, ...staying);
  const server = await Talker.start(web.sandbox.enter, [80]);
  const client = await Talker.start(lan.enter, []);
  try {
    await sent(client, own, 8081);
    for (const address of [own, own6, second]) await sent(client, address, 8080);
    const say = [
      await client.open({ protocol: 'tcp', address: own, port: 8080 }),
      await client.open({ protocol: 'tcp', address: own6, port: 8080 }),
    ];
    const flows = async (isChanging: boolean): Promise<string[]> => {
      const found = await flowsOf(lab, 'h1');
      const all = [8080, 8081].flatMap((port) => (found.get(port) ?? []).map((flow) => `${port} ${flow}`));
      return all.filter((flow) => flow.startsWith(`8080 ${own} `) === isChanging);
    };
    const before = await flows(false);
    t.equal(before.length, 3);
    t.equal((await flows(true)).length, 1);
    const undisturbed = async (what: string): Promise<void> => {
      t.same(
        await flows(false),
        before,
        `${what}: flows to other addresses, of the other family and to other ports stay`,
      );
      for (const each of say) t.ok(await each(), `${what}: TCP connections to the same port go on`);
    };
    await publish(...staying);
    await waitFor('what was sent to the mapping to be forgotten', async () => (await flows(true)).length === 0);
    await undisturbed('on remove');
    await unanswered(t, client, own, 8080);
    t.equal((await flows(true)).length, 1, 'a flow from before the mapping');
    await publish(changing, ...staying);
    await waitFor('it to be forgotten', async () => (await flows(true)).length === 0);
    await undisturbed('on add');
    await t.resolves(sent(client, own, 8080), 'and the mapping works');
  } finally {
    await client.end();
    await server.end();
    await host.exec('ip', 'addr', 'delete', `${second}/24`, 'dev', 'eth0');
  }
}

const sentPackets = async (sandbox: Sandbox): Promise<number> => {
  const text = await mustExecIn(sandbox, 'ip', '-j', '-s', 'link', 'show', 'dev', 'eth0');
  const [link] = JSON.parse(text) as { stats64: { tx: { packets: number } } }[];
  return link?.stats64.tx.packets ?? 0;
};

async function restarted(t: Test, lab: Lab): Promise<void> {
  const host = lab.host(1);
  await host.create({ name: 'red', ipv6: true });
  await host.create({ name: 'blue', ipv6: true });
  const attacker = await join(lab, 1, 'red');
  const victim = await join(lab, 1, 'blue', {
    name: 'victim',
    ports: [{ hostPort: 8080, port: 80, protocol: 'udp' }],
  });
  const listener = await listenIn(victim.sandbox, 'listen-udp', 80);
  const [victim4 = '', victim6 = ''] = victim.endpoint.addresses;
  const nft = (...argv: string[]): Promise<string> => mustExecIn(victim.sandbox, 'nft', ...argv);
  await nft('add table netdev seen');
  await nft('add chain netdev seen in { type filter hook ingress device eth0 priority 0; }');
  const [red4 = '', red6 = ''] = attacker.endpoint.addresses;
  await nft(`add rule netdev seen in ip saddr ${red4} counter`);
  await nft(`add rule netdev seen in ip6 saddr ${red6} counter`);

  const transactions = await NftTransactions.watch(netnsPath(host.netns));
  t.teardown(() => transactions.close());
  const attacks = [victim4, victim6].map((address, index) =>
    lab.startDaemon({
      name: `attack ${index}`,
      logPath: lab.logPath(`attack-${index}`),
      argv: [...attacker.sandbox.enter, 'ping', '-q', '-i', '0.005', address],
      env: {},
    }),
  );
  const flow = await listenIn(place(lab, 'lan'), 'steady', underlayAddress(11), 8080, 20);
  const attacked = async (): Promise<void> => {
    const before = await sentPackets(attacker.sandbox);
    await waitFor('attacks to go on', async () => (await sentPackets(attacker.sandbox)) - before > 100);
  };
  await attacked();
  await host.agent.kill();
  await attacked();
  await host.startAgent();
  await attacked();
  await host.agent.stop();
  await attacked();
  await host.startAgent();
  await attacked();
  await lab.host(1).exec('nft', 'flush', 'chain', 'bridge', 'tsnet-origin', 'from4');
  await host.waitForAgent('a repair', ({ firewall }) => (firewall?.repairs ?? 0) > 0);
  await waitFor('the kernel to say so', () => {
    const flush = transactions.all.findIndex(
      (changes) =>
        changes.includes('delete rule bridge tsnet-origin from4') &&
        !changes.includes('delete table bridge tsnet-origin'),
    );
    const after = flush < 0 ? [] : transactions.all.slice(flush + 1);
    return after.some((changes) => changes.includes('add chain bridge tsnet-origin from4'));
  });
  for (const attack of attacks) await attack.stop();
  const seen = [...(await nft('list table netdev seen')).matchAll(/counter packets (\d+)/g)].map(([, count]) => count);
  t.same(seen, ['0', '0'], 'nothing came through');
  const { sent, received } = (await flow.end()) as { sent: number; received: number };
  t.ok(sent > 100 && sent - received <= 5, `a published port was served all the time: ${received} of ${sent}`);
  t.notOk(await canPing(attacker.sandbox, victim4, { timeoutMs: 300 }));

  transactions.close();
  t.notOk(transactions.hasLost, 'all changes were seen');
  for (const [table, chain] of [
    ['inet tsnet', 'forward'],
    ['bridge tsnet-origin', 'origin'],
  ] as const) {
    const removals = transactions.all.filter((changes) => changes.includes(`delete table ${table}`));
    t.ok(removals.length >= 1, `table ${table} was loaded anew`);
    for (const changes of removals)
      t.ok(changes.includes(`add chain ${table} ${chain}`), 'in the transaction that took the old one away');
  }
  await listener.end();
}

t.test('what goes on is undisturbed', (t) =>
  withSharedLab(
    t,
    { hosts: 1 },
    {
      'connections that have no part in it outlive the end of a mapping and of an endpoint': outliving,
      'connections are told apart by host address, family and protocol too': apart,
      'a restart of the agent leaves no moment without its rules': restarted,
    },
  ),
);
