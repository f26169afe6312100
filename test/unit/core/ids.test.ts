import t from 'tap';
import {
  bridgeName,
  formatId,
  isId,
  macvlanShimName,
  markOf,
  parseMark,
  vethName,
  vxlanName,
} from '../../../core/ids.js';

const random = Uint8Array.from({ length: 16 }, (_, index) => index * 17);

t.test('ids are hexadecimal digits of the random bytes handed in', (t) => {
  t.equal(formatId('network', random), '00112233');
  t.equal(formatId('endpoint', random), '0011223344556677');
  t.equal(formatId('epoch', random), '00112233445566778899aabbccddeeff');
  t.throws(() => formatId('epoch', random.subarray(0, 15)), RangeError);
  t.end();
});

t.test('an id is told from other texts', (t) => {
  t.ok(isId('network', '0123abcd'));
  for (const text of ['0123abc', '0123abcde', '0123ABCD', '0123abcg', '', '0123abcd\n'])
    t.notOk(isId('network', text), text);
  t.end();
});

t.test('every link name fits the kernel', (t) => {
  const names = [
    bridgeName('0123abcd'),
    vxlanName('0123abcd'),
    macvlanShimName('0123abcd'),
    vethName('0123456789abcdef'),
  ];
  t.same(names, ['tsb-0123abcd', 'tsx-0123abcd', 'tsm-0123abcd', 'tsv-0123456789']);
  t.ok(names.every((name) => name.length <= 15));
  t.end();
});

t.test('a mark says what a link is, and nothing else is taken for one', (t) => {
  t.equal(markOf('bridge', '0123abcd'), 'tsnet:bridge:0123abcd');
  for (const mark of [
    { kind: 'bridge', id: '0123abcd' },
    { kind: 'vxlan', id: '0123abcd' },
    { kind: 'shim', id: '0123abcd' },
    { kind: 'veth', id: '0123456789abcdef' },
    { kind: 'peer', id: '0123456789abcdef' },
    { kind: 'macvlan', id: '0123456789abcdef' },
  ] as const) {
    t.same(parseMark(markOf(mark.kind, mark.id)), mark);
  }
  const foreign = [
    null,
    undefined,
    '',
    'tsnet',
    'tsnet:bridge',
    'tsnet:bridge:',
    'tsnet:bridge:0123abc',
    'tsnet:veth:0123abcd',
    'docker:bridge:0123abcd',
    'tsnet:constructor:0123abcd',
    'tsnet:bridge:0123abcd:x',
    ' tsnet:bridge:0123abcd',
    'tsnet:bridge:0123ABCD',
  ];
  for (const alias of foreign) t.equal(parseMark(alias), null, String(alias));
  t.end();
});
