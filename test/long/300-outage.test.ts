import t from 'tap';
import { outage } from '../lab/outage.js';

t.test('controllers and etcd away for 60 s, and back, without one record withdrawn', async (t) => {
  await outage(t, { livenessMs: 10_000, awayMs: 60_000 });
});
