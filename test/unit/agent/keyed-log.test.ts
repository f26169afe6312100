import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { TsnetError } from '../../../core/errors.js';
import { encodeLine } from '../../../lib/keyed-log-lines.js';
import { KeyedLog } from '../../../lib/keyed-log.js';

type Model = Map<string, unknown>;
type Op =
  | { readonly op: 'put'; readonly key: string; readonly value: unknown }
  | { readonly op: 'delete'; readonly key: string };

const keys = fc.constantFrom('a', 'b/1', 'b/2', 'ключ', 'long-'.repeat(20));
const values = fc.oneof(
  fc.string(),
  fc.integer(),
  fc.record({ text: fc.string({ unit: 'grapheme' }), list: fc.array(fc.integer()) }, { noNullPrototype: true }),
);
const ops: fc.Arbitrary<Op> = fc.oneof(
  fc.record({ op: fc.constant('put' as const), key: keys, value: values }),
  fc.record({ op: fc.constant('delete' as const), key: keys }),
);

function applyOp(model: Model, op: Op): void {
  if (op.op === 'put') model.set(op.key, op.value);
  else model.delete(op.key);
}

function applyToLog(log: KeyedLog<unknown>, op: Op): void {
  if (op.op === 'put') log.put(op.key, op.value);
  else log.delete(op.key);
}

const sorted = (entries: Iterable<[string, unknown]>): [string, unknown][] =>
  [...entries].sort(([a], [b]) => (a < b ? -1 : 1));

/** The state after each whole line of a file that the operations made, the empty one first. */
function statesOf(list: readonly Op[]): { readonly states: Model[]; readonly applied: Op[] } {
  const states: Model[] = [new Map()];
  const applied: Op[] = [];
  const model: Model = new Map();
  for (const op of list) {
    if (op.op === 'delete' && !model.has(op.key)) continue;
    applyOp(model, op);
    applied.push(op);
    states.push(new Map(model));
  }
  return { states, applied };
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return error instanceof TsnetError ? error.code : String(error);
  }
  return 'nothing thrown';
}

let count = 0;
const newPath = (dir: string): string => join(dir, `log-${(count += 1)}`);

t.test('a line is its checksum, the CRC-32 of RFC 1952, its length, and JSON', (t) => {
  t.equal(encodeLine('k', 123456789).toString(), 'cc961ba2 15 ["k",123456789]\n');
  t.end();
});

t.test('a log reads back what was written, and its file is for its owner alone', async (t) => {
  const dir = t.testdir();
  await fc.assert(
    fc.asyncProperty(fc.array(ops, { maxLength: 40 }), fc.array(ops, { maxLength: 10 }), async (first, second) => {
      const path = newPath(dir);
      const model: Model = new Map();
      for (const list of [first, second]) {
        const { log, corrupt } = KeyedLog.open<unknown>(path);
        t.equal(corrupt, null);
        for (const op of list) {
          applyToLog(log, op);
          applyOp(model, op);
        }
        t.strictSame(sorted(log.entries()), sorted(model));
        await log.close();
      }
      const { log } = KeyedLog.open<unknown>(path);
      t.strictSame(sorted(log.entries()), sorted(model));
      t.equal(log.size, model.size);
      await log.close();
      t.equal(statSync(path).mode & 0o777, 0o600);
    }),
    { numRuns: 60 },
  );
});

t.test('a file of others is closed to them when it is opened', async (t) => {
  const path = newPath(t.testdir());
  writeFileSync(path, '');
  chmodSync(path, 0o644);
  await KeyedLog.open(path).log.close();
  t.equal(statSync(path).mode & 0o777, 0o600);
});

t.test('a file cut anywhere keeps every whole line and is no damage', async (t) => {
  const dir = t.testdir();
  const list: Op[] = [
    { op: 'put', key: 'a', value: { n: 1, text: 'ä\n"' } },
    { op: 'put', key: 'b', value: 2 },
    { op: 'delete', key: 'a' },
    { op: 'put', key: 'b', value: 'drei' },
  ];
  const path = newPath(dir);
  const { log } = KeyedLog.open<unknown>(path);
  for (const op of list) applyToLog(log, op);
  await log.close();
  const bytes = readFileSync(path);
  const { states } = statesOf(list);
  for (let length = 0; length <= bytes.length; length += 1) {
    const cut = newPath(dir);
    writeFileSync(cut, bytes.subarray(0, length));
    const opening = KeyedLog.open<unknown>(cut);
    const whole = bytes.subarray(0, length).filter((byte) => byte === 0x0a).length;
    t.equal(opening.corrupt, null, `cut at ${length}`);
    t.strictSame(sorted(opening.log.entries()), sorted(states[whole] ?? new Map()), `cut at ${length}`);
    opening.log.put('after', length);
    await opening.log.close();
    const again = KeyedLog.open<unknown>(cut);
    t.equal(again.corrupt, null, `written after a cut at ${length}`);
    t.equal(again.log.get('after'), length);
    await again.log.close();
  }
});

t.test('one damaged byte costs one line at most; the file as found is kept and the outcome reported', async (t) => {
  const dir = t.testdir();
  await fc.assert(
    fc.asyncProperty(
      fc.array(ops, { minLength: 3, maxLength: 15 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      fc.integer({ min: 1, max: 255 }),
      async (list, where, flip) => {
        const path = newPath(dir);
        const { log } = KeyedLog.open<unknown>(path);
        for (const op of list) applyToLog(log, op);
        await log.close();
        const bytes = readFileSync(path);
        if (bytes.length === 0) return;
        const at = Math.floor(where * bytes.length);
        const damaged = Buffer.from(bytes);
        damaged[at] = (bytes[at] ?? 0) ^ flip;
        writeFileSync(path, damaged);

        const { applied } = statesOf(list);
        const line = bytes.subarray(0, at).filter((byte) => byte === 0x0a).length;
        const isNewline = bytes[at] === 0x0a;
        const isTornEnd = at === bytes.length - 1;
        const expected: Model = new Map();
        applied.forEach((op, index) => {
          if (index !== line || (isNewline && !isTornEnd)) applyOp(expected, op);
        });
        const opening = KeyedLog.open<unknown>(path, { now: () => new Date(0) });
        const kept = sorted(opening.log.entries());
        if (isTornEnd) {
          // Without its newline the last line cannot be told from a torn one, unless its length says otherwise.
          const whole: Model = new Map(expected);
          const last = applied.at(-1);
          if (last !== undefined) applyOp(whole, last);
          t.ok([sorted(expected), sorted(whole)].some((state) => JSON.stringify(state) === JSON.stringify(kept)));
        } else {
          t.strictSame(kept, sorted(expected), `byte ${at} of ${bytes.length}`);
          t.ok(opening.corrupt !== null && opening.corrupt.lines >= 1);
          t.strictSame(readFileSync(opening.corrupt?.path ?? ''), damaged);
          t.equal(statSync(opening.corrupt?.path ?? '').mode & 0o777, 0o600);
        }
        await opening.log.close();
        const again = KeyedLog.open<unknown>(path);
        t.equal(again.corrupt, null, 'the damage is reported once');
        t.strictSame(sorted(again.log.entries()), kept);
        await again.log.close();
      },
    ),
    { numRuns: 150 },
  );
});

t.test('a file that is no log at all is kept aside and replaced by an empty one', async (t) => {
  const path = newPath(t.testdir());
  const found = Buffer.from('#!/bin/sh\necho hello\n\n\0\0\0\n');
  writeFileSync(path, found);
  const { log, corrupt } = KeyedLog.open(path);
  t.equal(log.size, 0);
  t.equal(corrupt?.lines, 4);
  t.strictSame(readFileSync(corrupt?.path ?? ''), found);
  await log.close();
});

t.test('random bytes never throw', async (t) => {
  const dir = t.testdir();
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
      const path = newPath(dir);
      writeFileSync(path, bytes);
      const { log } = KeyedLog.open(path);
      t.equal(log.size, 0);
      await log.close();
    }),
    { numRuns: 100 },
  );
});

t.test('values that are not accepted are dropped and named', async (t) => {
  const path = newPath(t.testdir());
  const first = KeyedLog.open<unknown>(path);
  first.log.put('good', 1);
  first.log.put('bad', 'text');
  await first.log.close();
  const accept = (_key: string, value: unknown): number | null => (typeof value === 'number' ? value : null);
  const { log, corrupt, refused } = KeyedLog.open<number>(path, { accept });
  t.strictSame([...log.entries()], [['good', 1]]);
  t.strictSame(refused, ['bad']);
  t.equal(corrupt?.lines, 1);
  await log.close();
});

t.test('many changes are one write, all or none', async (t) => {
  const path = newPath(t.testdir());
  const { log } = KeyedLog.open<string>(path, { maxLineBytes: 100 });
  log.put('a', 'old');
  log.write([
    ['a', undefined],
    ['b', 'new'],
    ['missing', undefined],
  ]);
  t.strictSame([...log.entries()], [['b', 'new']]);
  const before = readFileSync(path);
  t.equal(
    codeOf(() =>
      log.write([
        ['c', 'fits'],
        ['d', 'x'.repeat(200)],
      ]),
    ),
    'ERR_TOO_LARGE',
  );
  t.strictSame([...log.entries()], [['b', 'new']]);
  t.strictSame(readFileSync(path), before);
  await log.close();
  t.equal(
    codeOf(() => log.put('e', 'closed')),
    'ERR_STOPPING',
  );
});

t.test('compaction drops dead lines and keeps what is written meanwhile', async (t) => {
  const path = newPath(t.testdir());
  const { log } = KeyedLog.open<number>(path, { minDeadLines: 1e9 });
  for (let round = 0; round < 20; round += 1) for (let key = 0; key < 500; key += 1) log.put(`key-${key}`, round);
  const before = statSync(path).size;
  const compacting = log.compact();
  t.equal(log.compact(), compacting, 'a second caller shares the run');
  log.put('key-0', 1000);
  log.delete('key-1');
  await new Promise((resolve) => setImmediate(resolve));
  log.put('late', 1);
  const synced = log.sync();
  await compacting;
  await synced;
  t.ok(statSync(path).size < before / 15);
  log.put('after', 2);
  const expected = sorted(log.entries());
  t.equal(expected.length, 501);
  await log.close();
  const again = KeyedLog.open<number>(path);
  t.equal(again.corrupt, null);
  t.strictSame(sorted(again.log.entries()), expected);
  t.equal(again.log.get('key-0'), 1000);
  t.notOk(again.log.has('key-1'));
  await again.log.close();
  t.equal(statSync(path).mode & 0o777, 0o600);
});

t.test('a file is compacted by itself when dead lines outweigh', async (t) => {
  const path = newPath(t.testdir());
  const { log } = KeyedLog.open<string>(path, { minDeadLines: 50 });
  for (let round = 0; round < 2000; round += 1) {
    log.put('one', `value ${round}`);
    if (round % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const deadlineMs = performance.now() + 5000;
  let rounds = 2000;
  while (statSync(path).size > 5000 && performance.now() < deadlineMs) {
    log.put('one', `value ${(rounds += 1)}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.ok(statSync(path).size <= 5000);
  t.equal(log.get('one'), `value ${rounds === 2000 ? 1999 : rounds}`);
  await log.close();
});

t.test('concurrent callers share a sync, and each is answered after its own write', async (t) => {
  const { log } = KeyedLog.open<number>(newPath(t.testdir()));
  log.put('a', 1);
  const first = log.sync();
  t.equal(log.sync(), first);
  await new Promise((resolve) => process.nextTick(resolve));
  log.put('b', 2);
  const second = log.sync();
  t.not(second, first, 'one that came later does not share a sync that has begun');
  await Promise.all([first, second]);
  await log.close();
});

t.test('what a killed writer acknowledged is there, also when it died in a compaction', async (t) => {
  const path = newPath(t.testdir());
  const writer = fileURLToPath(new URL('./keyed-log-writer.js', import.meta.url));
  let next = 0;
  for (let round = 0; round < 6; round += 1) {
    const child = spawn(process.execPath, [writer, path, String(next)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = new Promise((resolve) => child.on('exit', resolve));
    const wanted = next + 40 + round * 73;
    let acknowledged = next - 1;
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged = Number(line);
      if (acknowledged >= wanted) child.kill('SIGKILL');
    }
    await exited;
    const { log, corrupt } = KeyedLog.open<number>(path);
    t.equal(corrupt, null);
    const highest = Math.max(...[...log.entries()].map(([, value]) => value));
    t.ok(highest === acknowledged || highest === acknowledged + 1, `${highest} of ${acknowledged} acknowledged`);
    for (let value = acknowledged; value > acknowledged - 9; value -= 1) {
      const found = log.get(`key-${value % 10}`) ?? -1;
      t.ok(found >= value, `key-${value % 10} has ${found}, at least ${value}`);
    }
    await log.close();
    next = highest + 1;
  }
});

t.test('a full disk and one turned read-only are typed errors, and memory and file stay one', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'tsnet-small-'));
  t.teardown(() => rmdirSync(dir));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', dir]);
  t.teardown(() => execFileSync('umount', [dir]));
  const path = newPath(dir);
  const faults: TsnetError[] = [];
  const { log } = KeyedLog.open<string>(path, { minDeadLines: 1e9, onFault: (error) => faults.push(error) });
  let written = 0;
  const code = codeOf(() => {
    for (; written < 1000; written += 1) log.put(`key-${written}`, 'x'.repeat(1000));
  });
  t.equal(code, 'ERR_DISK_FULL');
  t.ok(written > 10 && written < 100);
  t.equal(log.size, written);
  t.notOk(log.has(`key-${written}`));
  await t.rejects(log.compact(), { code: 'ERR_DISK_FULL' });
  t.equal(faults[0]?.code, 'ERR_DISK_FULL');
  t.strictSame(readdirSync(dir), [path.slice(dir.length + 1)], 'the half-made file is gone');
  const again = KeyedLog.open<string>(path);
  t.equal(again.corrupt, null);
  t.equal(again.log.size, written);
  await again.log.close();
  await log.close();

  execFileSync('mount', ['-o', 'remount,ro', dir]);
  t.equal(
    codeOf(() => KeyedLog.open(path)),
    'ERR_DATA_DIR_UNWRITABLE',
  );
});

t.test('something that is no file is refused', async (t) => {
  t.equal(
    codeOf(() => KeyedLog.open('/dev/null')),
    'ERR_DATA_DIR_UNWRITABLE',
  );
  t.equal(
    codeOf(() => KeyedLog.open(t.testdir())),
    'ERR_DATA_DIR_UNWRITABLE',
  );
  t.equal(
    codeOf(() => KeyedLog.open(join(t.testdir(), 'none', 'log'))),
    'ERR_DATA_DIR_UNWRITABLE',
  );
});
