import t from 'tap';
import { outage } from '../lab/outage.js';

t.test('controllers and etcd away for twice the liveness bound, and back, without one record withdrawn', async (t) => {
  await outage(t, { livenessMs: 6000, awayMs: 12_000 });
});
