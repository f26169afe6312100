import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { NftAccess } from '../../agent/firewall/nft-access.js';
import { RuleSet } from '../../agent/firewall/rule-set.js';
import type { Policy, PolicyRule } from '../../core/model.js';
import { compilePolicies } from '../../core/policy/compile.js';
import type { PolicyWorld } from '../../core/policy/selector.js';
import { newLogger } from '../../lib/log.js';
import { isWritableRule } from '../../lib/nft/rule-message.js';
import { planTableChange } from '../../lib/nft/table-change.js';
import type { NftTable } from '../../lib/nft/table.js';
import { replaceTable } from '../../lib/nft/transaction.js';
import { waitFor } from '../lab/wait.js';
import { scratchNetns } from '../netlink/scratch.js';

const networks: PolicyWorld['networks'] = [
  { id: '00000001', name: 'red', driver: 'overlay', subnets: [{ subnet: '10.1.0.0/16', gateway: '10.1.0.1' }] },
];
const endpointsOf = (count: number): PolicyWorld['endpoints'] =>
  Array.from({ length: count }, (_, at) => ({
    id: `e${at}`,
    network: '00000001',
    addresses: [`10.1.${at >> 8}.${at & 255}`, `fd00::${(at + 1).toString(16)}`],
    labels: { role: ['web', 'front', 'none'][at % 3] ?? '' },
  }));

function newPolicy(fields: Partial<Policy>): Policy {
  return { v: 1, generation: 1, name: 'p', selects: {}, createdAt: '2026-01-01T00:00:00.000Z', ...fields };
}

interface Opened {
  readonly ruleSet: RuleSet;
  nft(...args: string[]): string;
  load(script: string): void;
}

async function open(t: Test): Promise<Opened> {
  const scratch = await scratchNetns(t);
  const access = await NftAccess.open(scratch.native, { path: scratch.path });
  const ruleSet = new RuleSet({ access, log: newLogger('test', 'silent'), table: 'tsnet-policy' });
  t.teardown(async () => {
    await ruleSet.close();
    await access.close();
  });
  const nft = (...args: string[]): string =>
    execFileSync('nsenter', [`--net=${scratch.path}`, 'nft', ...args], { encoding: 'utf8', maxBuffer: 2 ** 28 });
  const load = (script: string): void => {
    execFileSync('nsenter', [`--net=${scratch.path}`, 'nft', '-f', '-'], { input: script });
  };
  return { ruleSet, nft, load };
}

/** Chains, sets and elements of a listing, in an order of their own: that of a changed table is another. */
function blocksOf(listing: string): string[] {
  return listing
    .replace(/\n\tchain loaded-by-agent \{\n\t\}\n/, '')
    .split(/\n\n|\n(?=\t(?:set|map|chain) )/)
    .map((block) =>
      block
        .replace(/^table.*\n/, '')
        .replace(/\n\}\n*$/, '')
        .replace(/elements = \{([^}]*)\}/, (_all, list: string) =>
          list
            .split(',')
            .map((each) => each.trim())
            .sort()
            .join('\n'),
        )
        .trim(),
    )
    .filter((block) => block !== '')
    .sort();
}

const rule: fc.Arbitrary<PolicyRule> = fc.record({
  peers: fc.array(
    fc.oneof(
      fc.constantFrom('web', 'front').map((role) => ({ endpoints: { matchLabels: { role } } })),
      fc.constantFrom({ cidr: '192.168.0.0/16', except: ['192.168.7.0/24'] }, { cidr: 'fd00::/8' }),
      fc.constant({ networks: ['red'] }),
    ),
    { maxLength: 2 },
  ),
  ports: fc.array(
    fc.constantFrom(
      { protocol: 'tcp' as const, port: 80 },
      { protocol: 'tcp' as const, port: 8000, endPort: 65_535 },
      { protocol: 'udp' as const },
      { protocol: 'icmp' as const },
      { protocol: 'sctp' as const, port: 5 },
    ),
    { maxLength: 3 },
  ),
});
const policies = fc
  .array(
    fc.record({
      name: fc.constantFrom('a', 'a_b', '0.c', 'in', 'x'.repeat(63), 'y'.repeat(63)),
      selects: fc.constantFrom({}, { matchLabels: { role: 'web' } }, { matchLabels: { role: 'nobody' } }),
      ingress: fc.array(rule, { maxLength: 2 }),
      egress: fc.array(rule, { maxLength: 2 }),
    }),
    { maxLength: 4 },
  )
  .map((some) => [...new Map(some.map((fields) => [fields.name, newPolicy(fields)])).values()]);

t.test('whatever policies follow each other, the table is as nft makes it of the text', async (t) => {
  const { ruleSet, nft } = await open(t);
  const whole = await open(t);
  let isLoaded = false;
  let before: NftTable | null = null;
  let changes = 0;
  for (const [at, some] of fc.sample(policies, 60).entries()) {
    const world = { policies: some, networks, endpoints: endpointsOf(10 + (at % 7)) };
    const { table, elements } = compilePolicies(world, { isLocal: ({ id }) => id !== 'e3', isLoaded });
    isLoaded = table !== null;
    if (before !== null && table !== null) {
      changes += 1;
      t.ok(planTableChange(before, table), 'a change, and not another table');
    }
    before = table;
    ruleSet.setTable(table);
    ruleSet.setElements('policies', elements);
    await ruleSet.settled();
    const changed = blocksOf(nft('list', 'ruleset'));
    if (table === null) {
      t.same(changed, []);
      continue;
    }
    whole.load(replaceTable(table, elements).script);
    t.same(changed, blocksOf(whole.nft('list', 'ruleset')), JSON.stringify(some));
  }
  // Half of the steps on average.
  t.ok(changes > 10, 'most were changes');
  t.equal(ruleSet.failure, null);
  t.equal(ruleSet.repairs, 0, 'and none was taken for somebody else’s');
});

t.test('what does not fit one transaction is built before anything leads to it', async (t) => {
  const { ruleSet, nft } = await open(t);
  const endpoints = endpointsOf(15_000);
  const load = async (...some: Partial<Policy>[]): Promise<void> => {
    const world = { policies: some.map((fields) => newPolicy(fields)), networks, endpoints };
    const { table, elements } = compilePolicies(world, { isLocal: () => true, isLoaded: true });
    ruleSet.setTable(table);
    ruleSet.setElements('policies', elements);
    await ruleSet.settled();
  };
  const count = (kind: string, name: string): number =>
    nft('list', kind, 'inet', 'tsnet-policy', name).match(/10\.1\.\d+\.\d+/g)?.length ?? 0;
  await load({ name: 'none', selects: { matchLabels: { role: 'nobody' } }, ingress: [] });
  await load({ name: 'p', ingress: [{ peers: [{ endpoints: {} }] }] });
  t.equal(count('set', 'in/p/0/peers4'), 15_000);
  t.equal(count('map', 'in4'), 15_000);
  await load({ name: 'p', ingress: [] }, { name: 'q', ingress: [] });
  t.equal(nft('list', 'map', 'inet', 'tsnet-policy', 'in4').match(/jump in\/p\/q/g)?.length, 15_000);
  t.equal(ruleSet.failure, null);
  t.equal(ruleSet.repairs, 0);
  nft('flush', 'ruleset');
  await waitFor('all of it to be back', () => ruleSet.repairs === 1 && count('map', 'in4') === 15_000, 20_000);
});

t.test('a table of other base chains, maps or rules is loaded as a whole', async (t) => {
  const base: NftTable = {
    family: 'inet',
    name: 'x',
    sets: [{ name: 's', key: ['ipv4_addr'] }],
    chains: [
      { name: 'forward', hook: { type: 'filter', hook: 'forward', priority: 0 }, rules: ['counter accept'] },
      { name: 'other', rules: ['counter drop'] },
    ],
  };
  const chains = (rules: readonly string[], name = 'other'): NftTable['chains'] => [
    ...base.chains.slice(0, 1),
    { name, rules },
  ];
  t.ok(planTableChange(base, { ...base, chains: chains(['ct original ip saddr @s return']) }));
  t.ok(planTableChange(base, { ...base, chains: chains([], 'another'), sets: [] }));
  t.notOk(planTableChange(base, { ...base, name: 'y' }));
  t.notOk(planTableChange(base, { ...base, chains: chains(['tcp dport 80 drop']) }));
  t.notOk(planTableChange(base, { ...base, chains: base.chains.slice(1) }));
  t.notOk(planTableChange(base, { ...base, sets: [{ name: 's', key: ['ipv6_addr'] }] }));
  t.notOk(
    planTableChange(base, { ...base, sets: [...base.sets, { name: 'm', key: ['ipv4_addr'], value: ['verdict'] }] }),
  );
  for (const rule of ['', 'counter', 'return', 'meta l4proto udp goto a/b', 'counter jump x'])
    t.ok(isWritableRule(rule));
  for (const rule of ['return counter', 'meta l4proto { tcp, udp } return', 'ip saddr @s drop', 'jump', 'drop x'])
    t.notOk(isWritableRule(rule), rule);
});
