import t from 'tap';
import { driverOf } from '../../core/desired/drivers.js';
import { bridgeName, vethName, vxlanName } from '../../core/ids.js';
import { RTM_NEWLINK, RTM_SETLINK } from '../../lib/netlink/constants.js';
import { floodMac, type KernelObject } from '../../core/kernel.js';
import { quickest, waitFor } from '../lab/wait.js';
import {
  countingNative,
  newNetns,
  newTestLog,
  startReconciler,
  testCarrier,
  testContext,
  testEndpoint,
  testNetwork,
  type Netns,
} from './reconcile-fixture.js';

const driver = driverOf('overlay');
const ctx = testContext(1);
const bridge = bridgeName(testNetwork.id);
const vxlan = vxlanName(testNetwork.id);
const local = testEndpoint(1);
const remote = testEndpoint(2);
const veth = vethName(local.id);

const wanted: readonly KernelObject[] = [
  ...driver.networkObjects(ctx),
  ...driver.carrierObjects(ctx, testCarrier(2)),
  ...driver.endpointObjects(ctx, remote, '198.18.0.2'),
  ...driver.endpointObjects(ctx, local, null),
];

function addVeth(host: Netns): void {
  host.ip('link', 'add', veth, 'type', 'veth', 'peer', 'name', 'peer0');
  host.ip('link', 'set', veth, 'alias', `tsnet:veth:${local.id}`, 'up');
  host.ip('link', 'set', 'peer0', 'up');
}

/** Everything that a person would compare, without ages, counters and ifindexes. */
function snapshot(host: Netns): string {
  const addrs = host
    .ip('-o', 'addr', 'show', 'dev', bridge)
    .replaceAll(/^\d+: /gm, '')
    .replaceAll(/ tentative|fe80:.*/g, '');
  const links = [bridge, vxlan, veth].map((link) => {
    const [found] = host.ipJson('link', 'show', 'dev', link);
    return [
      link,
      found?.['master'],
      found?.['ifalias'],
      found?.['mtu'],
      found?.['address'],
      (found?.['flags'] as string[]).includes('UP'),
    ].join(' ');
  });
  const settings = [vxlan, veth].map((link) => {
    const linkinfo = host.ipJson('link', 'show', 'dev', link)[0]?.['linkinfo'] as Record<
      string,
      Record<string, unknown>
    >;
    const port = linkinfo['info_slave_data'];
    return `${link} ${String(port?.['learning'])} ${String(port?.['neigh_suppress'])}`;
  });
  const routes = host.ip('route') + host.ip('-6', 'route', 'show', 'proto', '84');
  const neighs = host.ip('neigh', 'show', 'nud', 'permanent');
  const fdb = host
    .bridge('fdb', 'show')
    .split('\n')
    .filter((line) => line.includes('tsx-') || line.includes(`${veth} master`));
  const sorted = [addrs, routes, neighs, fdb.join('\n')].map((text) =>
    text
      .split('\n')
      .map((line) => line.trim())
      .filter(Boolean)
      .sort()
      .join('\n'),
  );
  return [...links, ...settings, ...sorted].join('\n').replaceAll(/ secondary| linkdown| dead| state \S+/g, '');
}

t.test('changes from outside are repaired within two seconds, each by its event', async (t) => {
  const host = await newNetns(t, 'fix');
  const { log, lines } = newTestLog();
  addVeth(host);
  const reconciler = await startReconciler(t, host, { log });
  reconciler.setDesired('all', wanted);
  await reconciler.settled('all', 30_000);
  const right = snapshot(host);

  const damages: readonly (readonly [name: string, tool: 'ip' | 'bridge', ...args: string[]])[] = [
    ['a deleted VXLAN device', 'ip', 'link', 'del', vxlan],
    ['a deleted bridge', 'ip', 'link', 'del', bridge],
    ['a bridge set down', 'ip', 'link', 'set', bridge, 'down'],
    ['a VXLAN device set down', 'ip', 'link', 'set', vxlan, 'down'],
    ['a port taken out of its bridge', 'ip', 'link', 'set', veth, 'nomaster'],
    ['another MTU', 'ip', 'link', 'set', bridge, 'mtu', '1400'],
    ['another MAC', 'ip', 'link', 'set', bridge, 'address', '02:00:00:00:00:99'],
    ['learning switched on at a port', 'bridge', 'link', 'set', 'dev', vxlan, 'learning', 'on'],
    ['suppression switched off at a port', 'ip', 'link', 'set', vxlan, 'type', 'bridge_slave', 'neigh_suppress', 'off'],
    ['snooping switched on', 'ip', 'link', 'set', bridge, 'type', 'bridge', 'mcast_snooping', '1'],
    ['a spanning tree switched on', 'ip', 'link', 'set', bridge, 'type', 'bridge', 'stp_state', '1'],
    ['a deleted IPv4 address', 'ip', 'addr', 'del', '10.64.1.1/20', 'dev', bridge],
    ['a deleted IPv6 address', 'ip', 'addr', 'del', 'fd00:64::1:1/64', 'dev', bridge],
    [
      'a gateway address that is preferred',
      'ip',
      'addr',
      'change',
      'fd00:64::1/64',
      'dev',
      bridge,
      'preferred_lft',
      'forever',
      'nodad',
      'noprefixroute',
    ],
    ['a deleted IPv4 route', 'ip', 'route', 'del', '10.64.0.0/20'],
    ['a deleted IPv6 route', 'ip', 'route', 'del', 'fd00:64::/64', 'dev', bridge],
    ['a deleted neighbour', 'ip', 'neigh', 'del', '10.64.2.5', 'dev', bridge],
    [
      'a neighbour with another MAC',
      'ip',
      'neigh',
      'replace',
      'fd00:64::2:5',
      'lladdr',
      '02:00:00:00:00:98',
      'dev',
      bridge,
      'nud',
      'permanent',
    ],
    ['a deleted entry of a port', 'bridge', 'fdb', 'del', remote.mac, 'dev', vxlan, 'master'],
    ['an entry that leads to another port', 'bridge', 'fdb', 'replace', local.mac, 'dev', vxlan, 'master', 'static'],
    ['a deleted VTEP of a MAC', 'bridge', 'fdb', 'del', remote.mac, 'dev', vxlan, 'self'],
    [
      'another VTEP of a MAC',
      'bridge',
      'fdb',
      'replace',
      remote.mac,
      'dev',
      vxlan,
      'dst',
      '198.18.0.9',
      'self',
      'permanent',
    ],
    ['a deleted flood entry', 'bridge', 'fdb', 'del', floodMac, 'dev', vxlan, 'dst', '198.18.0.2', 'self'],
  ];
  for (const [name, tool, ...args] of damages) {
    let repairs = 0;
    const repair = async (): Promise<number> => {
      // Nothing of the repair before may be under way: what is told of then could be an echo of it.
      await reconciler.audit();
      ({ repairs } = reconciler.status());
      host[tool](...args);
      const startedMs = performance.now();
      // While the test looks it holds up the reconciler, which shares its thread.
      let lookedMs = 0;
      const isRight = (): boolean => {
        const sinceMs = performance.now();
        const same = snapshot(host) === right;
        lookedMs += performance.now() - sinceMs;
        return same;
      };
      await waitFor(`${name} is repaired`, isRight);
      await waitFor('it is counted', () => reconciler.status().repairs > repairs);
      return performance.now() - startedMs - lookedMs;
    };
    try {
      const tookMs = await quickest(2000, repair);
      t.ok(tookMs < 2000, `${name} is repaired and counted (${Math.round(tookMs)} ms)`);
    } catch {
      t.equal(snapshot(host), right, name);
      t.not(reconciler.status().repairs, repairs, `${name} is counted`);
      await reconciler.audit();
    }
  }
  t.same(reconciler.status().failing, [], 'nothing fails');
  t.ok(
    lines.some(({ msg, level }) => msg === 'repaired a change from outside' && level === 30),
    'repairs are in the log',
  );
});

t.test('a restart sends nothing for what is right', async (t) => {
  const host = await newNetns(t, 'again');
  addVeth(host);
  const first = await startReconciler(t, host);
  first.setDesired('all', wanted);
  await first.settled('all', 30_000);
  first.close();
  const right = snapshot(host);

  const counting = countingNative();
  const second = await startReconciler(t, host, { native: counting.native });
  second.setDesired('all', wanted);
  await second.settled('all', 30_000);
  second.prune();
  await second.audit();
  t.same(counting.sent, [], 'no request that changes anything');
  t.equal(snapshot(host), right);
  t.equal(second.status().repairs, 0);

  second.setDesired('more', driver.endpointObjects(ctx, testEndpoint(2, 6), '198.18.0.2'));
  await second.settled('more', 30_000);
  t.equal(counting.sent.length, 4, 'one endpoint more costs its four objects');
  t.equal(counting.sends(), 1, 'in one send');
});

t.test('a link is marked by the same send that creates it', async (t) => {
  const host = await newNetns(t, 'mark');
  const { native, datagrams } = countingNative();
  const reconciler = await startReconciler(t, host, { native });
  reconciler.setDesired('network', driver.networkObjects(ctx));
  await reconciler.settled('network', 30_000);
  t.same(
    datagrams[0],
    [RTM_NEWLINK, RTM_SETLINK, RTM_NEWLINK, RTM_SETLINK],
    'bridge, its mark, VXLAN device, its mark',
  );
  t.equal(datagrams.length, 2, 'everything else in a second one');
});

t.test('a fight with another program is reported and not fought at full speed', async (t) => {
  const host = await newNetns(t, 'fight');
  const reconciler = await startReconciler(t, host);
  reconciler.setDesired('network', driver.networkObjects(ctx));
  reconciler.setDesired('remote', driver.endpointObjects(ctx, remote, '198.18.0.2'));
  await reconciler.settled('remote', 30_000);
  const isThere = (): boolean => host.ip('neigh', 'show', 'nud', 'permanent').includes('10.64.2.5');
  await waitFor('it is given up for a while', async () => {
    if (isThere()) host.ip('neigh', 'del', '10.64.2.5', 'dev', bridge);
    return reconciler.status().failing.some(({ message }) => message.includes('keeps changing it'));
  });
  await waitFor(
    'it is there again when the other gives up',
    () => isThere() && reconciler.status().failing.length === 0,
  );
  t.ok(reconciler.status().repairs >= 8);
});

t.test('the audit finds what no notification tells of', async (t) => {
  const host = await newNetns(t, 'audit');
  const reconciler = await startReconciler(t, host);
  reconciler.setDesired('network', driver.networkObjects(ctx));
  await reconciler.settled('network', 30_000);
  reconciler.prune();
  host.exec('sysctl', '-q', '-w', `net.ipv6.conf.${bridge}.accept_ra=2`);
  host.bridge('fdb', 'append', '02:00:00:00:00:77', 'dev', vxlan, 'dst', '198.18.0.7', 'self', 'permanent');
  host.ip('neigh', 'add', '10.64.9.9', 'lladdr', '02:00:00:00:00:77', 'dev', bridge, 'nud', 'permanent');
  await reconciler.audit();
  t.equal(host.exec('sysctl', '-n', `net.ipv6.conf.${bridge}.accept_ra`).trim(), '0');
  t.notMatch(
    host.bridge('fdb', 'show', 'dev', vxlan),
    '02:00:00:00:00:77',
    'an entry of our device that nobody wants is gone',
  );
  t.match(host.ip('neigh'), '10.64.9.9', 'a neighbour without our mark stays');
  t.equal(reconciler.status().repairs, 1);
});

t.test('what nobody wants any more after a restart is removed, not before prune', async (t) => {
  const host = await newNetns(t, 'prune');
  addVeth(host);
  host.ip('link', 'add', 'foreign0', 'type', 'bridge');
  const first = await startReconciler(t, host);
  first.setDesired('all', wanted);
  await first.settled('all', 30_000);
  first.close();

  const second = await startReconciler(t, host);
  second.setDesired('network', driver.networkObjects(ctx));
  await second.settled('network', 30_000);
  t.match(host.bridge('fdb', 'show', 'dev', vxlan), remote.mac, 'before');
  second.prune();
  await waitFor('the entries are gone', () => !host.bridge('fdb', 'show', 'dev', vxlan).includes(remote.mac));
  t.notMatch(host.ip('neigh'), '10.64.2.5');
  second.setDesired('network', []);
  await waitFor('the links are gone', () => !host.ip('link', 'show').includes(testNetwork.id));
  t.match(host.ip('link', 'show'), 'foreign0', 'a link without our mark stays');
  t.match(host.ip('link', 'show'), veth, 'a link of an endpoint stays');
});

t.test('lost notifications lead to a full comparison', async (t) => {
  const host = await newNetns(t, 'lost');
  addVeth(host);
  const { log, lines } = newTestLog();
  const { native } = countingNative();
  let loseAll = false;
  let report: (() => void) | undefined;
  const lossy = {
    ...native,
    netlinkOpen: (options: Parameters<typeof native.netlinkOpen>[0]) => {
      if (options.groups === undefined) return native.netlinkOpen(options);
      report = () =>
        options.onError(
          Object.assign(new Error('no buffer space'), { code: 'ENOBUFS', errno: 105, syscall: 'recvmsg' }),
        );
      return native.netlinkOpen({
        ...options,
        onMessage: (datagram) => (loseAll ? undefined : options.onMessage(datagram)),
      });
    },
  };
  const reconciler = await startReconciler(t, host, { native: lossy, log });
  reconciler.setDesired('all', wanted);
  await reconciler.settled('all', 30_000);
  const right = snapshot(host);
  loseAll = true;
  host.ip('neigh', 'del', '10.64.2.5', 'dev', bridge);
  host.ip('link', 'del', vxlan);
  loseAll = false;
  await new Promise((resolve) => setImmediate(resolve));
  report?.();
  await waitFor('all is repaired', () => snapshot(host) === right, 30_000);
  t.ok(
    lines.some(({ msg }) => String(msg).startsWith('netlink notifications were lost')),
    'the loss is in the log',
  );
});
