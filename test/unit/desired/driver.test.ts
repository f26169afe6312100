import t from 'tap';
import { driverOf } from '../../../core/desired/drivers.js';
import type { DriverContext, SandboxPlan } from '../../../core/desired/driver.js';
import type { KernelObject } from '../../../core/kernel.js';
import { objectKey } from '../../../core/kernel.js';
import { formatObject } from '../../../core/kernel-text.js';
import type { DriverName } from '../../../core/model.js';
import { matchGolden } from './golden.js';
import { newCarrier, newContext, newEndpoint, newNetwork } from './records.js';

const section = (title: string, objects: readonly KernelObject[]): string =>
  [`# ${title}`, ...objects.map(formatObject), ''].join('\n');

function formatPlan(plan: SandboxPlan): string {
  const { link } = plan;
  const dev = link.kind === 'veth' ? link.peer.ifname : link.ifname;
  const first =
    link.kind === 'veth'
      ? `ip link add ${link.name} mtu ${link.mtu} master ${link.master} type veth peer name ${dev} address ${link.peer.mac} # alias ${link.alias}, ${link.peer.alias}`
      : `ip link add ${link.name} link ${link.parent} address ${link.mac} mtu ${link.mtu} type macvlan mode ${link.mode} # as ${dev}, alias ${link.alias}`;
  return [
    '# sandbox',
    first,
    ...plan.sysctls.map(([path, value]) => `sysctl -w ${path}=${value}`),
    ...plan.addrs.map(({ address, nodad }) => `ip addr add ${address} dev ${dev}${nodad ? ' nodad' : ''}`),
    ...plan.routes.map(
      ({ dst, gateway, metric }) =>
        `ip route add ${dst}${gateway === null ? '' : ` via ${gateway}`} dev ${dev}${metric === undefined ? '' : ` metric ${metric}`}`,
    ),
    '',
  ].join('\n');
}

function everything(name: DriverName, ctx: DriverContext): string {
  const driver = driverOf(name);
  const { network } = ctx;
  const local = newEndpoint(network, 'h1');
  return [
    section('network', driver.networkObjects(ctx)),
    section('carrier h2', driver.carrierObjects(ctx, newCarrier(network))),
    section('endpoint on this host', driver.endpointObjects(ctx, local, null)),
    section('endpoint on h2', driver.endpointObjects(ctx, newEndpoint(network, 'h2'), '198.18.0.2')),
    formatPlan(driver.sandbox(ctx, local, { defaultRouteFamilies: [4, 6] })),
  ].join('\n');
}

for (const name of ['overlay', 'bridge', 'macvlan'] as const) {
  t.test(`driver ${name} asks for the objects that its golden text shows`, async (t) => {
    matchGolden(t, name, everything(name, newContext(newNetwork(name))));
  });
}

t.test('a sandbox whose default route is elsewhere has routes to joined networks', async (t) => {
  const other = newNetwork('overlay', {
    id: '89abcdef',
    subnets: [
      { subnet: '10.65.0.0/24', gateway: '10.65.0.1' },
      { subnet: 'fd00:65::/64', gateway: 'fd00:65::1' },
    ],
    joined: ['0a1b2c3d'],
  });
  const ctx = { ...newContext(newNetwork('overlay', { joined: [other.id] })), joined: [other] };
  const plan = driverOf('overlay').sandbox(ctx, newEndpoint(ctx.network, 'h1'), { defaultRouteFamilies: [4] });
  matchGolden(t, 'overlay-joined', formatPlan(plan));
});

t.test('a macvlan network with a shim gives the host a link and routes to its own endpoints alone', async (t) => {
  const network = newNetwork('macvlan', { options: { parent: 'eth1', 'host-shim': 'true' } });
  matchGolden(t, 'macvlan-shim', everything('macvlan', newContext(network)));
});

t.test('an overlay over an IPv6 underlay, IPv6 alone, before the host has an address', async (t) => {
  const network = newNetwork('overlay', { subnets: [{ subnet: 'fd00:64::/64', gateway: 'fd00:64::1' }] });
  const ctx = newContext(network, []);
  matchGolden(t, 'overlay-ipv6', everything('overlay', { ...ctx, self: { ...ctx.self, vtep: '2001:db8::1' } }));
});

t.test("the order of the host's addresses decides nothing", async (t) => {
  const network = newNetwork('overlay');
  const one = driverOf('overlay').networkObjects(newContext(network, ['10.64.1.1', 'fd00:64::1:1']));
  const two = driverOf('overlay').networkObjects(newContext(network, ['fd00:64::1:1', '10.64.1.1']));
  t.same(one, two);
});

t.test('a reserved or detaching endpoint has no objects anywhere, a linked one those of an attached one', async (t) => {
  for (const name of ['overlay', 'bridge', 'macvlan'] as const) {
    const network = newNetwork(name, name === 'macvlan' ? { options: { parent: 'eth1', 'host-shim': 'true' } } : {});
    const ctx = newContext(network);
    const driver = driverOf(name);
    for (const host of ['h1', 'h2']) {
      for (const state of ['reserved', 'detaching'] as const) {
        t.same(
          driver.endpointObjects(ctx, newEndpoint(network, host, { state }), '198.18.0.2'),
          [],
          `${name}: ${state} on ${host}`,
        );
      }
      const attached = driver.endpointObjects(ctx, newEndpoint(network, host), '198.18.0.2');
      const linked = driver.endpointObjects(ctx, newEndpoint(network, host, { state: 'linked' }), '198.18.0.2');
      t.same(linked, attached, `${name}: linked on ${host}`);
    }
  }
});

t.test("an endpoint whose host's VTEP is unknown is reached by flooding until it is known", async (t) => {
  const network = newNetwork('overlay');
  t.same(driverOf('overlay').endpointObjects(newContext(network), newEndpoint(network, 'h2'), null), []);
});

t.test('a host asks for nothing so as to reach itself', async (t) => {
  const network = newNetwork('overlay');
  t.same(driverOf('overlay').carrierObjects(newContext(network), newCarrier(network, 'h1', '198.18.0.1')), []);
});

t.test('no two objects of a host have one key', async (t) => {
  for (const name of ['overlay', 'bridge', 'macvlan'] as const) {
    const ctx = newContext(newNetwork(name));
    const driver = driverOf(name);
    const objects = [
      ...driver.networkObjects(ctx),
      ...driver.carrierObjects(ctx, newCarrier(ctx.network)),
      ...driver.endpointObjects(ctx, newEndpoint(ctx.network, 'h1'), null),
      ...driver.endpointObjects(ctx, newEndpoint(ctx.network, 'h2'), '198.18.0.2'),
    ];
    t.equal(new Set(objects.map(objectKey)).size, objects.length, name);
  }
});

t.test('an internal network gives no default route', async (t) => {
  for (const name of ['overlay', 'bridge', 'macvlan'] as const) {
    const network = newNetwork(name, { internal: true });
    const plan = driverOf(name).sandbox(newContext(network), newEndpoint(network, 'h1'), {
      defaultRouteFamilies: [4, 6],
    });
    t.same(plan.routes, [], name);
  }
});

t.test('a default route is given for the families asked for, and only where there is a gateway', async (t) => {
  const network = newNetwork('macvlan', {
    subnets: [
      { subnet: '10.64.0.0/20', gateway: null },
      { subnet: 'fd00:64::/64', gateway: 'fd00:64::1' },
    ],
  });
  const plan = (families: readonly (4 | 6)[]) =>
    driverOf('macvlan').sandbox(newContext(network), newEndpoint(network, 'h1'), { defaultRouteFamilies: families })
      .routes;
  t.same(plan([]), []);
  t.same(plan([4]), [], 'no gateway, no route');
  t.same(plan([4, 6]), [{ dst: '::/0', gateway: 'fd00:64::1' }]);
});

t.test('a subnet of the network in which the endpoint has no address is on its link too', async (t) => {
  const network = newNetwork('overlay', {
    subnets: [
      { subnet: '10.64.0.0/20', gateway: '10.64.0.1' },
      { subnet: '10.65.0.0/24', gateway: '10.65.0.1' },
    ],
  });
  const endpoint = newEndpoint(network, 'h1', { addresses: ['10.65.0.9'] });
  const plan = driverOf('overlay').sandbox(newContext(network), endpoint, { defaultRouteFamilies: [4] });
  t.same(plan.addrs, [{ address: '10.65.0.9/24', nodad: false }]);
  t.same(plan.routes, [
    { dst: '10.64.0.0/20', gateway: null },
    { dst: '0.0.0.0/0', gateway: '10.65.0.1' },
  ]);
});

t.test('IPv6 settings are written only where the kernel has IPv6', async (t) => {
  const network = newNetwork('overlay');
  const sysctls = (kernelHasIpv6: boolean) =>
    driverOf('overlay').sandbox(newContext(network), newEndpoint(network, 'h1'), {
      defaultRouteFamilies: [],
      kernelHasIpv6,
    }).sysctls;
  t.same(sysctls(false), []);
  t.same(sysctls(true), [
    ['net/ipv6/conf/eth0/disable_ipv6', '0'],
    ['net/ipv6/conf/eth0/accept_ra', '0'],
  ]);
});

t.test('an overlay without a VNI is a corrupt record', async (t) => {
  const network = newNetwork('overlay', { vni: null });
  t.throws(() => driverOf('overlay').networkObjects(newContext(network)), { code: 'ERR_STORE_CORRUPT' });
});
