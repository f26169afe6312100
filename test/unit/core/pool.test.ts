import t from 'tap';
import { newGrid } from '../../../core/grid.js';
import type { Block, Carve } from '../../../core/model.js';
import { AddressPool } from '../../../core/pool.js';
import { fails } from './error-check.js';

const grid = newGrid({ subnet: '10.1.0.0/24', gateway: '10.1.0.1' });
const blockOf = (cidr: string, carved: readonly string[] = [], generation = 1): Block => ({
  v: 1,
  generation,
  network: '0123abcd',
  cidr,
  host: 'node-1',
  carved,
});

const carveOf = (address: string | null, id = 'carve-1'): Pick<Carve, 'id' | 'address'> => ({ id, address });

const poolOf = (...cidrs: readonly string[]): AddressPool => {
  const pool = new AddressPool(grid, 1000);
  for (const cidr of cidrs) pool.addBlock(blockOf(cidr));
  return pool;
};

const drain = (pool: AddressPool, nowMs = 0): string[] => {
  const given: string[] = [];
  for (let addr = pool.allocate(nowMs); addr !== null; addr = pool.allocate(nowMs)) given.push(addr);
  return given;
};

t.test('a pool gives each usable address once, and none that is reserved', (t) => {
  const pool = poolOf('10.1.0.0/29', '10.1.0.248/29');
  t.same(pool.counts(0), { free: 13, used: 0, quarantined: 0 });
  const given = drain(pool);
  t.equal(new Set(given).size, 13);
  t.notOk(given.includes('10.1.0.0') || given.includes('10.1.0.1') || given.includes('10.1.0.255'));
  t.same(pool.counts(0), { free: 0, used: 13, quarantined: 0 });
  t.equal(new AddressPool(grid, 0).allocate(0), null, 'an empty pool gives none');
  t.end();
});

t.test('a released address rests and is then given last', (t) => {
  const pool = poolOf('10.1.0.8/29');
  t.equal(pool.allocate(0), '10.1.0.8');
  t.equal(pool.allocate(0), '10.1.0.9');
  t.ok(pool.release('10.1.0.8', 0));
  t.notOk(pool.release('10.1.0.8', 0), 'a second time nothing is released');
  t.notOk(pool.release('10.9.0.8', 0));
  t.same(pool.counts(999), { free: 6, used: 1, quarantined: 1 });
  t.same(pool.counts(1000), { free: 7, used: 1, quarantined: 0 });
  t.equal(pool.allocate(1000), '10.1.0.10', 'goes on after the last given');
  t.same(drain(pool, 1000), ['10.1.0.11', '10.1.0.12', '10.1.0.13', '10.1.0.14', '10.1.0.15', '10.1.0.8']);
  t.end();
});

t.test('an address in rest is never given before its time', (t) => {
  const pool = poolOf('10.1.0.8/29');
  drain(pool);
  pool.release('10.1.0.9', 500);
  t.equal(pool.allocate(1499), null);
  t.equal(pool.allocate(1500), '10.1.0.9');
  t.end();
});

t.test('a fixed address is taken also while it rests, but not twice and not when reserved', (t) => {
  const pool = poolOf('10.1.0.0/29');
  t.equal(pool.allocateFixed('10.1.0.5'), true);
  t.ok(pool.isUsed('10.1.0.5'));
  fails(t, 'ERR_ADDRESS_IN_USE', () => pool.allocateFixed('10.1.0.5'), '10.1.0.5');
  pool.release('10.1.0.5', 0);
  t.notOk(pool.isUsed('10.1.0.5'));
  t.equal(pool.allocateFixed('10.1.0.5'), true);
  t.same(pool.counts(5000), { free: 5, used: 1, quarantined: 0 }, 'its rest has ended for good');
  fails(t, 'ERR_ADDRESS_RESERVED', () => pool.allocateFixed('10.1.0.1'), '10.1.0.1');
  fails(t, 'ERR_ADDRESS_RESERVED', () => pool.allocateFixed('10.1.0.0'), '10.1.0.0');
  fails(t, 'ERR_ADDRESS_OUTSIDE_SUBNET', () => pool.allocateFixed('10.2.0.1'), '10.2.0.1', '10.1.0.0/24');
  t.equal(pool.allocateFixed('10.1.0.8'), false, 'in no block held here');
  t.end();
});

t.test('carved addresses are given to nobody, and come back with a newer record', (t) => {
  const pool = new AddressPool(grid, 0);
  pool.addBlock(blockOf('10.1.0.8/29', ['10.1.0.9', '10.1.0.10'], 5));
  t.equal(pool.allocateFixed('10.1.0.9'), false);
  const given = drain(pool);
  t.same(given, ['10.1.0.8', '10.1.0.11', '10.1.0.12', '10.1.0.13', '10.1.0.14', '10.1.0.15']);
  t.same(pool.addBlock(blockOf('10.1.0.8/29', [], 4)), [], 'an older record changes nothing');
  t.equal(pool.allocate(0), null);
  t.same(
    pool.addBlock(blockOf('10.1.0.8/29', ['10.1.0.9', '10.1.0.11'], 6)),
    ['10.1.0.11'],
    'a used address that is taken away',
  );
  t.equal(pool.allocate(0), '10.1.0.10');
  pool.release('10.1.0.11', 0);
  t.equal(pool.allocate(1), null, 'a carved address stays carved after its release');
  t.end();
});

t.test('an address given up for another host is withheld until the record says so', (t) => {
  const pool = poolOf('10.1.0.8/29');
  t.same(pool.carveOut(carveOf('10.1.0.9'), 0), { cidr: '10.1.0.8/29', address: '10.1.0.9' });
  t.same(
    pool.carveOut(carveOf('10.1.0.9'), 0),
    { cidr: '10.1.0.8/29', address: '10.1.0.9' },
    'a repeated request gets the same answer',
  );
  pool.addBlock(blockOf('10.1.0.8/29', [], 2));
  t.equal(pool.allocateFixed('10.1.0.9'), false, 'a record that came in between frees nothing');
  pool.addBlock(blockOf('10.1.0.8/29', ['10.1.0.9'], 3));
  t.equal(pool.carveOut(carveOf('10.1.0.9'), 0), null, "it is another host's by now");
  pool.withdrawOffer('10.1.0.9', 'carve-1');
  pool.addBlock(blockOf('10.1.0.8/29', [], 4));
  t.equal(pool.allocateFixed('10.1.0.9'), true);
  t.end();
});

t.test('an address given up for two carves is withheld until both are over', (t) => {
  const pool = poolOf('10.1.0.8/29');
  t.equal(pool.carveOut(carveOf('10.1.0.9', 'first'), 0)?.address, '10.1.0.9');
  t.equal(pool.carveOut(carveOf('10.1.0.9', 'second'), 0)?.address, '10.1.0.9');
  pool.addBlock(blockOf('10.1.0.8/29', ['10.1.0.9'], 2));
  pool.withdrawOffer('10.1.0.9', 'first');
  pool.addBlock(blockOf('10.1.0.8/29', [], 3));
  t.equal(pool.allocateFixed('10.1.0.9'), false, 'the first one gave it back, and the second may still get it');
  t.notOk(drain(pool).includes('10.1.0.9'));
  t.same(pool.addBlock(blockOf('10.1.0.8/29', ['10.1.0.9'], 4)), [], 'nobody here has to give it up');
  pool.withdrawOffer('10.1.0.9', 'second');
  pool.addBlock(blockOf('10.1.0.8/29', [], 5));
  t.equal(pool.allocateFixed('10.1.0.9'), true);
  t.end();
});

t.test('an offer that the journal remembers is held as long as its carve, carved or not', (t) => {
  const pool = poolOf('10.1.0.8/29');
  pool.addBlock(blockOf('10.1.0.8/29', ['10.1.0.9'], 2));
  pool.restoreOffer('10.1.0.9', 'carve-1');
  pool.restoreOffer('10.1.0.10', 'carve-2');
  pool.addBlock(blockOf('10.1.0.8/29', [], 3));
  t.equal(pool.allocateFixed('10.1.0.9'), false);
  t.equal(pool.allocateFixed('10.1.0.10'), false);
  pool.withdrawOffer('10.1.0.9', 'carve-1');
  pool.withdrawOffer('10.1.0.9', 'carve-1');
  t.equal(pool.allocateFixed('10.1.0.9'), true);
  t.same(pool.idleBlocks(0), [], 'a block with an offer is kept');
  t.end();
});

t.test('an offer that came to nothing is taken back', (t) => {
  const pool = poolOf('10.1.0.8/29');
  t.equal(pool.carveOut(carveOf('10.1.0.9'), 0)?.address, '10.1.0.9');
  pool.withdrawOffer('10.1.0.9', 'carve-1');
  t.equal(pool.allocateFixed('10.1.0.9'), true);
  t.equal(pool.carveOut(carveOf('10.1.0.9'), 0), null, 'one in use is not given up');
  t.equal(pool.carveOut(carveOf('10.1.0.200'), 0), null, 'nor one held elsewhere');
  pool.release('10.1.0.9', 0);
  t.equal(pool.carveOut(carveOf('10.1.0.9'), 0)?.address, '10.1.0.9', 'one at rest is, when asked for by name');
  t.end();
});

t.test('any free address comes from the block with most, far from where the next one is taken', (t) => {
  const pool = poolOf('10.1.0.8/29', '10.1.0.16/29');
  t.equal(pool.allocate(0), '10.1.0.8');
  t.same(pool.carveOut(carveOf(null), 0), { cidr: '10.1.0.16/29', address: '10.1.0.23' });
  const rest = drain(pool);
  t.equal(rest.length, 14);
  t.notOk(rest.includes('10.1.0.23'));
  t.equal(pool.carveOut(carveOf(null), 0), null);
  pool.release('10.1.0.9', 0);
  t.equal(pool.carveOut(carveOf(null), 999), null, 'one at rest is not free');
  t.equal(pool.carveOut(carveOf(null), 1000)?.address, '10.1.0.9');
  t.end();
});

t.test('singles are given and returned, but never carved', (t) => {
  const pool = poolOf('10.1.0.9/32');
  t.equal(pool.carveOut(carveOf(null), 0), null);
  t.equal(pool.carveOut(carveOf('10.1.0.9'), 0), null);
  t.equal(pool.allocate(0), '10.1.0.9');
  t.equal(pool.allocate(0), null);
  t.end();
});

t.test('a single inside a block held here too is given once', (t) => {
  const pool = new AddressPool(grid, 0);
  pool.addBlock(blockOf('10.1.0.9/32'));
  pool.addBlock(blockOf('10.1.0.8/29', ['10.1.0.9']));
  const given = drain(pool);
  t.equal(given.length, 8);
  t.equal(new Set(given).size, 8);
  t.ok(pool.release('10.1.0.9', 0));
  t.same(pool.removeBlock('10.1.0.9/32'), []);
  t.end();
});

t.test('a pool is low before its newest block is full', (t) => {
  const pool = new AddressPool(grid, 0);
  t.ok(pool.isLow(0), 'an empty one always');
  pool.addBlock(blockOf('10.1.0.8/29'));
  const minute = 60_000;
  for (let count = 0; count < 6; count++) pool.allocate(count * minute);
  t.notOk(pool.isLow(6 * minute), 'two of eight left');
  pool.allocate(6 * minute);
  t.ok(pool.isLow(7 * minute), 'one of eight left');
  pool.addBlock(blockOf('10.1.0.16/29'));
  t.notOk(pool.isLow(7 * minute));
  t.end();
});

t.test('a pool is low with less than was given out a moment ago, up to a sixteenth of its subnet', (t) => {
  const pool = new AddressPool(grid, 0);
  pool.addBlock(blockOf('10.1.0.8/29'));
  for (let count = 0; count < 5; count++) pool.allocate(0);
  t.ok(pool.isLow(0), 'three left after five');
  t.notOk(pool.isLow(20_000), 'which are enough when nobody asks for more');
  for (const block of ['10.1.0.16/29', '10.1.0.24/29', '10.1.0.32/29', '10.1.0.40/29', '10.1.0.48/29'])
    pool.addBlock(blockOf(block));
  for (let count = 0; count < 28; count++) pool.allocate(20_000);
  t.notOk(pool.isLow(20_000), 'fifteen left after 28: enough for a subnet of 254');
  pool.allocate(20_000);
  t.ok(pool.isLow(20_000));
  t.end();
});

t.test('blocks that nobody uses can be returned as long as enough stays', (t) => {
  const pool = poolOf('10.1.0.8/29', '10.1.0.16/29', '10.1.0.24/29', '10.1.0.40/32');
  t.equal(pool.allocate(0), '10.1.0.8');
  t.same(
    pool.idleBlocks(0).map(({ cidr }) => cidr),
    ['10.1.0.40/32', '10.1.0.24/29', '10.1.0.16/29'],
  );
  pool.allocateFixed('10.1.0.24');
  pool.release('10.1.0.24', 0);
  t.same(
    pool.idleBlocks(999).map(({ cidr }) => cidr),
    ['10.1.0.40/32', '10.1.0.16/29'],
    'not while an address rests',
  );
  t.equal(pool.idleBlocks(1000).length, 3);
  const lone = poolOf('10.1.0.8/29');
  t.same(lone.idleBlocks(0), [], 'the last block stays');
  t.end();
});

t.test('a block taken away names the addresses in use', (t) => {
  const pool = poolOf('10.1.0.8/29', '10.1.0.16/29');
  pool.allocate(0);
  pool.allocate(0);
  t.same(pool.removeBlock('10.1.0.8/29'), ['10.1.0.8', '10.1.0.9']);
  t.same(pool.removeBlock('10.1.0.8/29'), []);
  t.same(
    pool.held.map(({ cidr }) => cidr),
    ['10.1.0.16/29'],
  );
  t.equal(pool.allocate(0), '10.1.0.16');
  t.notOk(pool.release('10.1.0.8', 0));
  fails(t, 'ERR_ADDRESS_OUTSIDE_SUBNET', () => pool.addBlock(blockOf('10.2.0.8/29')), '10.2.0.8/29');
  fails(t, 'ERR_ADDRESS_OUTSIDE_SUBNET', () => pool.addBlock(blockOf('10.1.0.0/28')), '10.1.0.0/28');
  t.end();
});

t.test('the range limits what a block gives', (t) => {
  const ranged = newGrid({ subnet: '10.1.0.0/24', gateway: '10.1.0.1', range: '10.1.0.10/31' });
  const pool = new AddressPool(ranged, 0);
  pool.addBlock(blockOf('10.1.0.8/29'));
  pool.addBlock(blockOf('10.1.0.16/29'));
  t.same(drain(pool), ['10.1.0.10', '10.1.0.11']);
  fails(t, 'ERR_ADDRESS_OUTSIDE_SUBNET', () => pool.allocateFixed('10.1.0.12'), 'range', '10.1.0.10/31');
  t.end();
});

t.test('an IPv6 block of 65 536 addresses gives every one', (t) => {
  const v6 = newGrid({ subnet: 'fd00::/64', gateway: 'fd00::1' });
  const pool = new AddressPool(v6, 0);
  pool.addBlock(blockOf('fd00::/112'));
  t.equal(pool.counts(0).free, 65_534);
  t.equal(pool.allocate(0), 'fd00::2');
  const given = new Set(drain(pool));
  t.equal(given.size, 65_533);
  t.ok(given.has('fd00::ffff') && !given.has('fd00::') && !given.has('fd00::1'));
  pool.release('fd00::8000', 0);
  t.equal(pool.allocate(0), 'fd00::8000');
  t.end();
});
