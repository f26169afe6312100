import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import type { Policy, PolicyRule } from '../../core/model.js';
import { compilePolicies } from '../../core/policy/compile.js';
import { decide } from '../../core/policy/decide.js';
import type { PolicyWorld } from '../../core/policy/selector.js';
import { removeTable, replaceTable } from '../../lib/nft/transaction.js';
import { enterArgs, ipBatch, netnsAdd, netnsPath } from '../lab/netns.js';
import { mustRun } from '../lab/program.js';
import { Talker } from '../lab/talker.js';

const sample = 6;
const prefix = `tp${randomBytes(2).toString('hex')}-`;
const networks: PolicyWorld['networks'] = [
  {
    id: '00000001',
    name: 'red',
    driver: 'overlay',
    subnets: [
      { subnet: '10.1.0.0/24', gateway: '10.1.0.1' },
      { subnet: 'fd00:1::/64', gateway: 'fd00:1::1' },
    ],
  },
];
const endpoints: PolicyWorld['endpoints'] = ['web', 'front', 'none'].map((role, at) => ({
  id: role,
  network: '00000001',
  addresses: [`10.1.0.${at + 2}`, `fd00:1::${at + 2}`],
  labels: { role },
}));

const selects = fc.constantFrom('web', 'front', '').map((role) => (role === '' ? {} : { matchLabels: { role } }));
const peer = fc.oneof(
  selects.map((chosen) => ({ endpoints: chosen })),
  fc.constantFrom(
    { networks: ['red'] },
    { cidr: '10.1.0.0/24', except: ['10.1.0.3/32'] },
    { cidr: 'fd00:1::/64', except: ['fd00:1::4/128'] },
  ),
);
const port = fc.constantFrom(
  { protocol: 'tcp' as const, port: 80 },
  { protocol: 'tcp' as const, port: 75, endPort: 85 },
  { protocol: 'udp' as const, port: 80 },
  { protocol: 'icmp' as const },
);
const rules: fc.Arbitrary<PolicyRule[]> = fc.array(
  fc.record({ peers: fc.array(peer, { maxLength: 2 }), ports: fc.array(port, { maxLength: 2 }) }),
  { maxLength: 2 },
);
const policies = fc.array(
  fc.oneof(
    fc.record({ selects, ingress: rules }),
    fc.record({ selects, egress: rules }),
    fc.record({ selects, ingress: rules, egress: rules }),
  ),
  { minLength: 1, maxLength: 3 },
);

t.test('compiled rules do with packets what was decided', async (t) => {
  const hub = `${prefix}hub`;
  const made: string[] = [];
  const talkers: Talker[] = [];
  try {
    await netnsAdd(hub);
    made.push(hub);
    const forwarding = ['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'];
    await mustRun('/usr/bin/env', [...enterArgs(netnsPath(hub)), 'busybox', 'sysctl', '-w', ...forwarding]);
    for (const { id, addresses } of endpoints) {
      const netns = `${prefix}${id}`;
      await netnsAdd(netns);
      made.push(netns);
      const [four = '', six = ''] = addresses;
      await ipBatch(hub, [
        `link add ${id} type veth peer name eth0 netns ${netns}`,
        `addr add 169.254.0.1/32 dev ${id}`,
        `addr add fe80::1/64 dev ${id} nodad`,
        `link set ${id} up`,
        `route add ${four}/32 dev ${id}`,
        `route add ${six}/128 dev ${id}`,
      ]);
      await ipBatch(netns, [
        `addr add ${four}/32 dev eth0`,
        `addr add ${six}/128 dev eth0 nodad`,
        'link set eth0 up',
        'route add default via 169.254.0.1 dev eth0 onlink',
        'route add default via fe80::1 dev eth0',
      ]);
      talkers.push(await Talker.start(enterArgs(netnsPath(netns)), [80, 90]));
    }
    const nft = (input: string): Promise<string> =>
      mustRun('/usr/bin/env', [...enterArgs(netnsPath(hub)), 'nft', '-f', '-'], { input });
    const look = async (world: PolicyWorld): Promise<{ seen: string[]; wanted: string[] }> => {
      const [seen, wanted]: [string[], string[]] = [[], []];
      await Promise.all(
        endpoints.map(async (from, at) => {
          const flows = endpoints
            .filter((to) => to !== from)
            .flatMap((to) => to.addresses)
            .flatMap((to) =>
              (['tcp', 'udp', 'icmp'] as const).flatMap((protocol) =>
                (protocol === 'icmp' ? [0] : [80, 90]).map((number) => ({ to, protocol, port: number })),
              ),
            );
          const answers = (await talkers[at]?.probe(flows.map(({ to, ...rest }) => ({ address: to, ...rest })))) ?? [];
          flows.forEach((flow, index) => {
            const source = from.addresses[flow.to.includes(':') ? 1 : 0] ?? '';
            const text = `${source} ${flow.to} ${flow.protocol}/${flow.port}`;
            seen.push(`${text} ${String(answers[index])}`);
            wanted.push(`${text} ${String(decide(world, { from: source, ...flow }).allowed)}`);
          });
        }),
      );
      return { seen: seen.sort(), wanted: wanted.sort() };
    };
    const { seen, wanted } = await look({ policies: [], networks, endpoints });
    t.same(seen, wanted, 'without policies everybody reaches everybody');
    for (const some of fc.sample(policies, sample)) {
      const whole = some.map((fields, at): Policy => {
        return { v: 1, generation: 1, name: `p${at}`, createdAt: '2026-01-01T00:00:00.000Z', ...fields };
      });
      const world = { policies: whole, networks, endpoints };
      const { table, elements } = compilePolicies(world, { isLocal: () => true });
      if (table === null) continue;
      await nft(replaceTable(table, elements).script);
      const found = await look(world);
      t.same(found.seen, found.wanted, JSON.stringify(some));
      await nft(removeTable(table));
    }
  } finally {
    for (const talker of talkers) await talker.end();
    for (const netns of made.reverse()) await mustRun('ip', ['netns', 'del', netns]);
  }
});
