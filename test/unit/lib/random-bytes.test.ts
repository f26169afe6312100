import t from 'tap';
import { randomBytesOf } from '../../../lib/random-bytes.js';

t.test('no bytes are given twice, and what was given stays as it is', (t) => {
  const given = Array.from({ length: 2000 }, () => randomBytesOf(8));
  const texts = given.map((bytes) => Buffer.from(bytes).toString('hex'));
  t.equal(new Set(texts).size, given.length);
  t.ok(given.every(({ length }) => length === 8));
  randomBytesOf(4096);
  t.same(
    given.map((bytes) => Buffer.from(bytes).toString('hex')),
    texts,
  );
  t.throws(() => randomBytesOf(4097), RangeError);
  t.end();
});
