import t from 'tap';
import { Closers } from '../../../lib/sync/closers.js';

t.test('the last made is closed first, and one that throws or rejects keeps none from closing', async (t) => {
  const closed: string[] = [];
  const errors: unknown[] = [];
  const closers = new Closers((error) => errors.push(error));
  closers.push(() => void closed.push('first'));
  closers.push(() => Promise.reject(new Error('rejects')));
  closers.push(() => {
    throw new Error('throws');
  });
  closers.push(async () => {
    await Promise.resolve();
    closed.push('last');
  });
  await closers.close();
  t.strictSame(closed, ['last', 'first']);
  t.strictSame(errors, [new Error('throws'), new Error('rejects')]);
  await closers.close();
  t.equal(closed.length, 2, 'and nothing is closed twice');
});
