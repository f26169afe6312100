import { execFileSync } from 'node:child_process';
import t, { type Test } from 'tap';
import { ElementStore } from '../../agent/firewall/element-store.js';
import { NftAccess } from '../../agent/firewall/nft-access.js';
import { RuleSet } from '../../agent/firewall/rule-set.js';
import { isQuickerLoaded } from '../../agent/firewall/slow-removal.js';
import { portElements, type TableElement } from '../../core/nft/element.js';
import { newTable } from '../../core/nft/table.js';
import { newLogger } from '../../lib/log.js';
import { errnoNumber } from '../../lib/netlink/errno.js';
import { NetlinkError } from '../../lib/netlink/errors.js';
import { runNft } from '../../lib/nft/run.js';
import { NftTransactions } from '../lab/nft-transactions.js';
import { waitFor } from '../lab/wait.js';
import { scratchNetns } from '../netlink/scratch.js';

const table = newTable({ vxlanPort: 4789 });
const path4 = { defaultRoutes: [4], isElsewhere: false } as const;

async function open(t: Test) {
  const scratch = await scratchNetns(t);
  const access = await NftAccess.open(scratch.native, { path: scratch.path });
  const ruleSet = new RuleSet({ access, log: newLogger('test', 'silent') });
  const other = await scratch.native.nftOpen({ path: scratch.path });
  t.teardown(async () => {
    await ruleSet.close();
    await access.close();
    await other.close();
  });
  const list = (...what: string[]): string =>
    execFileSync('nsenter', [`--net=${scratch.path}`, 'nft', 'list', ...what], {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
  return { access, ruleSet, other, list, path: scratch.path };
}

/** Ranges of two ports each, one beside the other, which keep their numbers. */
function ranges(first: number, count: number, hostAddress: string | null): TableElement[] {
  const ports = Array.from({ length: count }, (_, index) => {
    const [hostPort, hostPortEnd] = [first + 2 * index, first + 2 * index + 1];
    return { hostAddress, hostPort, hostPortEnd, port: hostPort, portEnd: hostPortEnd, protocol: 'udp' } as const;
  });
  return portElements({ addresses: [`10.64.0.${first % 200}`], ports }, path4);
}

const countRanges = (text: string): number => text.match(/\d+-\d+ :/g)?.length ?? 0;

for (const [what, hostAddress, set, isLoaded] of [
  ['on all addresses', null, 'range-udp4', false],
  // Ranges in a part of several: removed one by one they take the kernel more than ten seconds.
  ['on one address', '198.18.0.11', 'range-at4', true],
] as const) {
  t.test(`a thousand ranges ${what} go at once, beside thousands that stay`, async (t) => {
    const { ruleSet, list, path } = await open(t);
    ruleSet.setTable(table);
    ruleSet.setElements('others', ranges(1, 3000, hostAddress));
    ruleSet.setElements('own', ranges(6001, 1000, hostAddress));
    await ruleSet.settled();
    t.equal(countRanges(list('map', 'inet', 'tsnet', set)), 4000);
    const transactions = await NftTransactions.watch(path);
    t.teardown(() => transactions.close());
    ruleSet.setElements('own', []);
    await ruleSet.settled();
    await waitFor('the kernel to say so', () => transactions.all.length > 0);
    const [changes = []] = transactions.all;
    t.equal(transactions.all.length, 1, 'in one transaction');
    t.equal(changes.includes('delete table inet tsnet'), isLoaded, 'by a load where that is quicker');
    const left = list('map', 'inet', 'tsnet', set);
    t.equal(countRanges(left), 3000);
    for (const range of ['1-2', '5999-6000']) t.match(left, new RegExp(`\\b${range} : 10\\.64\\.0\\.1\\b`), range);
    t.notMatch(left, /6001-6002/);
    ruleSet.setElements('own', ranges(6001, 1, hostAddress));
    await ruleSet.settled();
    t.equal(countRanges(list('map', 'inet', 'tsnet', set)), 3001, 'and it goes on from there');
    t.equal(ruleSet.repairs, 0);
    t.equal(ruleSet.failure, null);
  });
}

t.test('a table is loaded anew only where that is quicker', (t) => {
  const quicker = (set: string, removed: number, left: number, all = left): boolean =>
    isQuickerLoaded(
      table,
      Array.from({ length: removed }, (_, index) => ({ set, key: String(index) })),
      (counted) => (counted === undefined ? all : left),
    );
  t.ok(quicker('range-at4', 1000, 3000));
  t.notOk(quicker('range-at4', 1, 50_000), 'one goes quickly enough');
  t.notOk(quicker('range-at4', 100, 100), 'of few each goes quickly');
  t.notOk(quicker('range-at4', 100, 1000, 100_000), 'a large table is slow to load');
  t.notOk(quicker('range-udp4', 1000, 3000), 'ranges of one part go quickly');
  t.notOk(quicker('port4', 20_000, 20_000), 'so do single ports');
  t.end();
});

t.test('of owners that want different values for a key the last wins, and the other’s comes back', (t) => {
  const store = new ElementStore();
  const element = (value: string): TableElement => ({ set: 'port4', key: 'tcp . 80', value });
  const applied = (): unknown => {
    const { gone, come } = store.takeChanges();
    return [gone.map(({ value }) => value), come.map(({ value }) => value)];
  };
  store.replace('a', [element('10.64.0.1 . 80')]);
  store.replace('b', [element('10.64.0.2 . 80')]);
  t.same(applied(), [[], ['10.64.0.2 . 80']]);
  store.replace('b', []);
  t.same(applied(), [['10.64.0.2 . 80'], ['10.64.0.1 . 80']]);
  store.replace('b', [element('10.64.0.1 . 80')]);
  t.same(applied(), [[], []], 'the same value is no change');
  store.replace('a', []);
  t.same(applied(), [[], []], 'nor is that one of two goes');
  store.replace('b', []);
  t.same(applied(), [['10.64.0.1 . 80'], []]);
  t.end();
});

t.test('while others change their tables, each change of ours is applied, and theirs stay as they are', async (t) => {
  const { ruleSet, other, list } = await open(t);
  await runNft(other, 'add table inet filter\nadd chain inet filter kept { type filter hook input priority 0; }\n');
  await runNft(other, 'add rule inet filter kept tcp dport 22 counter packets 7 bytes 420 accept comment "mine"\n');
  const before = list('table', 'inet', 'filter');
  ruleSet.setTable(table);
  await ruleSet.settled();
  let isOver = false;
  const others = (async () => {
    let count = 0;
    for (; !isOver; count += 1)
      await runNft(other, `add table ip crowd\nadd chain ip crowd c${count}\nadd rule ip crowd c${count} counter\n`);
    return count;
  })();
  for (let round = 0; round < 100; round++) {
    ruleSet.setElements('own', ranges(1 + round * 30, 5, round % 2 === 0 ? null : '198.18.0.11'));
    await ruleSet.settled();
  }
  ruleSet.setTable(null);
  await ruleSet.settled();
  ruleSet.setTable(table);
  await ruleSet.settled();
  isOver = true;
  t.ok((await others) > 0, 'they did change');
  t.equal(countRanges(list('table', 'inet', 'tsnet')), 5);
  t.equal(list('table', 'inet', 'filter'), before, 'counters and comments included');
  t.equal(ruleSet.repairs, 0);
});

t.test(
  'a transaction that the kernel had no memory for is made up for by a load, unnoticed by the caller',
  async (t) => {
    for (const code of ['ENOBUFS', 'EAGAIN', 'ENOENT'] as const) {
      const { access, ruleSet, list } = await open(t);
      ruleSet.setTable(table);
      await ruleSet.settled();
      const { connection } = access;
      const transaction = connection.transaction.bind(connection);
      let refused = 0;
      connection.transaction = (...args): Promise<void> => {
        refused += 1;
        if (refused > 1) return transaction(...args);
        return Promise.reject(new NetlinkError({ errno: errnoNumber(code) ?? 0, request: 'a test' }));
      };
      ruleSet.setElements('own', ranges(1, 100, null));
      await ruleSet.settled();
      t.equal(refused > 0, true);
      t.equal(countRanges(list('map', 'inet', 'tsnet', 'range-udp4')), 100, code);
      t.equal(ruleSet.failure, null);
    }
  },
);

t.test(
  'a touch by others is mended once, at the end of their transaction, and one in the midst of ours too',
  async (t) => {
    const { ruleSet, other, list } = await open(t);
    ruleSet.setTable(table);
    ruleSet.setElements('own', ranges(1, 1000, null));
    await ruleSet.settled();
    await runNft(other, 'flush ruleset\nadd table inet filter\nadd chain inet filter theirs\n');
    await waitFor('the table to be back', () => ruleSet.repairs > 0 && countRanges(list('ruleset')) === 1000, 20_000);
    t.match(list('ruleset'), /chain theirs/, 'what they made instead stays');
    // Notifications come in order: when this one is heard, all of the other's have been judged.
    let heard = 0;
    ruleSet.onForeign(() => (heard += 1));
    await runNft(other, 'add table ip later\n');
    await waitFor('it to be heard', () => heard > 0);
    await ruleSet.settled();
    t.equal(ruleSet.repairs, 1);
    for (let round = 0; round < 5; round++) {
      const changing = (async () => {
        ruleSet.setElements('more', ranges(20_001 + round * 600, 200, null));
        await ruleSet.settled();
      })();
      await Promise.all([changing, runNft(other, 'add table inet tsnet\ndelete table inet tsnet\n')]);
    }
    await waitFor('the last of them to be mended', () => countRanges(list('ruleset')) === 1200, 20_000);
    t.equal(ruleSet.failure, null);
  },
);
