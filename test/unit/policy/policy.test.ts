import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { readPolicyFile } from '../../../cli/policy-file.js';
import { containsAddr, parseAddr, parsePrefix } from '../../../core/addr.js';
import type { LabelSelector, Policy, PolicyPeer, PolicyRule } from '../../../core/model.js';
import { compilePolicies, type CompiledPolicies } from '../../../core/policy/compile.js';
import { decide, type PolicyFlow } from '../../../core/policy/decide.js';
import { matchesLabels, type PolicyWorld } from '../../../core/policy/selector.js';
import { formatTable } from '../../../lib/nft/table.js';

const networks: PolicyWorld['networks'] = [
  { id: '00000001', name: 'red', driver: 'overlay', subnets: [{ subnet: '10.1.0.0/24', gateway: '10.1.0.1' }] },
  { id: '00000002', name: 'blue', driver: 'overlay', subnets: [{ subnet: 'fd00:2::/64', gateway: 'fd00:2::1' }] },
];
const endpoints: PolicyWorld['endpoints'] = [
  { id: 'a', network: '00000001', addresses: ['10.1.0.2'], labels: { role: 'web' } },
  { id: 'b', network: '00000001', addresses: ['10.1.0.3'], labels: { role: 'front', tier: '1' } },
  { id: 'c', network: '00000002', addresses: ['fd00:2::2'], labels: { role: 'web' } },
  { id: 'd', network: '00000002', addresses: ['fd00:2::3'], labels: {} },
];
const addresses = ['10.1.0.2', '10.1.0.3', '10.1.0.9', '192.168.7.7', 'fd00:2::2', 'fd00:2::3', 'fd00:9::1'];

function newPolicy(fields: Partial<Policy>): Policy {
  return { v: 1, generation: 1, name: 'p', selects: {}, createdAt: '2026-01-01T00:00:00.000Z', ...fields };
}

/** What the compiled rules do with the first packet of a connection: a small reading of the nft subset in use. */
function evaluate(compiled: CompiledPolicies, flow: PolicyFlow): boolean {
  const { table, elements } = compiled;
  if (table === null) return true;
  const suffix = flow.from.includes(':') ? '6' : '4';
  const inSet = (set: string, value: string): boolean =>
    elements.some(({ set: name, key }) => {
      if (name !== set) return false;
      if (/^\d+(-\d+)?$/.test(key)) {
        const [first = 0, last = first] = key.split('-').map(Number);
        return Number(value) >= first && Number(value) <= last;
      }
      const [first = '', last = first] = key.split('-').map((text) => text);
      const [low, high, at] = [parseAddr(first), parseAddr(last), parseAddr(value)];
      return low.family === at.family && low.value <= at.value && at.value <= high.value;
    });
  const matches = (rule: string): boolean => {
    const from = /ct original (ip6?) saddr @(\S+)/.exec(rule);
    if (from !== null && ((from[1] === 'ip6') !== (suffix === '6') || !inSet(from[2] ?? '', flow.from))) return false;
    const to = /ct reply (ip6?) saddr @(\S+)/.exec(rule);
    if (to !== null && ((to[1] === 'ip6') !== (suffix === '6') || !inSet(to[2] ?? '', flow.to))) return false;
    const protocol = /meta l4proto (\S+)/.exec(rule)?.[1];
    const asked = flow.protocol === 'icmp' && suffix === '6' ? 'ipv6-icmp' : flow.protocol;
    if (protocol !== undefined && protocol !== asked) return false;
    const ports = /proto-src @(\S+)/.exec(rule)?.[1];
    return ports === undefined || inSet(ports, String(flow.port));
  };
  return (['out', 'in'] as const).every((direction) => {
    const end = direction === 'out' ? flow.from : flow.to;
    const jump = elements.find(({ set, key }) => set === `${direction}${suffix}` && key === end)?.value;
    if (jump === undefined) return true;
    const chain = table.chains.find(({ name }) => `jump ${name}` === jump);
    const rule = chain?.rules.find(matches) ?? '';
    return rule.endsWith('return');
  });
}

const world = (policies: readonly Policy[]): PolicyWorld => ({ policies, networks, endpoints });

t.test('selectors match as Kubernetes has it', async (t) => {
  const cases: [LabelSelector, Record<string, string>, boolean][] = [
    [{}, {}, true],
    [{ matchLabels: { a: '1' } }, { a: '1', b: '2' }, true],
    [{ matchLabels: { a: '1' } }, { a: '2' }, false],
    [{ matchExpressions: [{ key: 'a', operator: 'In', values: ['1', '2'] }] }, { a: '2' }, true],
    [{ matchExpressions: [{ key: 'a', operator: 'In', values: ['1'] }] }, {}, false],
    [{ matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['1'] }] }, {}, true],
    [{ matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['1'] }] }, { a: '1' }, false],
    [{ matchExpressions: [{ key: 'a', operator: 'Exists' }] }, { a: '' }, true],
    [{ matchExpressions: [{ key: 'a', operator: 'DoesNotExist' }] }, { a: '' }, false],
    [{ matchLabels: { constructor: 'x' } }, {}, false],
  ];
  for (const [selector, labels, want] of cases)
    t.equal(matchesLabels(labels, selector), want, JSON.stringify([selector, labels]));
});

t.test('truth table of decisions', async (t) => {
  const flow: PolicyFlow = { from: '10.1.0.3', to: '10.1.0.2', protocol: 'tcp', port: 80 };
  const web = { selects: { matchLabels: { role: 'web' } } };
  const is = (want: boolean, what: string, ...policies: Partial<Policy>[]): void => {
    const all = world(policies.map((fields, at) => newPolicy({ name: `p${at}`, ...fields })));
    t.equal(decide(all, flow).allowed, want, what);
    t.equal(evaluate(compilePolicies(all, { isLocal: () => true }), flow), want, `${what}, compiled`);
  };
  const cidr = (text: string, ...except: string[]): PolicyRule => ({ peers: [{ cidr: text, except }] });
  is(true, 'no policy');
  is(false, 'default deny', { ...web, ingress: [] });
  is(true, 'egress only does not touch ingress', { ...web, egress: [] });
  is(true, 'an empty rule permits all', { ...web, ingress: [{}] });
  is(false, 'both ends must allow', { ...web, ingress: [{}] }, { egress: [] });
  is(true, 'policies add up', { ...web, ingress: [] }, { ...web, ingress: [{ ports: [{ port: 80 }] }] });
  is(false, 'another port', { ...web, ingress: [{ ports: [{ port: 81 }] }] });
  is(true, 'a range', { ...web, ingress: [{ ports: [{ port: 70, endPort: 90 }] }] });
  is(false, 'another protocol', { ...web, ingress: [{ ports: [{ protocol: 'udp', port: 80 }] }] });
  is(true, 'a selector', { ...web, ingress: [{ peers: [{ endpoints: { matchLabels: { role: 'front' } } }] }] });
  is(false, 'another', { ...web, ingress: [{ peers: [{ endpoints: { matchLabels: { role: 'x' } } }] }] });
  is(true, 'a subnet', { ...web, ingress: [cidr('10.0.0.0/8')] });
  is(false, 'its exception', { ...web, ingress: [cidr('10.0.0.0/8', '10.1.0.3/32')] });
  is(true, 'a network', { ...web, ingress: [{ peers: [{ networks: ['red'] }] }] });
  is(false, 'another network', { ...web, ingress: [{ peers: [{ networks: ['blue'] }] }] });
  is(true, 'limited to another network', { ...web, networks: ['blue'], ingress: [] });
});

const selector = fc.oneof(
  fc.constant<LabelSelector>({}),
  fc.constantFrom('web', 'front', 'none').map((role): LabelSelector => ({ matchLabels: { role } })),
  fc
    .constantFrom('Exists' as const, 'DoesNotExist' as const)
    .map((operator): LabelSelector => ({ matchExpressions: [{ key: 'tier', operator }] })),
);
const peer: fc.Arbitrary<PolicyPeer> = fc.oneof(
  selector.map((endpoints) => ({ endpoints })),
  fc
    .tuple(selector, fc.constantFrom('red', 'blue', 'gone'))
    .map(([chosen, ref]) => ({ endpoints: chosen, networks: [ref] })),
  fc.constantFrom('red', 'blue', 'gone').map((ref) => ({ networks: [ref] })),
  fc.constantFrom<PolicyPeer>(
    { cidr: '0.0.0.0/0', except: ['10.1.0.2/31', '10.1.0.3/32'] },
    { cidr: '10.1.0.0/24' },
    { cidr: '192.168.0.0/16', except: ['192.168.7.0/24'] },
    { cidr: '::/0', except: ['fd00:9::/32'] },
    { cidr: 'fd00:2::2/128' },
  ),
);
const port = fc.constantFrom(
  { protocol: 'tcp' as const, port: 80 },
  { protocol: 'tcp' as const, port: 81, endPort: 90 },
  { protocol: 'udp' as const },
  { protocol: 'icmp' as const },
);
const rules = fc.array(
  fc.record({ peers: fc.array(peer, { maxLength: 3 }), ports: fc.array(port, { maxLength: 3 }) }),
  {
    maxLength: 3,
  },
);
const policy = fc.record({
  selects: selector,
  ingress: rules,
  egress: rules,
  drop: fc.constantFrom('ingress', 'egress', ''),
});

t.test('a policy set and its compiled rules decide alike', async (t) => {
  fc.assert(
    fc.property(
      fc.array(policy, { maxLength: 4 }),
      fc.constantFrom('tcp' as const, 'udp' as const, 'icmp' as const),
      fc.constantFrom(79, 80, 81, 90),
      (made, protocol, number) => {
        const policies = made.map(({ drop, ...fields }, at) => {
          const whole = newPolicy({ ...fields, name: `p${at}` });
          const { ingress, egress, ...rest } = whole;
          if (drop === 'ingress') return { ...rest, egress: egress ?? [] };
          return drop === 'egress' ? { ...rest, ingress: ingress ?? [] } : whole;
        });
        const all = world(policies);
        const compiled = compilePolicies(all, { isLocal: () => true });
        for (const from of addresses) {
          for (const to of addresses) {
            if (from.includes(':') !== to.includes(':')) continue;
            const flow = { from, to, protocol, port: protocol === 'icmp' ? 0 : number };
            if (decide(all, flow).allowed !== evaluate(compiled, flow)) return false;
          }
        }
        return true;
      },
    ),
    { numRuns: 300 },
  );
  t.ok(containsAddr(parsePrefix('10.1.0.0/24'), parseAddr('10.1.0.2')));
});

t.test('rules do not grow with endpoints or ports', async (t) => {
  const many = Array.from({ length: 500 }, (_, at) => ({
    id: `e${at}`,
    network: '00000001',
    addresses: [`10.1.${at >> 8}.${at & 255}`],
    labels: { role: 'web' },
  }));
  const ports = Array.from({ length: 200 }, (_, at) => ({ port: 1000 + 2 * at }));
  const policies = [newPolicy({ ingress: [{ peers: [{ endpoints: {} }], ports }] })];
  const { table } = compilePolicies({ policies, networks, endpoints: many }, { isLocal: () => true });
  t.ok((table?.chains ?? []).every((chain) => chain.rules.length <= 18));
});

t.test('the whole rule set is as the golden file has it', async (t) => {
  const { table, elements } = compilePolicies(
    world([
      newPolicy({
        name: 'web',
        selects: { matchLabels: { role: 'web' } },
        ingress: [
          { peers: [{ endpoints: { matchLabels: { role: 'front' } } }], ports: [{ port: 80 }, { protocol: 'icmp' }] },
          { peers: [{ cidr: '192.168.0.0/16', except: ['192.168.7.0/24'] }], ports: [{ port: 8000, endPort: 8100 }] },
        ],
      }),
      newPolicy({ name: 'zero', networks: ['red'], egress: [] }),
    ]),
    { isLocal: () => true },
  );
  const text = `${table === null ? '' : formatTable(table)}\n${elements.map(({ set, key, value }) => `${set} { ${key}${value === undefined ? '' : ` : ${value}`} }`).join('\n')}\n`;
  const file = fileURLToPath(new URL('../../../../../test/golden/policy/rules.txt', import.meta.url));
  if (process.env['UPDATE_GOLDEN'] === '1') {
    mkdirSync(fileURLToPath(new URL('.', `file://${file}`)), { recursive: true });
    writeFileSync(file, text);
  }
  t.equal(text, readFileSync(file, 'utf8'));
});

t.test('a file with a fault is refused as a whole, with line and field', async (t) => {
  const refused = (text: string, message: RegExp): void => {
    t.throws(() => readPolicyFile(text, 'p.yaml'), { code: 'ERR_INVALID_POLICY', message });
  };
  const good = 'name: good\nselects: {}\ningress: []\n';
  t.equal(readPolicyFile(good, 'p.yaml').length, 1);
  t.equal(readPolicyFile('[{"name":"a","selects":{},"egress":[]}]', 'p.json').length, 1);
  refused(`${good}---\nname: b\nselects: {}\ningres: []\n`, /^p\.yaml:7: ingres: is not known here/);
  refused(
    'name: b\nselects: {}\ningress:\n  - peers:\n      - cidr: 10.0.0.1/8\n',
    /^p\.yaml:5: ingress\[0\]\.peers\[0\]\.cidr/,
  );
  refused(
    'name: b\nselects: {}\ningress:\n  - ports:\n      - port: 70000\n',
    /^p\.yaml:5: ingress\[0\]\.ports\[0\]\.port/,
  );
  refused('name: b\nselects: {}\ningress:\n  - ports:\n      - protocol: tcpp\n', /^p\.yaml:5: .*must be one of/);
  refused('name: a b\nselects: {}\ningress: []\n', /^p\.yaml:1: name: "a b" is no /);
  refused('name: b\nselects: [\n', /^p\.yaml:\d+: /);
  refused('name: b\nselects: {}\n', /needs ingress or egress/);
  refused('', /holds no policy/);
});
