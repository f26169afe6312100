import t from 'tap';
import type { DriverContext } from '../../core/desired/driver.js';
import { driverOf } from '../../core/desired/drivers.js';
import { bridgeName, vethName, vxlanName } from '../../core/ids.js';
import { floodMac } from '../../core/kernel.js';
import type { Reconciler } from '../../agent/reconcile/reconciler.js';
import { waitFor } from '../lab/wait.js';
import { newNetns, startReconciler, testCarrier, testContext, testEndpoint, testNetwork } from './reconcile-fixture.js';
import { newHostPair, newSandbox, pings } from './reconcile-sandbox.js';

const driver = driverOf('overlay');
const bridge = bridgeName(testNetwork.id);
const vxlan = vxlanName(testNetwork.id);

t.test('an overlay is in the kernel as its driver describes it', async (t) => {
  const host = await newNetns(t, 'ovl');
  const ctx = testContext(1);
  const reconciler = await startReconciler(t, host);
  const before = host.ip('link', 'show');
  reconciler.setDesired('network', driver.networkObjects(ctx));
  reconciler.setDesired('carrier/h2', driver.carrierObjects(ctx, testCarrier(2)));
  reconciler.setDesired('endpoint/remote', driver.endpointObjects(ctx, testEndpoint(2), '198.18.0.2'));
  for (const owner of ['network', 'carrier/h2', 'endpoint/remote']) await reconciler.settled(owner, 30_000);

  const [br] = host.ipJson('link', 'show', 'dev', bridge);
  t.match(br, {
    ifalias: `tsnet:bridge:${testNetwork.id}`,
    mtu: 1450,
    linkinfo: { info_kind: 'bridge', info_data: { forward_delay: 0, stp_state: 0, mcast_snooping: 0 } },
  });
  const [vx] = host.ipJson('link', 'show', 'dev', vxlan);
  t.match(vx, {
    ifalias: `tsnet:vxlan:${testNetwork.id}`,
    master: bridge,
    mtu: 1450,
    linkinfo: {
      info_kind: 'vxlan',
      info_data: { id: testNetwork.vni, local: '198.18.0.1', port: 4790, learning: false },
      info_slave_kind: 'bridge',
      info_slave_data: { learning: false, neigh_suppress: true },
    },
  });
  t.ok((vx?.['flags'] as string[]).includes('UP') && (br?.['flags'] as string[]).includes('UP'), 'both are up');
  t.equal(
    host.exec('sysctl', '-n', `net.ipv6.conf.${bridge}.accept_ra`).trim(),
    '0',
    'the host takes no router advertisement',
  );
  t.equal(
    host.exec('sysctl', '-n', `net.ipv6.conf.${vxlan}.disable_ipv6`).trim(),
    '1',
    'the VXLAN device speaks no IPv6 of its own',
  );

  const routes = [...host.ipJson('route'), ...host.ipJson('-6', 'route')].filter(({ protocol }) => protocol === '84');
  t.match(routes, [
    { dst: '10.64.0.0/20', dev: bridge, prefsrc: '10.64.1.1' },
    { dst: 'fd00:64::/64', dev: bridge, prefsrc: 'fd00:64::1:1' },
  ]);
  const addrs = host.ipJson('addr', 'show', 'dev', bridge)[0]?.['addr_info'] as Record<string, unknown>[];
  t.match(
    addrs.find(({ local }) => local === 'fd00:64::1'),
    { deprecated: true, nodad: true, noprefixroute: true },
    'nothing is sent from the IPv6 gateway address',
  );
  t.equal(host.ipJson('neigh', 'show', 'nud', 'permanent').length, 4);
  const fdb = host
    .bridge('fdb', 'show', 'dev', vxlan)
    .trim()
    .split('\n')
    .map((line) => line.trim());
  for (const entry of [
    `${floodMac} dst 198.18.0.2 self permanent`,
    `02:00:0a:40:02:05 dst 198.18.0.2 self permanent`,
    `02:00:0a:40:02:05 master ${bridge} static`,
  ]) {
    t.ok(fdb.includes(entry), entry);
  }
  t.same(reconciler.status().failing, [], 'nothing fails');

  for (const owner of ['endpoint/remote', 'carrier/h2', 'network']) reconciler.setDesired(owner, []);
  await reconciler.settled('network', 30_000);
  t.equal(host.ip('link', 'show'), before, 'all links are gone');
  t.same(host.ipJson('route'), [], 'all routes are gone');
});

/** What one host is told: its network, the other carrier, both endpoints. */
function tellHost(
  reconciler: Reconciler,
  n: number,
  ctx: DriverContext,
  options: { readonly remote: boolean },
): readonly string[] {
  const other = 3 - n;
  reconciler.setDesired('network', driver.networkObjects(ctx));
  reconciler.setDesired('carrier', driver.carrierObjects(ctx, testCarrier(other)));
  reconciler.setDesired('local', driver.endpointObjects(ctx, testEndpoint(n), null));
  if (options.remote)
    reconciler.setDesired('remote', driver.endpointObjects(ctx, testEndpoint(other), `198.18.0.${other}`));
  return ['network', 'carrier', 'local', ...(options.remote ? ['remote'] : [])];
}

for (const remote of [true, false]) {
  const knowledge = remote ? 'with the records of both endpoints' : 'with nothing but the carriers known';
  t.test(`two sandboxes on two hosts reach each other over the overlay, ${knowledge}`, async (t) => {
    const hosts = await newHostPair(t);
    const sandboxes = [];
    for (const [index, host] of hosts.entries()) {
      const n = index + 1;
      const ctx = testContext(n);
      const reconciler = await startReconciler(t, host);
      const owners = tellHost(reconciler, n, ctx, { remote });
      sandboxes.push(await newSandbox(t, host, ctx, testEndpoint(n)));
      for (const owner of owners) await reconciler.settled(owner, 30_000);
      t.equal(host.ipJson('link', 'show', 'dev', vethName(testEndpoint(n).id))[0]?.['master'], bridge);
    }
    const [one, two] = sandboxes;
    if (one === undefined || two === undefined) throw new Error('two sandboxes were made');
    for (const address of testEndpoint(2).addresses) {
      await waitFor(`${address} answers`, () => pings(one, address));
      t.pass(`${address} answers`);
    }
    t.ok(pings(two, '10.64.1.5', '-s', '1422', '-M', 'do'), 'a packet of the whole MTU passes');
    t.notOk(pings(two, '10.64.1.5', '-s', '1423', '-M', 'do'), 'a larger one does not');
    t.ok(pings(one, '10.64.0.1') && pings(one, 'fd00:64::1'), 'the gateway answers');
    t.ok(pings(one, '10.64.2.1') && pings(one, 'fd00:64::2:1'), 'the other host answers from its own address');
    for (const host of hosts) {
      const other = host === hosts[0] ? 2 : 1;
      for (const address of testEndpoint(other).addresses)
        t.ok(pings(host, address), `a host reaches ${address} elsewhere`);
    }
  });
}
