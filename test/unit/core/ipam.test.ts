import t from 'tap';
import { newGrid } from '../../../core/grid.js';
import { planRefill } from '../../../core/ipam-refill.js';
import { planHostRemoval, planRelease } from '../../../core/ipam-return.js';
import { heldCount, planBlock, planCarved } from '../../../core/ipam.js';
import type { BlockPlan, BlockQuestion } from '../../../core/ipam.js';
import type { Block } from '../../../core/model.js';
import { fails } from './error-check.js';

const network = { id: '0123abcd', name: 'frontend' };
const grid = newGrid({ subnet: '10.1.0.0/28', gateway: '10.1.0.1' });
const grids = [grid];

const blockOf = (cidr: string, host: string | null, carved: readonly string[] = [], generation = 1): Block => ({
  v: 1,
  generation,
  network: network.id,
  cidr,
  host,
  carved,
});

/** All eight blocks of the subnet: a has four, b three, c one. */
const full = ['a', 'a', 'a', 'a', 'b', 'b', 'b', 'c'].map((host, index) => blockOf(`10.1.0.${index * 2}/31`, host));

const ask = (host: string, blocks: readonly Block[], rest: Partial<BlockQuestion> = {}): BlockPlan =>
  planBlock({ network, grid, blocks, nextGeneration: 7, host, ...rest });

t.test('a free block is granted with a generation from the counter', (t) => {
  const plan = ask('a', []);
  t.match(plan, {
    kind: 'grant',
    nextGeneration: 8,
    block: { host: 'a', generation: 7, carved: [], network: network.id },
  });
  t.not(plan.kind === 'grant' && plan.block.cidr, '10.1.0.0/31', 'not the one with reserved addresses alone');
  t.match(ask('a', [blockOf('10.1.0.2/31', 'b', [], 40)]), { nextGeneration: 42 }, 'never behind a record');
  t.end();
});

t.test('each free block is found, wherever a host begins to look', (t) => {
  for (const host of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']) {
    for (let missing = 1; missing < 8; missing++) {
      const plan = ask(
        host,
        full.filter((_, index) => index !== missing),
      );
      t.match(plan, { kind: 'grant', block: { cidr: `10.1.0.${missing * 2}/31` } });
    }
  }
  t.end();
});

t.test('an ownerless block is granted with its carvings when no free one is left', (t) => {
  const blocks = [...full.slice(0, 7), blockOf('10.1.0.14/31', null, ['10.1.0.14']), blockOf('10.1.0.14/32', 'd')];
  fails(t, 'ERR_ADDRESS_EXHAUSTED', () => ask('e', blocks, { isAhead: true }), 'frontend');
  const open = [
    ...full.slice(0, 6),
    blockOf('10.1.0.12/31', null, ['10.1.0.12']),
    full[7] ?? blockOf('10.1.0.14/31', 'c'),
  ];
  t.match(ask('e', open), { kind: 'grant', block: { cidr: '10.1.0.12/31', carved: ['10.1.0.12'] } });
  t.end();
});

t.test('in a full subnet one address is taken from the largest share, never from who asks', (t) => {
  t.match(ask('d', full), { kind: 'carve', owner: 'a', address: null });
  t.match(ask('a', full), { kind: 'carve', owner: 'b', address: null });
  t.match(ask('d', full, { refusedBy: new Set(['a']) }), { kind: 'carve', owner: 'b' });
  fails(
    t,
    'ERR_ADDRESS_EXHAUSTED',
    () => ask('d', full, { refusedBy: new Set(['a', 'b', 'c']) }),
    'frontend',
    '10.1.0.0/28',
    '13 used',
    '0 free',
  );
  fails(t, 'ERR_ADDRESS_EXHAUSTED', () => ask('d', full, { isAhead: true }), 'no block left');
  t.equal(heldCount(grid, full), 13);
  t.end();
});

t.test("a fixed address in nobody's block is granted alone", (t) => {
  t.match(ask('a', [], { address: '10.1.0.5' }), {
    kind: 'grant',
    block: { cidr: '10.1.0.5/32', host: 'a', generation: 7 },
    put: [{ cidr: '10.1.0.5/32' }, { cidr: '10.1.0.4/31', host: null, carved: ['10.1.0.5'], generation: 8 }],
    nextGeneration: 9,
  });
  t.end();
});

t.test("a fixed address in a block is its owner's, or must be given up by the owner", (t) => {
  t.match(ask('a', full, { address: '10.1.0.3' }), { kind: 'yours', block: { cidr: '10.1.0.2/31' } });
  t.same(ask('c', full, { address: '10.1.0.3' }), {
    kind: 'carve',
    owner: 'a',
    cidr: '10.1.0.2/31',
    address: '10.1.0.3',
  });
  const carved = [blockOf('10.1.0.2/31', 'a', ['10.1.0.3']), blockOf('10.1.0.3/32', 'b')];
  t.match(ask('b', carved, { address: '10.1.0.3' }), { kind: 'yours', block: { cidr: '10.1.0.3/32' } });
  fails(t, 'ERR_ADDRESS_IN_USE', () => ask('a', carved, { address: '10.1.0.3' }), '10.1.0.3', 'host b');
  fails(t, 'ERR_ADDRESS_IN_USE', () => ask('c', carved, { address: '10.1.0.3' }), 'host b');
  fails(t, 'ERR_ADDRESS_IN_USE', () => ask('c', carved.slice(0, 1), { address: '10.1.0.3' }), 'another host');
  fails(t, 'ERR_ADDRESS_IN_USE', () => ask('c', carved.slice(1), { address: '10.1.0.3' }), 'host b');
  t.end();
});

t.test('a fixed address that the subnet cannot give is refused', (t) => {
  const ranged = newGrid({ subnet: '10.1.0.0/24', gateway: '10.1.0.1', range: '10.1.0.128/25' });
  for (const address of ['10.1.0.0', '10.1.0.1', '10.1.0.15']) {
    fails(t, 'ERR_ADDRESS_RESERVED', () => ask('a', [], { address }), address);
  }
  fails(t, 'ERR_ADDRESS_OUTSIDE_SUBNET', () => ask('a', [], { address: '10.1.0.16' }), '10.1.0.16', '10.1.0.0/28');
  fails(t, 'ERR_ADDRESS_OUTSIDE_SUBNET', () => ask('a', [], { address: 'fd00::1' }), 'fd00::1');
  fails(t, 'ERR_ADDRESS_OUTSIDE_SUBNET', () => ask('a', [], { grid: ranged, address: '10.1.0.16' }), '10.1.0.128/25');
  fails(t, 'ERR_INVALID_ADDRESS', () => ask('a', [], { address: 'x' }), 'x');
  t.end();
});

t.test("an address given up goes to the host that asked, while the block is still its owner's", (t) => {
  const gift = { network, grid, blocks: full, nextGeneration: 7, host: 'd', owner: 'a', address: '10.1.0.3' };
  t.match(planCarved(gift), {
    kind: 'grant',
    put: [
      { cidr: '10.1.0.3/32', host: 'd' },
      { cidr: '10.1.0.2/31', host: 'a', carved: ['10.1.0.3'] },
    ],
  });
  fails(t, 'ERR_STORE_CONFLICT', () => planCarved({ ...gift, owner: 'b' }), '10.1.0.2/31', 'b');
  fails(t, 'ERR_ADDRESS_RESERVED', () => planCarved({ ...gift, address: '10.1.0.1' }));
  const again = [blockOf('10.1.0.2/31', 'a', ['10.1.0.3']), blockOf('10.1.0.3/32', 'd')];
  t.match(planCarved({ ...gift, blocks: again }), { kind: 'yours' });
  fails(t, 'ERR_ADDRESS_IN_USE', () => planCarved({ ...gift, blocks: again, host: 'e' }), 'host d');
  t.end();
});

t.test('a block returned leaves its record only for carvings', (t) => {
  const release = (blocks: readonly Block[], cidr: string, host = 'a', generation = 1) =>
    planRelease({ network, blocks, nextGeneration: 7, grids, host, cidr, generation });
  const whole = blockOf('10.1.0.2/31', 'a');
  t.match(release([whole], whole.cidr), { put: [], remove: [whole] });
  const carved = blockOf('10.1.0.2/31', 'a', ['10.1.0.3']);
  const single = blockOf('10.1.0.3/32', 'b');
  t.match(release([carved, single], carved.cidr), {
    put: [{ host: null, carved: ['10.1.0.3'], generation: 7 }],
    remove: [],
  });
  t.match(release([carved, single], single.cidr, 'b'), {
    put: [{ host: 'a', carved: [], generation: 7 }],
    remove: [single],
  });
  const ownerless = blockOf('10.1.0.2/31', null, ['10.1.0.3']);
  t.same(release([ownerless, single], single.cidr, 'b').put, []);
  t.same(release([ownerless, single], single.cidr, 'b').remove, [single, ownerless]);
  t.match(release([], whole.cidr), { put: [], remove: [], nextGeneration: 7 }, 'a repeated return changes nothing');
  t.match(release([whole], whole.cidr, 'b'), { put: [], remove: [] }, 'nor does one by another host');
  fails(
    t,
    'ERR_STALE_GENERATION',
    () => release([{ ...whole, generation: 5 }], whole.cidr, 'a', 4),
    whole.cidr,
    '4',
    '5',
  );
  t.end();
});

t.test("a removed host's blocks come back in portions", (t) => {
  const plan = planHostRemoval({ network, blocks: full, nextGeneration: 7, grids, host: 'a', limit: 3 });
  t.match(plan, { returned: 3, hasMore: true, put: [] });
  t.equal(plan.remove.length, 3);
  t.match(planHostRemoval({ network, blocks: full, nextGeneration: 7, grids, host: 'b', limit: 3 }), {
    returned: 3,
    hasMore: false,
  });
  t.match(planHostRemoval({ network, blocks: full, nextGeneration: 7, grids, host: 'z' }), {
    returned: 0,
    put: [],
    remove: [],
  });
  t.end();
});

t.test("a host's word on its blocks goes by generation", (t) => {
  const refill = (published: Block, blocks: readonly Block[], host = 'a') =>
    planRefill({ network, blocks, nextGeneration: 1, grids, host, published });
  const mine = blockOf('10.1.0.2/31', 'a', [], 5);
  t.match(refill(mine, []), { put: [mine], nextGeneration: 6 });
  t.match(refill(mine, [mine]), { put: [] });
  t.match(refill(mine, [{ ...mine, generation: 3 }]), { put: [mine] }, 'the store came back from an older backup');
  t.match(refill(mine, [blockOf('10.1.0.2/31', 'b', [], 3)]), { put: [mine] });
  fails(t, 'ERR_BLOCK_FENCED', () => refill(mine, [blockOf('10.1.0.2/31', 'b', [], 9)]), '10.1.0.2/31', 'host b');
  fails(t, 'ERR_BLOCK_FENCED', () => refill(mine, [blockOf('10.1.0.2/31', null, ['10.1.0.3'], 9)]), 'nobody');
  fails(t, 'ERR_BLOCK_FENCED', () => refill(blockOf('10.9.0.2/31', 'a'), []), '10.9.0.2/31');
  fails(t, 'ERR_FORBIDDEN', () => refill(mine, [], 'b'), 'a', 'b');
  t.end();
});

t.test('singles and their grid block are refilled in either order', (t) => {
  const whole = blockOf('10.1.0.2/31', 'a', [], 5);
  const single = blockOf('10.1.0.3/32', 'b', [], 8);
  const state = { network, nextGeneration: 1, grids };
  t.match(planRefill({ ...state, blocks: [single], host: 'a', published: whole }), {
    put: [{ cidr: '10.1.0.2/31', carved: ['10.1.0.3'], generation: 6 }],
    nextGeneration: 9,
  });
  t.match(planRefill({ ...state, blocks: [whole], host: 'b', published: single }), {
    put: [single, { cidr: '10.1.0.2/31', host: 'a', carved: ['10.1.0.3'], generation: 6 }],
  });
  const late = { ...state, blocks: [{ ...whole, generation: 20 }], host: 'b', published: single };
  fails(t, 'ERR_BLOCK_FENCED', () => planRefill(late), 'host a');
  t.end();
});
