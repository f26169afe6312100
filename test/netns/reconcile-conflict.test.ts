import t from 'tap';
import { driverOf } from '../../core/desired/drivers.js';
import type { TsnetError } from '../../core/errors.js';
import { bridgeName, macvlanShimName, vethName, vxlanName } from '../../core/ids.js';
import type { Network } from '../../core/model.js';
import { linkAddMessage, linkSetMessage } from '../../lib/netlink/link.js';
import { waitFor } from '../lab/wait.js';
import { newNetns, newTestLog, startReconciler, testContext, testEndpoint, testNetwork } from './reconcile-fixture.js';

const driver = driverOf('overlay');
const ctx = testContext(1);
const bridge = bridgeName(testNetwork.id);
const vxlan = vxlanName(testNetwork.id);

t.test('a foreign VXLAN device with the VNI is named, left alone, and waited for', async (t) => {
  const host = await newNetns(t, 'vni');
  host.ip(
    'link',
    'add',
    'theirs0',
    'type',
    'vxlan',
    'id',
    `${testNetwork.vni}`,
    'dstport',
    '4790',
    'local',
    '198.18.0.1',
  );
  const before = host.ip('-d', 'link', 'show', 'dev', 'theirs0');
  const reconciler = await startReconciler(t, host);
  reconciler.setDesired('network', driver.networkObjects(ctx));
  const error = await reconciler.settled('network', 30_000).catch((error: unknown) => error as TsnetError);
  t.match(error, { code: 'ERR_VNI_CONFLICT', details: { device: 'theirs0', vni: testNetwork.vni } });
  t.match((error as TsnetError).message, 'theirs0');
  t.match(reconciler.status().failing, [{ code: 'ERR_VNI_CONFLICT' }]);
  reconciler.setDesired('remote', driver.endpointObjects(ctx, testEndpoint(2), '198.18.0.2'));
  await t.rejects(reconciler.settled('remote', 30_000), { code: 'ERR_VNI_CONFLICT' }, 'what waits for it says why');
  t.equal(host.ip('-d', 'link', 'show', 'dev', 'theirs0'), before, 'the foreign device is as it was');
  host.ip('link', 'del', 'theirs0');
  await waitFor('our device is there', () => host.ip('link', 'show').includes(vxlan));
  await waitFor('nothing fails any more', () => reconciler.status().failing.length === 0);
});

t.test('an unmarked link with our name is refused and never touched', async (t) => {
  const host = await newNetns(t, 'name');
  host.ip('link', 'add', bridge, 'mtu', '1300', 'type', 'bridge');
  const before = host.ip('-d', 'link', 'show', 'dev', bridge);
  const reconciler = await startReconciler(t, host);
  reconciler.setDesired('network', driver.networkObjects(ctx));
  await t.rejects(reconciler.settled('network', 30_000), { code: 'ERR_LINK_CONFLICT', details: { link: bridge } });
  reconciler.prune();
  await reconciler.audit();
  reconciler.setDesired('network', []);
  await reconciler.audit();
  t.equal(host.ip('-d', 'link', 'show', 'dev', bridge), before, 'the link is as it was');
  t.same(host.ipJson('addr', 'show', 'dev', bridge)[0]?.['addr_info'], [], 'without an address of ours');
});

t.test("an unmarked link with an endpoint's name is not made a port", async (t) => {
  const host = await newNetns(t, 'port');
  const veth = vethName(testEndpoint(1).id);
  host.ip('link', 'add', veth, 'type', 'veth', 'peer', 'name', 'peer0');
  const reconciler = await startReconciler(t, host);
  reconciler.setDesired('network', driver.networkObjects(ctx));
  reconciler.setDesired('endpoint', driver.endpointObjects(ctx, testEndpoint(1), null));
  await t.rejects(reconciler.settled('endpoint', 30_000), { code: 'ERR_LINK_CONFLICT', details: { link: veth } });
  t.equal(host.ipJson('link', 'show', 'dev', veth)[0]?.['master'], undefined);
});

t.test('a port more than a bridge can hold is an error of its own', async (t) => {
  const host = await newNetns(t, 'full');
  const reconciler = await startReconciler(t, host);
  const network: Network = { ...testNetwork, driver: 'bridge', vni: null };
  const plain = driverOf('bridge');
  const full = { ...ctx, network };
  reconciler.setDesired('network', plain.networkObjects(full));
  await reconciler.settled('network', 30_000);
  const master = reconciler.linkIndex(bridge);
  if (master === undefined) throw new Error('the bridge is there');
  const pairs = Array.from({ length: 511 }, (_, n) => {
    return [
      linkAddMessage({ ifname: `a${n}`, kind: 'veth', master, veth: { peer: { ifname: `b${n}` } } }),
      linkSetMessage(`b${n}`, { master }),
    ];
  });
  const alone = linkAddMessage({ ifname: 'a511', kind: 'veth', master, veth: { peer: { ifname: 'b511' } } });
  await reconciler.connection.requestAll([...pairs.flat(), alone]);
  const veth = vethName(testEndpoint(1).id);
  host.ip('link', 'add', veth, 'type', 'veth', 'peer', 'name', 'peer0');
  host.ip('link', 'set', veth, 'alias', `tsnet:veth:${testEndpoint(1).id}`);
  reconciler.setDesired('endpoint', plain.endpointObjects(full, testEndpoint(1), null));
  await t.rejects(reconciler.settled('endpoint', 30_000), {
    code: 'ERR_PORTS_EXHAUSTED',
    details: { bridge, link: veth },
  });
  host.ip('link', 'del', 'a511');
  await waitFor(
    'the port is taken when one is free',
    () => host.ipJson('link', 'show', 'dev', veth)[0]?.['master'] === bridge,
  );
});

t.test('an endpoint whose link does not come is named when its time is over', async (t) => {
  const host = await newNetns(t, 'late');
  const reconciler = await startReconciler(t, host);
  reconciler.setDesired('network', driver.networkObjects(ctx));
  reconciler.setDesired('endpoint', driver.endpointObjects(ctx, testEndpoint(1), null));
  await reconciler.settled('network', 30_000);
  const veth = vethName(testEndpoint(1).id);
  await t.rejects(reconciler.settled('endpoint', 300), { code: 'ERR_DEADLINE', message: `waits for link ${veth}` });
});

t.test('a link that can only be made anew is, with all that was on it', async (t) => {
  const host = await newNetns(t, 'anew');
  const { log, lines } = newTestLog();
  const reconciler = await startReconciler(t, host, { log });
  reconciler.setDesired('network', driver.networkObjects(ctx));
  reconciler.setDesired('remote', driver.endpointObjects(ctx, testEndpoint(2), '198.18.0.2'));
  await reconciler.settled('remote', 30_000);
  const moved: Network = { ...testNetwork, vni: 8_388_999 };
  reconciler.setDesired('network', driver.networkObjects({ ...ctx, network: moved }));
  await reconciler.settled('network', 30_000);
  await waitFor(
    'the entries are back',
    () => host.bridge('fdb', 'show', 'dev', vxlan).includes('dst 198.18.0.2'),
    5000,
  );
  t.match(host.ipJson('link', 'show', 'dev', vxlan)[0], { linkinfo: { info_data: { id: 8_388_999 } }, master: bridge });
  t.match(
    lines.find(({ msg }) => msg === 'making a link anew'),
    { link: vxlan, reason: 'vni is 8388609, not 8388999' },
  );
});

t.test('a network takes over subnet and VNI of one that is removed at the same time', async (t) => {
  const host = await newNetns(t, 'heir');
  const reconciler = await startReconciler(t, host);
  reconciler.setDesired('old', driver.networkObjects(ctx));
  await reconciler.settled('old', 30_000);
  const heir: Network = { ...testNetwork, id: 'ffffffff' };
  reconciler.setDesired('heir', driver.networkObjects({ ...ctx, network: heir }));
  reconciler.setDesired('old', []);
  await waitFor(
    'the heir is there',
    async () => {
      await reconciler.settled('heir', 30_000);
      return true;
    },
    10_000,
  );
  await reconciler.settled('old', 30_000);
  t.match(host.ipJson('route'), [{ dst: '10.64.0.0/20', dev: bridgeName('ffffffff') }]);
  t.equal(host.ipJson('route').length, 1);
  t.notMatch(host.ip('link', 'show'), testNetwork.id);
});

t.test('the host has a link of its own beside its macvlan endpoints', async (t) => {
  const host = await newNetns(t, 'mac');
  const options = { parent: 'lan0', 'host-shim': 'true' };
  const network: Network = { ...testNetwork, driver: 'macvlan', vni: null, options, mtu: 1500 };
  const macvlan = driverOf('macvlan');
  const lan = { ...ctx, network };
  const reconciler = await startReconciler(t, host);
  reconciler.setDesired('network', macvlan.networkObjects(lan));
  await t.rejects(reconciler.settled('network', 30_000), { code: 'ERR_PARENT_UNKNOWN', details: { value: 'lan0' } });
  host.ip('link', 'add', 'lan0', 'type', 'bridge');
  host.ip('link', 'set', 'lan0', 'up');
  reconciler.setDesired('endpoint', macvlan.endpointObjects(lan, testEndpoint(1), null));
  await waitFor('the shim is there', () => host.ip('link', 'show').includes(macvlanShimName(network.id)));
  await waitFor('it settles', async () => {
    await reconciler.settled('network', 1000);
    await reconciler.settled('endpoint', 1000);
    return true;
  });
  const shim = macvlanShimName(network.id);
  t.match(host.ipJson('route', 'show', 'dev', shim), [{ dst: '10.64.1.5', prefsrc: '10.64.1.1' }]);
  t.match(host.ipJson('-6', 'route', 'show', 'proto', '84'), [
    { dst: 'fd00:64::1:5', dev: shim, prefsrc: 'fd00:64::1:1' },
  ]);
});
