import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { Bitmap } from '../../../core/bitmap.js';
import { holds } from '../../model/holds.js';

t.test('a bitmap answers as a plain array of booleans does', (t) => {
  const change = fc.tuple(fc.boolean(), fc.nat(99));
  holds(
    t,
    fc.property(
      fc.integer({ min: 1, max: 100 }),
      fc.array(change, { maxLength: 200, size: 'max' }),
      (size, changes) => {
        const bitmap = new Bitmap(size);
        const plain = Array<boolean>(size).fill(false);
        for (const [isSet, position] of changes) {
          const index = position % size;
          plain[index] = isSet;
          if (isSet) bitmap.set(index);
          else bitmap.clear(index);
          const next = plain.indexOf(false, index);
          assert.equal(bitmap.nextClear(index), next >= 0 ? next : plain.indexOf(false));
          assert.equal(bitmap.lastClear(), plain.lastIndexOf(false));
          assert.equal(bitmap.clearCount, plain.filter((bit) => !bit).length);
          assert.equal(bitmap.has(index), isSet);
        }
      },
    ),
  );
  t.end();
});

t.test('a full bitmap has no clear bit', (t) => {
  for (const size of [1, 31, 32, 33, 64]) {
    const bitmap = new Bitmap(size);
    for (let index = 0; index < size; index++) bitmap.set(index);
    t.same([bitmap.nextClear(size - 1), bitmap.lastClear(), bitmap.clearCount], [-1, -1, 0]);
  }
  t.end();
});
