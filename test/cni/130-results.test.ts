import t from 'tap';
import { checkState } from '../../cni-plugin/check.js';
import { appendResult, dnsFor, formatResult, parseResult, type Result } from '../../cni-plugin/result.js';
import { supportedVersions, type CniVersion } from '../../cni-plugin/version.js';
import type { SandboxState } from '../../core/attacher.js';

const dns = { nameservers: ['10.1.0.1'], search: ['a.b'] };
const routes = [
  { dst: '0.0.0.0/0' },
  { dst: '10.9.0.0/16', gw: '10.1.0.1', mtu: 1400, advmss: 1360, priority: 10, table: 100, scope: 0 },
  { dst: '::/0', gw: 'fd00::1' },
];
const interfaces = [
  { name: 'br0', mac: '02:00:00:00:00:01', mtu: 1450 },
  { name: 'veth1', mac: '02:00:00:00:00:02', mtu: 1450 },
  {
    name: 'eth0',
    mac: '02:00:00:00:00:03',
    mtu: 1450,
    sandbox: '/run/netns/x',
    socketPath: '/s',
    pciID: '0000:00:01.0',
  },
];
const ips = [
  { address: '10.1.0.5/16', gateway: '10.1.0.1', interface: 2 },
  { address: 'fd00::5/64', gateway: 'fd00::1', interface: 2 },
  { address: '10.2.0.5/16', interface: 2 },
];
const full: Result = { interfaces, ips, routes, dns };

const middle = {
  interfaces: [
    { name: 'br0', mac: '02:00:00:00:00:01' },
    { name: 'veth1', mac: '02:00:00:00:00:02' },
    { name: 'eth0', mac: '02:00:00:00:00:03', sandbox: '/run/netns/x' },
  ],
  ips: [
    { version: '4', ...ips[0] },
    { version: '6', ...ips[1] },
    { version: '4', ...ips[2] },
  ],
  routes,
  dns,
};
const oldest = {
  ip4: {
    ip: '10.1.0.5/16',
    gateway: '10.1.0.1',
    routes: [{ dst: '0.0.0.0/0' }, { dst: '10.9.0.0/16', gw: '10.1.0.1' }],
  },
  ip6: { ip: 'fd00::5/64', gateway: 'fd00::1', routes: [{ dst: '::/0', gw: 'fd00::1' }] },
  dns,
};
const vectors: Readonly<Record<CniVersion, object>> = {
  '0.1.0': oldest,
  '0.2.0': oldest,
  '0.3.0': middle,
  '0.3.1': middle,
  '0.4.0': middle,
  '1.0.0': full,
  '1.1.0': full,
};

for (const version of supportedVersions) {
  t.test(`1.1.0 is written as ${version}`, async (t) => {
    t.strictSame(JSON.parse(JSON.stringify(formatResult(full, version))), { cniVersion: version, ...vectors[version] });
    const bare = { ...full, dns: {}, routes: [] };
    const isNew = version === '1.0.0' || version === '1.1.0';
    t.equal('dns' in formatResult(bare, version), !isNew, 'without name servers');
  });

  t.test(`${version} is read back`, async (t) => {
    const again = parseResult({ cniVersion: version, ...vectors[version] }, 'prevResult', '0.1.0');
    t.strictSame(formatResult(again, version), { cniVersion: version, ...vectors[version] });
    t.strictSame(
      formatResult(parseResult(vectors[version], 'prevResult', version), version),
      { cniVersion: version, ...vectors[version] },
      'its version is the configuration’s where it does not say',
    );
  });
}

t.test('0.2.0 becomes 1.0.0 without interfaces, its routes one after another', async (t) => {
  t.strictSame(formatResult(parseResult({ cniVersion: '0.2.0', ...oldest }, 'prevResult', '1.0.0'), '1.0.0'), {
    cniVersion: '1.0.0',
    ips: [
      { address: '10.1.0.5/16', gateway: '10.1.0.1' },
      { address: 'fd00::5/64', gateway: 'fd00::1' },
    ],
    routes: [{ dst: '0.0.0.0/0' }, { dst: '10.9.0.0/16', gw: '10.1.0.1' }, { dst: '::/0', gw: 'fd00::1' }],
    dns,
  });
});

t.test('an old version has no place for a result without addresses', async (t) => {
  t.throws(() => formatResult({ ...full, ips: [] }, '0.2.0'), { message: 'cannot convert: no valid IP addresses' });
});

t.test('an interface index of 0 is written, one that means none is not', async (t) => {
  const result = parseResult(
    {
      ips: [
        { address: '10.1.0.5/16', interface: 0 },
        { address: '10.1.0.6/16', interface: -1 },
      ],
    },
    'prevResult',
    '1.0.0',
  );
  t.strictSame(result.ips, [{ address: '10.1.0.5/16', interface: 0 }, { address: '10.1.0.6/16' }]);
  t.match(JSON.stringify(formatResult(result, '1.0.0')), /"interface":0/);
});

t.test('keys are read in any case', async (t) => {
  const result = parseResult(
    {
      CNIVersion: '1.0.0',
      Interfaces: [{ Name: 'eth0', Sandbox: '/n' }],
      IPs: [{ Address: '10.1.0.5/16', Interface: 0 }],
      DNS: { Nameservers: ['10.1.0.1'] },
    },
    'prevResult',
    '0.2.0',
  );
  t.strictSame(result, {
    interfaces: [{ name: 'eth0', sandbox: '/n' }],
    ips: [{ address: '10.1.0.5/16', interface: 0 }],
    routes: [],
    dns: { nameservers: ['10.1.0.1'] },
  });
});

t.test('what is no result is refused with the field’s name', async (t) => {
  t.throws(() => parseResult([], 'prevResult', '1.0.0'), { code: 7, message: /prevResult/ });
  t.throws(() => parseResult({ ips: [{}] }, 'prevResult', '1.0.0'), { code: 7, message: /prevResult.ips.address/ });
  t.throws(() => parseResult({ ips: 5 }, 'prevResult', '1.0.0'), { code: 7, message: /prevResult.ips/ });
  t.throws(() => parseResult({ cniVersion: '9.9.9' }, 'prevResult', '1.0.0'), { code: 1, message: /9\.9\.9/ });
});

t.test('a result goes behind those of the plugins before', async (t) => {
  const joined = appendResult(full, {
    interfaces: [{ name: 'eth1' }],
    ips: [{ address: '10.3.0.5/24', interface: 0 }, { address: '10.3.0.6/24' }],
    routes: [],
    dns: {},
  });
  t.equal(joined.interfaces[3]?.name, 'eth1');
  t.strictSame(joined.ips.slice(3), [{ address: '10.3.0.5/24', interface: 3 }, { address: '10.3.0.6/24' }]);
  t.strictSame(joined.dns, dns, 'name servers stay where none are added');
});

t.test('name servers: the runtime’s, else the configuration’s as a whole, else the network’s', async (t) => {
  const own = { nameservers: ['10.1.0.1'] };
  t.strictSame(dnsFor({}, own), own);
  t.strictSame(dnsFor({ dns: { search: ['x'] } }, own), { search: ['x'] });
  t.strictSame(dnsFor({ dns: { nameservers: [] } }, own), { nameservers: [] }, 'an empty list is one too');
  t.strictSame(
    dnsFor(
      { dns: { search: ['x'] }, runtimeConfig: { dns: { Servers: ['8.8.8.8'], Searches: ['y'], Options: ['z'] } } },
      own,
    ),
    { nameservers: ['8.8.8.8'], search: ['y'], options: ['z'] },
  );
  t.strictSame(dnsFor({ runtimeConfig: { dns: { Servers: null } } }, own), own);
});

const environment = { command: 'CHECK', containerId: 'c', netns: '/run/netns/x', ifname: 'eth0', args: '', path: '' };
const state: SandboxState = {
  link: { name: 'eth0', mac: '02:00:00:00:00:03', mtu: 1450, isUp: true },
  addresses: ['10.1.0.5/16', 'fd00::5/64', '10.2.0.5/16', 'fe80::1/64'],
  routes: [
    { dst: '0.0.0.0/0', gateway: '10.1.0.1' },
    { dst: '::/0', gateway: 'fd00::1' },
    { dst: '10.1.0.0/16', gateway: null },
  ],
  hostLinks: [
    { name: 'br0', mac: '', master: null },
    { name: 'veth1', mac: '', master: 'br0' },
  ],
};

t.test('CHECK takes more than was listed, and misses what is not there', async (t) => {
  t.doesNotThrow(() => checkState(full, environment, state));
  const cases: readonly [what: string, broken: Partial<SandboxState>, message: RegExp][] = [
    ['the interface', { link: null }, /eth0 is missing/],
    [
      'its MAC',
      { link: { name: 'eth0', mac: '02:00:00:00:00:09', mtu: 1450, isUp: true } },
      /has MAC 02:00:00:00:00:09/,
    ],
    ['up', { link: { name: 'eth0', mac: '02:00:00:00:00:03', mtu: 1450, isUp: false } }, /is down/],
    ['an IPv4 address', { addresses: state.addresses.slice(1) }, /lacks address 10\.1\.0\.5/],
    ['an IPv6 address', { addresses: ['10.1.0.5/16', '10.2.0.5/16'] }, /lacks address fd00::5/],
    ['its prefix length', { addresses: ['10.1.0.5/24', 'fd00::5/64', '10.2.0.5/16'] }, /lacks address 10\.1\.0\.5\/16/],
    ['a default route', { routes: state.routes.slice(1) }, /lacks route 0\.0\.0\.0\/0/],
    [
      'a route’s gateway',
      { routes: [state.routes[0] ?? { dst: '', gateway: null }, { dst: '::/0', gateway: 'fd00::2' }] },
      /lacks route ::\/0 via fd00::1/,
    ],
    ['the host’s end', { hostLinks: state.hostLinks.slice(0, 1) }, /veth1 is missing/],
  ];
  for (const [what, broken, message] of cases)
    t.throws(() => checkState(full, environment, { ...state, ...broken }), { code: 102, message }, what);
  t.throws(() => checkState(full, { ...environment, netns: '/run/netns/y' }, state), { code: 7 }, 'another sandbox');
  const ours = { ...full, interfaces: [{ name: 'tsb-1' }, { name: 'tsv-1' }, ...interfaces.slice(2)] };
  const unplugged = {
    ...state,
    hostLinks: [
      { name: 'tsb-1', mac: '', master: null },
      { name: 'tsv-1', mac: '', master: null },
    ],
  };
  t.throws(() => checkState(ours, environment, unplugged), { message: /no port of its bridge/ });
});
