import t from 'tap';
import type { KernelNeigh } from '../../../core/kernel.js';
import { DesiredState } from '../../../agent/reconcile/desired-state.js';
import { backoffMs } from '../../../agent/reconcile/backoff.js';

const neigh = (address: string, mac = '02:00:00:00:00:01'): KernelNeigh => ({
  kind: 'neigh',
  link: 'tsb-a',
  address,
  mac,
});

t.test('an object that two owners want stays until both are gone', async (t) => {
  const state = new DesiredState(() => t.fail('they agree'));
  t.same([...state.replace('a', [neigh('10.0.0.5')]).changed], ['neigh tsb-a 10.0.0.5']);
  t.same([...state.replace('b', [neigh('10.0.0.5')]).changed], []);
  t.same([...state.replace('a', []).changed], []);
  t.equal(state.map.size, 1);
  t.same([...state.replace('b', []).changed], ['neigh tsb-a 10.0.0.5']);
  t.equal(state.map.size, 0);
  t.same(state.keysOn('tsb-a'), []);
});

t.test('of two versions the last wins, and the other is back when that is withdrawn', async (t) => {
  const disputes: (readonly string[])[] = [];
  const state = new DesiredState((_object, owners) => disputes.push(owners));
  state.replace('a', [neigh('10.0.0.5', '02:00:00:00:00:0a')]);
  state.replace('b', [neigh('10.0.0.5', '02:00:00:00:00:0b')]);
  t.match(state.get('neigh tsb-a 10.0.0.5'), { mac: '02:00:00:00:00:0b' });
  state.replace('a', [neigh('10.0.0.5', '02:00:00:00:00:0c')]);
  t.match(state.get('neigh tsb-a 10.0.0.5'), { mac: '02:00:00:00:00:0c' });
  t.same(disputes, [['a', 'b']], 'told of once');
  state.replace('a', []);
  t.match(state.get('neigh tsb-a 10.0.0.5'), { mac: '02:00:00:00:00:0b' });
});

t.test('handing in the same again changes nothing', async (t) => {
  const state = new DesiredState(() => t.fail('one owner'));
  state.replace('a', [neigh('10.0.0.5'), neigh('10.0.0.6')]);
  const { changed, dropped } = state.replace('a', [neigh('10.0.0.6'), neigh('10.0.0.5')]);
  t.equal(changed.size + dropped.size, 0);
});

t.test('the wait after a failure is spread from nothing to a bound that doubles up to half a minute', async (t) => {
  t.same(
    [1, 2, 3, 4].map((attempts) => backoffMs(attempts, () => 1)),
    [200, 400, 800, 1600],
  );
  t.equal(
    backoffMs(40, () => 1),
    30_000,
  );
  t.equal(
    backoffMs(5, () => 0),
    0,
  );
});
