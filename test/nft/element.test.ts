import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { parseAddr } from '../../core/addr.js';
import type { Network, PortMapping } from '../../core/model.js';
import {
  carriedElements,
  definitionElements,
  guardedElements,
  portElements,
  routedElements,
  sourceElements,
  guardedPortElements,
  vtepElements,
  type TableElement,
} from '../../core/nft/element.js';
import { newOriginTable, originElements } from '../../core/nft/origin.js';
import { newTable } from '../../core/nft/table.js';
import { replaceTable } from '../../lib/nft/transaction.js';

const goldenPath = (name: string): string =>
  fileURLToPath(new URL(`../../../../test/golden/nft/${name}.nft`, import.meta.url));

function golden(name: string, actual: string): string {
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(goldenPath(name), actual);
  return readFileSync(goldenPath(name), 'utf8');
}

const network = (more: Partial<Network> = {}): Network => ({
  v: 1,
  generation: 1,
  id: '0123abcd',
  name: 'front',
  driver: 'overlay',
  subnets: [
    { subnet: '10.64.0.0/20', gateway: '10.64.0.1' },
    { subnet: 'fd00:1::/64', gateway: 'fd00:1::1' },
  ],
  vni: 2 ** 23,
  mtu: 1450,
  internal: false,
  labels: {},
  options: {},
  createdAt: '2026-01-01T00:00:00.000Z',
  ...more,
});

const single = (hostPort: number, port: number, more: Partial<PortMapping> = {}): PortMapping => ({
  hostAddress: null,
  hostPort,
  hostPortEnd: hostPort,
  port,
  portEnd: port,
  protocol: 'tcp',
  ...more,
});

const direct = { defaultRoutes: [4, 6], isElsewhere: false } as const;
const endpoint = (ports: readonly PortMapping[]): { addresses: string[]; ports: readonly PortMapping[] } => ({
  addresses: ['10.64.0.10', 'fd00:1::10'],
  ports,
});

t.test('whole rule sets read as they should', (t) => {
  const outside: TableElement[] = [
    ...definitionElements(network()),
    ...carriedElements(network(), ['10.64.0.2', 'fd00:1::2']),
  ];
  const internal = network({
    id: '89abcdef',
    name: 'inside',
    internal: true,
    subnets: [{ subnet: '10.65.0.0/24', gateway: '10.65.0.1' }],
  });
  const scenarios: Record<string, TableElement[]> = {
    empty: [],
    'published-ports': [
      ...outside,
      ...portElements(
        endpoint([
          single(8080, 80),
          single(5353, 53, { protocol: 'udp', hostAddress: '198.18.0.11' }),
          single(30_000, 30_000, { hostPortEnd: 30_999, portEnd: 30_999, protocol: 'udp' }),
          single(9000, 80, { hostPortEnd: 9002, portEnd: 82 }),
          single(443, 443, { hostAddress: '127.0.0.1' }),
          single(2000, 2000, { hostPortEnd: 2009, portEnd: 2009, hostAddress: '2001:db8::1' }),
        ]),
        direct,
      ),
    ],
    'two-networks': [
      ...outside,
      ...definitionElements(internal),
      ...carriedElements(internal, ['10.65.0.2']),
      ...vtepElements({ vtep: '198.18.0.12' }),
      ...vtepElements({ vtep: '2001:db8:18::13' }),
      ...guardedElements([{ address: '198.18.0.2', port: 7420 }]),
      { set: 'closed', key: 'ipv4' },
      ...portElements(endpoint([single(8080, 80)]), { defaultRoutes: [4], isElsewhere: true }),
    ],
    'masquerade-source': [
      ...outside,
      ...sourceElements(network(), parseAddr('198.18.0.21')),
      ...sourceElements(network(), parseAddr('2001:db8:18::21')),
      ...guardedElements([{ address: '198.18.0.11', port: 2379 }]),
      ...guardedPortElements([{ port: 2379 }]),
    ],
    'joined-networks': [
      ...outside,
      ...definitionElements(internal),
      ...carriedElements(internal, ['10.65.0.2']),
      ...routedElements(network(), internal),
      ...routedElements(internal, network()),
    ],
  };
  for (const [name, elements] of Object.entries(scenarios)) {
    const { script: text } = replaceTable(newTable({ vxlanPort: 4789 }), elements);
    t.equal(text, golden(name, text), name);
    execFileSync('unshare', ['-n', 'nft', '-c', '-f', goldenPath(name)]);
  }
  t.end();
});

t.test('the table that holds endpoints to their own addresses reads as it should', (t) => {
  const bound = {
    id: '0123456789abcdef',
    mac: '02:00:0a:40:00:0a',
    addresses: ['10.64.0.10', 'fd00:1::10'],
    labels: {},
  };
  const free = { ...bound, id: 'fedcba9876543210', labels: { 'tsnet.antispoof': 'off' } };
  const elements = [bound, free].flatMap((each) => originElements(network(), each));
  const { script: text } = replaceTable(newOriginTable(), elements);
  t.equal(text, golden('anti-spoofing', text));
  execFileSync('unshare', ['-n', 'nft', '-c', '-f', goldenPath('anti-spoofing')]);
  t.same(
    originElements(network({ options: { antispoof: 'false' } }), bound),
    [{ set: 'free', key: '"tsv-0123456789"' }],
    'a network’s endpoints can be free together',
  );
  t.same(originElements(network({ driver: 'macvlan', vni: null }), bound), []);
  t.end();
});

t.test('macvlan networks have nothing in the table', (t) => {
  const macvlan = network({ driver: 'macvlan', vni: null });
  t.same([...definitionElements(macvlan), ...carriedElements(macvlan, [])], []);
  t.end();
});

const port = fc.integer({ min: 1, max: 60_000 });
const mapping: fc.Arbitrary<PortMapping> = fc
  .record({
    hostPort: port,
    port,
    length: fc.integer({ min: 0, max: 20 }),
    keeps: fc.boolean(),
    hostAddress: fc.constantFrom(null, '198.18.0.11', '127.0.0.1', '2001:db8::1'),
    protocol: fc.constantFrom('tcp', 'udp', 'sctp'),
  })
  .map(({ hostPort, port: inner, length, keeps, hostAddress, protocol }) => {
    const first = keeps ? hostPort : inner;
    return { hostAddress, hostPort, hostPortEnd: hostPort + length, port: first, portEnd: first + length, protocol };
  });

/** What the rules of chain `published` do with a packet, by the elements. */
function decide(
  elements: readonly TableElement[],
  packet: { to: string; protocol: string; port: number },
): string | null {
  const family = packet.to.includes(':') ? 6 : 4;
  const find = (set: string, prefix: string): string | undefined => {
    for (const element of elements) {
      if (element.set !== `${set}${family}` || !element.key.startsWith(prefix)) continue;
      const [first = NaN, last = first] = element.key.slice(prefix.length).split('-').map(Number);
      if (first <= packet.port && packet.port <= last) return element.value;
    }
    return undefined;
  };
  const wide = `${packet.protocol} . `;
  const narrow = `${packet.to} . ${wide}`;
  const exact = find('port-at', narrow) ?? find('port', wide);
  if (exact !== undefined) return exact;
  const ranged = find('range-at', narrow) ?? find(`range-${packet.protocol}`, '');
  return ranged === undefined ? null : `${ranged} . ${packet.port}`;
}

t.test('a mapping and its elements decide alike', (t) => {
  fc.assert(
    fc.property(
      mapping,
      fc.constantFrom('198.18.0.11', '127.0.0.1', '2001:db8::1', '198.18.0.12'),
      fc.integer({ min: -2, max: 22 }),
      (published, to, offset) => {
        const elements = portElements(endpoint([published]), direct);
        const hit = published.hostPort + offset;
        const isIn =
          hit >= published.hostPort &&
          hit <= published.hostPortEnd &&
          (published.hostAddress === null || published.hostAddress === to);
        const address = to.includes(':') ? 'fd00:1::10' : '10.64.0.10';
        const expected = isIn ? `${address} . ${published.port + offset}` : null;
        return decide(elements, { to, protocol: published.protocol, port: hit }) === expected;
      },
    ),
  );
  t.pass();
  t.end();
});

t.test('a range that keeps its numbers is one element for each family, whatever its length', (t) => {
  const range = single(20_000, 20_000, { hostPortEnd: 29_999, portEnd: 29_999, protocol: 'udp' });
  t.equal(portElements(endpoint([range]), direct).length, 2);
  t.end();
});

t.test('a transaction of text holds 40 000 elements at most, and the others are left over', (t) => {
  const elements = Array.from({ length: 50_001 }, (_, index): TableElement => ({
    set: 'port4',
    key: `tcp . ${index + 1}`,
    value: `10.64.0.10 . ${index + 1}`,
  }));
  const { script, rest } = replaceTable(newTable({ vxlanPort: 4789 }), elements);
  t.equal(script.match(/tcp \. \d+ :/g)?.length, 40_000);
  t.same(rest, elements.slice(40_000));
  t.throws(
    () => replaceTable(newTable({ vxlanPort: 4789 }), [{ set: 'port4', key: 'tcp . 80 } ; flush ruleset' }]),
    RangeError,
    'text that is no element',
  );
  t.end();
});
