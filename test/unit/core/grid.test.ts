import t from 'tap';
import { formatAddr, formatPrefix, parseAddr, parsePrefix } from '../../../core/addr.js';
import {
  blockAt,
  blockContaining,
  blockCount,
  blockIndex,
  blockLength,
  isCarvedBlock,
  isGridBlock,
  isUsable,
  newGrid,
  singleCidr,
  usableCount,
} from '../../../core/grid.js';

t.test('the grid grows with the subnet, with more blocks than addresses in one', (t) => {
  const shapes = [
    ['10.0.0.0/8', 23, 32768n],
    ['10.1.0.0/16', 26, 1024n],
    ['10.1.0.0/20', 28, 256n],
    ['10.1.0.0/24', 29, 32n],
    ['10.1.0.0/28', 31, 8n],
    ['10.1.0.0/29', 31, 4n],
    ['10.1.0.0/30', 32, 4n],
    ['10.1.0.0/32', 32, 1n],
    ['fd00::/64', 112, 1n << 48n],
    ['fd00::/48', 112, 1n << 64n],
    ['fd00::/120', 125, 32n],
  ] as const;
  for (const [text, length, count] of shapes) {
    const subnet = parsePrefix(text);
    t.equal(blockLength(subnet), length, text);
    t.equal(blockCount(subnet), count, text);
  }
  t.end();
});

t.test('blocks are found by position and by address', (t) => {
  const subnet = parsePrefix('10.1.0.0/24');
  t.equal(formatPrefix(blockAt(subnet, 0)), '10.1.0.0/29');
  t.equal(formatPrefix(blockAt(subnet, 31n)), '10.1.0.248/29');
  t.throws(() => blockAt(subnet, 32), RangeError);
  t.equal(formatPrefix(blockContaining(subnet, parseAddr('10.1.0.14'))), '10.1.0.8/29');
  t.equal(blockIndex(subnet, parseAddr('10.1.0.14')), 1n);
  t.equal(formatPrefix(blockAt(parsePrefix('fd00::/64'), (1n << 48n) - 1n)), 'fd00::ffff:ffff:ffff:0/112');
  t.equal(singleCidr(parseAddr('10.1.0.14')), '10.1.0.14/32');
  t.equal(singleCidr(parseAddr('fd00::e')), 'fd00::e/128');
  t.end();
});

t.test('network, broadcast, anycast and gateway addresses are reserved', (t) => {
  const reserved = (subnet: string, gateway: string | null): string[] =>
    newGrid({ subnet, gateway }).reserved.map(formatAddr);
  t.same(reserved('10.1.0.0/24', '10.1.0.1'), ['10.1.0.0', '10.1.0.255', '10.1.0.1']);
  t.same(reserved('10.1.0.0/24', null), ['10.1.0.0', '10.1.0.255']);
  t.same(reserved('10.1.0.0/31', '10.1.0.0'), ['10.1.0.0']);
  t.same(reserved('10.1.0.0/32', null), []);
  t.same(reserved('fd00::/64', 'fd00::1'), ['fd00::', 'fd00::1']);
  t.same(reserved('fd00::/127', 'fd00::1'), ['fd00::1']);
  t.end();
});

t.test('an address is usable inside subnet and range unless reserved', (t) => {
  const grid = newGrid({ subnet: '10.1.0.0/24', gateway: '10.1.0.129', range: '10.1.0.128/25' });
  const usable = (text: string): boolean => isUsable(grid, parseAddr(text));
  t.same(['10.1.0.130', '10.1.0.128', '10.1.0.254'].map(usable), [true, true, true]);
  t.same(['10.1.0.127', '10.1.0.129', '10.1.0.255', '10.1.1.1', 'fd00::1'].map(usable), [
    false,
    false,
    false,
    false,
    false,
  ]);
  t.end();
});

t.test('usable addresses are counted as they are told apart', (t) => {
  for (const subnet of [
    { subnet: '10.1.0.0/24', gateway: '10.1.0.1' },
    { subnet: '10.1.0.0/24', gateway: '10.1.0.7', range: '10.1.0.4/30' },
    { subnet: '10.1.0.0/24', gateway: null, range: '10.1.0.240/28' },
    { subnet: '10.1.0.0/30', gateway: '10.1.0.2' },
    { subnet: '10.1.0.0/31', gateway: '10.1.0.0' },
  ]) {
    const grid = newGrid(subnet);
    const base = parsePrefix('10.1.0.0/24');
    for (const part of [base, parsePrefix('10.1.0.0/29'), parsePrefix('10.1.0.248/29'), parsePrefix('10.1.0.4/32')]) {
      let count = 0n;
      for (let offset = 0n; offset < 1n << BigInt(32 - part.length); offset++) {
        if (isUsable(grid, { family: 4, value: part.base + offset })) count++;
      }
      t.equal(
        usableCount(grid, part),
        part === base && grid.prefix.length > 24 ? usableCount(grid) : count,
        JSON.stringify(subnet),
      );
    }
  }
  t.equal(usableCount(newGrid({ subnet: 'fd00::/64', gateway: 'fd00::1' })), (1n << 64n) - 2n);
  t.end();
});

t.test('a block record is a block of the grid or a single address', (t) => {
  const grid = newGrid({ subnet: '10.1.0.0/24', gateway: null });
  t.ok(isGridBlock(grid, parsePrefix('10.1.0.8/29')));
  t.notOk(isGridBlock(grid, parsePrefix('10.1.0.0/28')) || isGridBlock(grid, parsePrefix('10.2.0.0/29')));
  t.ok(isCarvedBlock(grid, parsePrefix('10.1.0.9/32')));
  t.notOk(isCarvedBlock(grid, parsePrefix('10.2.0.9/32')) || isCarvedBlock(grid, parsePrefix('10.1.0.8/29')));
  const tiny = newGrid({ subnet: '10.1.0.0/30', gateway: null });
  t.ok(isGridBlock(tiny, parsePrefix('10.1.0.1/32')));
  t.notOk(isCarvedBlock(tiny, parsePrefix('10.1.0.1/32')), 'where blocks are single addresses nothing is carved');
  t.end();
});
