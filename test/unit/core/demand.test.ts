import t from 'tap';
import { Demand } from '../../../core/demand.js';

t.test('demand is what was taken in half a window to a whole one', (t) => {
  const demand = new Demand(1000);
  t.equal(demand.count(0), 0);
  for (const nowMs of [100, 200, 499]) demand.add(nowMs);
  t.equal(demand.count(499), 3);
  demand.add(500);
  t.equal(demand.count(999), 4);
  t.equal(demand.count(1000), 1, 'the first half is over');
  t.equal(demand.count(1500), 0);
  demand.add(2000);
  t.equal(demand.count(9_000), 0, 'after a long rest');
  t.end();
});
