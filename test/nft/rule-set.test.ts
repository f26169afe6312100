import { execFileSync } from 'node:child_process';
import t, { type Test } from 'tap';
import { NftAccess } from '../../agent/firewall/nft-access.js';
import { RuleSet } from '../../agent/firewall/rule-set.js';
import { portElements, type TableElement } from '../../core/nft/element.js';
import { newTable } from '../../core/nft/table.js';
import { newLogger } from '../../lib/log.js';
import { NftError } from '../../lib/nft/errors.js';
import { runNft } from '../../lib/nft/run.js';
import { replaceTable } from '../../lib/nft/transaction.js';
import { conntrackDelete, conntrackList, NETLINK_NETFILTER } from '../../lib/netlink/conntrack.js';
import { NetlinkConnection } from '../../lib/netlink/connection.js';
import { listenerList, NETLINK_SOCK_DIAG } from '../../lib/netlink/sock-diag.js';
import { waitFor } from '../lab/wait.js';
import { scratchNetns, type Scratch } from '../netlink/scratch.js';

const table = newTable({ vxlanPort: 4789 });
const path4 = { defaultRoutes: [4], isElsewhere: false } as const;

const ports = (first: number, count: number): TableElement[] =>
  Array.from({ length: count }, (_, index): TableElement => {
    return {
      set: index % 2 === 0 ? 'port4' : 'port6',
      key: `tcp . ${first + index}`,
      value: index % 2 === 0 ? '10.64.0.10 . 80' : 'fd00::10 . 80',
    };
  });

async function open(t: Test): Promise<{ scratch: Scratch; ruleSet: RuleSet; nft: (...args: string[]) => string }> {
  const scratch = await scratchNetns(t);
  const access = await NftAccess.open(scratch.native, { path: scratch.path });
  const ruleSet = new RuleSet({ access, log: newLogger('test', 'silent') });
  t.teardown(async () => {
    await ruleSet.close();
    await access.close();
  });
  const nft = (...args: string[]): string =>
    execFileSync('nsenter', [`--net=${scratch.path}`, 'nft', ...args], { encoding: 'utf8', maxBuffer: 2 ** 28 });
  return { scratch, ruleSet, nft };
}

const countPorts = (text: string): number => text.match(/tcp \. \d+ :/g)?.length ?? 0;

t.test('owners’ elements come and go, an element of two stays for the other', async (t) => {
  const { ruleSet, nft } = await open(t);
  ruleSet.setTable(table);
  const shared: TableElement = { set: 'vteps4', key: '198.18.0.12' };
  ruleSet.setElements('a', [shared, ...ports(1000, 4)]);
  ruleSet.setElements('b', [shared]);
  await ruleSet.settled();
  t.equal(countPorts(nft('list', 'table', 'inet', 'tsnet')), 4);
  ruleSet.setElements('a', []);
  await ruleSet.settled();
  t.equal(countPorts(nft('list', 'table', 'inet', 'tsnet')), 0);
  t.match(nft('list', 'set', 'inet', 'tsnet', 'vteps4'), /198\.18\.0\.12/);
  ruleSet.setElements('a', [{ set: 'port4', key: 'tcp . 80', value: '10.64.0.10 . 80' }]);
  await ruleSet.settled();
  ruleSet.setElements('a', [{ set: 'port4', key: 'tcp . 80', value: '10.64.0.11 . 80' }]);
  await ruleSet.settled();
  t.match(
    nft('list', 'map', 'inet', 'tsnet', 'port4'),
    /tcp \. 80 : 10\.64\.0\.11 \. 80/,
    'a changed value replaces the old one',
  );
  ruleSet.setElements('b', []);
  ruleSet.setTable(null);
  await ruleSet.settled();
  t.equal(nft('list', 'ruleset'), '', 'nothing is left');
});

t.test('20 000 ports in batches, whose own notifications are not taken for others’', async (t) => {
  const { ruleSet, nft } = await open(t);
  ruleSet.setTable(table);
  await ruleSet.settled();
  for (let owner = 0; owner < 20; owner++) ruleSet.setElements(`e${owner}`, ports(1 + owner * 1000, 1000));
  ruleSet.setElements(
    'range',
    portElements(
      {
        addresses: ['10.64.0.10'],
        ports: [
          { hostAddress: null, hostPort: 40_000, hostPortEnd: 49_999, port: 40_000, portEnd: 49_999, protocol: 'udp' },
        ],
      },
      path4,
    ),
  );
  await ruleSet.settled();
  t.equal(countPorts(nft('list', 'table', 'inet', 'tsnet')), 20_000);
  ruleSet.setElements('e3', []);
  ruleSet.setElements('one', [{ set: 'port4', key: 'udp . 53', value: '10.64.0.10 . 53' }]);
  await ruleSet.settled();
  t.equal(countPorts(nft('list', 'table', 'inet', 'tsnet')), 19_000);
  // Notifications come in order: when a later one of somebody else's is heard, all of our own have been judged.
  let heard = 0;
  ruleSet.onForeign(() => (heard += 1));
  nft('add', 'table', 'ip', 'other');
  await waitFor('a change by somebody else', () => heard > 0);
  await ruleSet.settled();
  t.equal(ruleSet.repairs, 0);
  nft('flush', 'ruleset');
  await waitFor(
    'all of it to be back',
    () => ruleSet.repairs === 1 && countPorts(nft('list', 'ruleset')) === 19_000,
    20_000,
  );
  t.equal(ruleSet.failure, null);
});

t.test('other tables are nobody’s business, and who changes them is heard', async (t) => {
  const { ruleSet, nft } = await open(t);
  let heard = 0;
  ruleSet.onForeign(() => (heard += 1));
  ruleSet.setTable(table);
  await ruleSet.settled();
  nft('add', 'table', 'ip', 'filter');
  nft('add', 'chain', 'ip', 'filter', 'FORWARD', '{ type filter hook forward priority 0; policy drop; }');
  await waitFor('both changes', () => heard >= 2);
  t.same(
    (await ruleSet.chains()).filter(({ table: name }) => name === 'filter'),
    [{ family: 'ip', table: 'filter', name: 'FORWARD', hook: 'forward', policy: 'drop' }],
  );
  t.equal(ruleSet.repairs, 0);
});

t.test('what nftables refuses is an error with its statement, and heals when it is taken back', async (t) => {
  const { scratch, ruleSet } = await open(t);
  const context = await scratch.native.nftOpen({ path: scratch.path });
  t.teardown(() => context.close());
  await t.rejects(runNft(context, 'add table inet x\nadd chain inet y z\n'), {
    name: 'NftError',
    statement: 'add chain inet y z',
  });
  t.equal((await context.run('list tables')).output, '', 'nothing of a refused transaction is applied');
  await t.rejects(runNft(context, 'nonsense'), NftError);
  const { script } = replaceTable({ ...table, sets: [], chains: [] }, ports(1, 4000));
  await t.rejects(runNft(context, script), { message: /add element inet tsnet port4/ });
  ruleSet.setTable(table);
  ruleSet.setElements('bad', [{ set: 'port4', key: 'tcp . 80', value: 'fd00::1 . 80' }]);
  await t.rejects(ruleSet.settled(), { code: 'ERR_KERNEL' });
  t.not(ruleSet.failure, null);
  ruleSet.setElements('bad', []);
  await ruleSet.settled();
  t.equal(ruleSet.failure, null);
});

t.test('listeners and flows of the host are told apart', async (t) => {
  const { scratch, nft } = await open(t);
  const netns = { path: scratch.path };
  scratch.ip('link', 'set', 'lo', 'up');
  nft('add', 'table', 'inet', 'x');
  nft('add', 'chain', 'inet', 'x', 'c', '{ type filter hook output priority 0; ct state new accept; }');
  const enter = (script: string): ReturnType<typeof execFileSync> =>
    execFileSync('nsenter', [`--net=${scratch.path}`, 'bash', '-c', script]);
  enter('echo x > /dev/udp/127.0.0.1/5001; echo x > /dev/udp/127.0.0.1/5002');
  const conntrack = await NetlinkConnection.open(scratch.native, { netns, protocol: NETLINK_NETFILTER });
  t.teardown(() => conntrack.close());
  const udp = { family: 4, protocol: 'udp' } as const;
  t.same((await conntrackList(conntrack, udp)).map(({ dst, dstPort }) => [dst, dstPort]).sort(), [
    ['127.0.0.1', 5001],
    ['127.0.0.1', 5002],
  ]);
  const one = await conntrackList(conntrack, { ...udp, dstPort: 5001 });
  t.equal(one.length, 1);
  t.equal(await conntrackDelete(conntrack, 4, one), 1);
  t.equal(await conntrackDelete(conntrack, 4, one), 0, 'again: it is gone, which is no error');
  t.same(
    (await conntrackList(conntrack, udp)).map(({ dstPort }) => dstPort),
    [5002],
  );
  t.same(await conntrackList(conntrack, { family: 6, protocol: 'tcp' }), []);
  const diag = await NetlinkConnection.open(scratch.native, { netns, protocol: NETLINK_SOCK_DIAG });
  t.teardown(() => diag.close());
  t.same(await listenerList(diag, 'tcp'), []);
  t.same(await listenerList(diag, 'sctp'), []);
});
