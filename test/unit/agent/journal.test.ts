import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Journal, type OwnChange } from '../../../agent/journal/journal.js';
import { KeyedLog } from '../../../lib/keyed-log.js';
import { endpointId, networkId, newBlock, newOwn } from './records.js';

const carrier = {
  network: networkId,
  host: 'a',
  vtep: '198.18.0.1',
  addresses: ['10.64.0.8'],
  mac: '02:00:00:00:00:01',
};

t.test('everything is there after the file is opened again', async (t) => {
  const dir = t.testdir();
  const { journal, warnings } = Journal.open(dir);
  t.strictSame(warnings, []);
  const own = newOwn({ generation: journal.nextGeneration() });
  journal.putEndpoint(own);
  journal.putCarrier(carrier);
  journal.addresses.putBlock(newBlock());
  journal.addresses.putHostAddress({ network: networkId, subnet: '10.64.0.0/24', address: '10.64.0.8' });
  journal.addresses.putResting([{ network: networkId, address: '10.64.0.12', untilMs: 1000 }], 0);
  journal.addresses.startReturn({ network: networkId, cidr: '10.64.0.16/29', generation: 4 });
  const carve = {
    v: 1,
    generation: 1,
    id: endpointId(9),
    network: networkId,
    cidr: '10.64.0.8/29',
    address: null,
    owner: 'a',
    requester: 'b',
  } as const;
  journal.addresses.putCarve({ carve, address: '10.64.0.14', holder: null });
  journal.setEpoch('e1');
  await journal.close();

  const again = Journal.open(dir);
  t.strictSame(again.warnings, []);
  t.equal(again.journal.instance, journal.instance);
  t.match(again.journal.instance, /^[0-9a-f]{32}$/);
  t.equal(again.journal.epoch, 'e1');
  t.strictSame(again.journal.endpoint(own.record.id), own);
  t.strictSame([...again.journal.carriers()], [...journal.carriers()]);
  t.strictSame([...again.journal.addresses.blocks()], [newBlock()]);
  t.equal(again.journal.addresses.hostAddress(networkId, '10.64.0.0/24')?.address, '10.64.0.8');
  t.strictSame(
    [...again.journal.addresses.resting()].map(({ address }) => address),
    ['10.64.0.12'],
  );
  t.strictSame(
    [...again.journal.addresses.returns()].map(({ cidr }) => cidr),
    ['10.64.0.16/29'],
  );
  t.equal(again.journal.addresses.carve(carve.id)?.address, '10.64.0.14');
  again.journal.addresses.putResting([], 2000);
  t.strictSame([...again.journal.addresses.resting()], [], 'rests that are over are dropped');
  await again.journal.close();
});

t.test('generations grow across restarts, removals and what others have seen', async (t) => {
  const dir = t.testdir();
  let highest = 0;
  for (let round = 0; round < 4; round += 1) {
    const { journal } = Journal.open(dir);
    const issued = Array.from({ length: 1500 }, () => journal.nextGeneration());
    t.ok(issued.every((next, index) => next > (issued[index - 1] ?? highest)));
    highest = issued.at(-1) ?? Infinity;
    journal.putEndpoint(newOwn({ generation: journal.nextGeneration() }));
    journal.removeEndpoint(endpointId(1));
    const tombstone = journal.tombstone(networkId, endpointId(1));
    highest = tombstone?.generation ?? Infinity;
    journal.acknowledge([{ change: { kind: 'gone', network: networkId, id: endpointId(1) }, generation: highest }]);
    t.equal(journal.tombstone(networkId, endpointId(1)), undefined);
    if (round === 2) {
      journal.observeGeneration(1_000_000);
      highest = journal.nextGeneration();
      t.equal(highest, 1_000_001);
    }
    await journal.close();
  }
});

t.test('a removed endpoint leaves a tombstone until it is acknowledged', async (t) => {
  const dir = t.testdir();
  const { journal } = Journal.open(dir);
  const changes: OwnChange[] = [];
  journal.onChange((change) => changes.push(change));
  journal.putEndpoint(newOwn({ generation: journal.nextGeneration() }));
  journal.removeEndpoint(endpointId(1));
  journal.removeEndpoint(endpointId(1));
  const { generation = 0 } = journal.tombstone(networkId, endpointId(1)) ?? {};
  t.ok(generation > 1);
  t.strictSame(changes, [
    { kind: 'endpoint', id: endpointId(1) },
    { kind: 'gone', network: networkId, id: endpointId(1) },
  ]);
  journal.acknowledge([
    { change: { kind: 'gone', network: networkId, id: endpointId(1) }, generation: generation - 1 },
  ]);
  t.ok(journal.tombstone(networkId, endpointId(1)), 'an older acknowledgement does not count');
  await journal.close();
  const again = Journal.open(dir).journal;
  t.equal(again.tombstone(networkId, endpointId(1))?.generation, generation);
  await again.close();
});

t.test('an acknowledgement survives a change of the endpoint that did not know of it', async (t) => {
  const { journal } = Journal.open(t.testdir());
  const own = newOwn({ generation: journal.nextGeneration() });
  journal.putEndpoint(own);
  journal.acknowledge([{ change: { kind: 'endpoint', id: own.record.id }, generation: own.record.generation }]);
  const generation = journal.nextGeneration();
  journal.putEndpoint({ ...own, record: { ...own.record, generation } });
  t.equal(journal.endpoint(own.record.id)?.publishedGeneration, own.record.generation);
  t.equal(journal.setEpoch('e2'), true);
  t.equal(journal.endpoint(own.record.id)?.publishedGeneration, 0, 'another store has acknowledged nothing');
  t.equal(journal.setEpoch('e2'), false);
  await journal.close();
});

t.test('a carrier that says the same again changes nothing; one carried anew cancels its tombstone', async (t) => {
  const { journal } = Journal.open(t.testdir());
  const first = journal.putCarrier(carrier);
  t.equal(journal.putCarrier(carrier), first);
  journal.removeCarrier(networkId);
  t.ok(journal.tombstone(networkId, null));
  const second = journal.putCarrier(carrier);
  t.ok(second.record.generation > first.record.generation);
  t.equal(journal.tombstone(networkId, null), undefined);
  await journal.close();
});

t.test('own records as the store has them: unknown ones are withdrawn, newer ones are published above', async (t) => {
  const { journal } = Journal.open(t.testdir());
  const changes: OwnChange[] = [];
  journal.onChange((change) => changes.push(change));
  journal.observeOwn({ network: networkId, id: endpointId(5), generation: 70 });
  t.ok((journal.tombstone(networkId, endpointId(5))?.generation ?? 0) > 70);
  journal.observeOwn({ network: networkId, id: endpointId(5), generation: 70 });
  t.equal(changes.length, 1, 'a tombstone above it stands already');

  const own = newOwn({ generation: journal.nextGeneration() });
  journal.putEndpoint(own);
  journal.observeOwn({ network: networkId, id: own.record.id, generation: 500 });
  t.equal(journal.endpoint(own.record.id)?.record.generation, 501);
  journal.observeOwn({ network: networkId, id: own.record.id, generation: 501 });
  t.equal(changes.length, 3);

  journal.removeEndpoint(own.record.id);
  const { generation = 0 } = journal.tombstone(networkId, own.record.id) ?? {};
  journal.acknowledge([{ change: { kind: 'gone', network: networkId, id: own.record.id }, generation }]);
  changes.length = 0;
  journal.observeOwn({ network: networkId, id: own.record.id, generation: 501 });
  t.strictSame(changes, [], 'a late event of a record that is withdrawn is not taken for a leftover');
  await journal.close();
});

t.test('entries that are none are dropped and reported, and the rest is there', async (t) => {
  const dir = t.testdir();
  const first = Journal.open(dir).journal;
  first.putEndpoint(newOwn({ generation: 1 }));
  first.addresses.putBlock(newBlock());
  await first.close();
  const { log } = KeyedLog.open<unknown>(join(dir, 'journal'));
  log.put(`endpoint/${endpointId(2)}`, { record: { id: 7 } });
  log.put(`endpoint/${endpointId(3)}`, newOwn({ id: endpointId(4) }));
  log.put('surprise/1', true);
  log.put(`block/${networkId}/10.64.0.16/29`, { ...newBlock({ cidr: '10.64.0.16/29' }), carved: 'none' });
  await log.close();
  const found = readFileSync(join(dir, 'journal'));
  const { journal, warnings } = Journal.open(dir);
  t.equal(warnings.length, 1);
  t.match(warnings[0], { code: 'ERR_JOURNAL_CORRUPT', details: { lines: 4 } });
  t.strictSame(readFileSync(String(warnings[0]?.details['path'])), found);
  t.strictSame(
    [...journal.endpoints()].map(({ record }) => record.id),
    [endpointId(1)],
  );
  t.strictSame([...journal.addresses.blocks()], [newBlock()]);
  await journal.close();
});

t.test('a journal of garbage is kept aside and a new one begun', async (t) => {
  const dir = t.testdir();
  writeFileSync(join(dir, 'journal'), 'not a journal\n');
  const { journal, warnings } = Journal.open(dir);
  t.equal(warnings[0]?.code, 'ERR_JOURNAL_CORRUPT');
  journal.addresses.putBlock(newBlock());
  await journal.close();
  appendFileSync(join(dir, 'journal'), 'torn');
  const again = Journal.open(dir);
  t.strictSame(again.warnings, []);
  t.strictSame([...again.journal.addresses.blocks()], [newBlock()]);
  await again.journal.close();
});

t.test('a new or damaged journal counts as incomplete until what was lost is restored', async (t) => {
  const dir = t.testdir();
  const first = Journal.open(dir).journal;
  t.ok(first.isIncomplete);
  await first.close();
  const { journal } = Journal.open(dir);
  t.ok(journal.isIncomplete, 'also after another start');
  const own = newOwn({ generation: 7 });
  journal.restore({
    instance: 'f'.repeat(32),
    generation: 2000,
    endpoints: [own],
    carriers: [{ v: 1, generation: 6, ...carrier }],
    hostAddresses: [{ network: networkId, subnet: '10.64.0.0/24', address: '10.64.0.8' }],
    blocks: [newBlock()],
  });
  t.notOk(journal.isIncomplete);
  t.equal(journal.instance, 'f'.repeat(32));
  t.ok(journal.nextGeneration() > 2000);
  await journal.close();
  appendFileSync(join(dir, 'journal'), 'noise\n');
  const again = Journal.open(dir).journal;
  t.ok(again.isIncomplete, 'damaged');
  t.strictSame(again.endpoint(own.record.id), own);
  t.strictSame(again.carrier(networkId)?.publishedGeneration, 6);
  t.strictSame([...again.addresses.hostAddresses()].length, 1);
  again.restore({
    instance: '0'.repeat(32),
    generation: 0,
    endpoints: [],
    carriers: [],
    hostAddresses: [],
    blocks: [newBlock({ generation: 0, carved: ['10.64.0.9'] })],
  });
  t.equal(again.instance, 'f'.repeat(32), 'one that still knew who it is keeps that');
  t.strictSame([...again.addresses.blocks()], [newBlock()], 'and its newer records');
  t.ok(again.nextGeneration() > 2000);
  await again.close();
  const last = Journal.open(dir);
  t.notOk(last.journal.isIncomplete);
  t.strictSame(last.warnings, []);
  await last.journal.close();
});

t.test('on a full disk nothing is begun, and what has begun can be ended', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'tsnet-small-'));
  t.teardown(() => rmdirSync(dir));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir]);
  t.teardown(() => execFileSync('umount', [dir]));
  const { journal } = Journal.open(dir);
  t.teardown(() => journal.close());
  const ids = Array.from({ length: 50 }, (_, index) => endpointId(index + 1));
  for (const id of ids) journal.putEndpoint(newOwn({ id }));
  journal.putCarrier(carrier);
  const filler = join(dir, 'filler');
  t.throws(() => writeFileSync(filler, Buffer.alloc(1024 * 1024)), { code: 'ENOSPC' });
  // The last page of the journal has room for some.
  for (const id of ids) journal.putEndpoint({ ...newOwn({ id }), step: 'detach' });
  const fresh = newOwn({ id: endpointId(99) });
  const full = { code: 'ERR_DISK_FULL' };
  t.throws(() => writeFileSync(join(dir, 'more'), Buffer.alloc(1024 * 1024)), { code: 'ENOSPC' });
  t.throws(() => journal.putEndpoint(fresh), full);
  t.throws(() => journal.putCarrier({ ...carrier, network: 'ffffffff' }), full);
  t.equal(journal.endpoint(fresh.record.id), undefined);
  rmSync(join(dir, 'more'));
  t.throws(() => journal.putEndpoint(fresh), full, 'not before there is room for its end as well');
  for (const id of ids) journal.removeEndpoint(id);
  journal.removeCarrier(networkId);
  rmSync(filler);
  journal.putEndpoint(fresh);
  await journal.close();
  const again = Journal.open(dir);
  t.strictSame(again.warnings, []);
  t.strictSame([...again.journal.endpoints()], [fresh]);
  await again.journal.close();
});
