import t from 'tap';
import { diffKeyed, isSameJson, keyBy } from '../../../core/diff.js';

interface Item {
  readonly key: string;
  readonly value: number;
}

const keyed = (...items: readonly Item[]): ReadonlyMap<string, Item> => keyBy(items, ({ key }) => key);
const item = (key: string, value = 0): Item => ({ key, value });

t.test('what is to be added, changed and removed comes in a stable order', (t) => {
  const current = keyed(item('d'), item('b', 1), item('c'), item('a', 1));
  const desired = keyed(item('z'), item('a', 2), item('c'), item('b', 2), item('y'));
  t.same(diffKeyed(current, desired, isSameJson), {
    add: [item('z'), item('y')],
    change: [
      { from: item('a', 1), to: item('a', 2) },
      { from: item('b', 1), to: item('b', 2) },
    ],
    remove: [item('d')],
  });
  t.same(diffKeyed(current, current, isSameJson), { add: [], change: [], remove: [] });
  t.same(diffKeyed(keyed(), current, isSameJson).add, [...current.values()]);
  t.same(diffKeyed(current, keyed(), isSameJson).remove, [...current.values()]);
  t.end();
});

t.test('of two values with one key the later stands', (t) => {
  t.same([...keyed(item('a', 1), item('a', 2)).values()], [item('a', 2)]);
  t.end();
});

t.test('JSON values are compared whatever the order of properties', (t) => {
  t.ok(isSameJson({ a: 1, b: [{ c: null }] }, { b: [{ c: null }], a: 1 }));
  t.ok(isSameJson({ a: 1, b: undefined }, { a: 1 }));
  const pairs = [
    [{ a: 1 }, { a: 2 }],
    [{ a: 1 }, { b: 1 }],
    [{ a: 1 }, { a: 1, b: 1 }],
    [
      [1, 2],
      [2, 1],
    ],
    [[1], [1, 2]],
    [[], {}],
    [null, {}],
    ['1', 1],
    [{ a: null }, {}],
  ] as const;
  for (const [a, b] of pairs) {
    t.notOk(isSameJson(a, b), JSON.stringify([a, b]));
    t.notOk(isSameJson(b, a), JSON.stringify([b, a]));
  }
  t.end();
});
