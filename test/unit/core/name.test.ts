import t from 'tap';
import {
  applyLabels,
  checkLabels,
  nameLimits,
  parseAliases,
  parseCallerId,
  parseEndpointName,
  parseHostName,
  parseIfname,
  parseNetworkName,
} from '../../../core/name.js';
import { fails } from './error-check.js';

t.test('network names are letters, digits, "-", "_" and "."', (t) => {
  for (const name of ['frontend', 'a', '0', 'Front_end.v2-x', 'a'.repeat(63), 'deadbee', 'deadbeef0', 'default']) {
    t.equal(parseNetworkName(name), name);
  }
  for (const name of ['', '-a', '.a', '_a', 'a b', 'a/b', 'a\n', 'ä', 'a'.repeat(64), '..']) {
    fails(t, 'ERR_INVALID_NAME', () => parseNetworkName(name), 'name', JSON.stringify(name).slice(0, 30));
  }
  t.end();
});

t.test('a network name that could be an id, or that runtimes read otherwise, is refused', (t) => {
  for (const name of ['deadbeef', 'DEADBEEF', '01234567', 'host', 'Host', 'none']) {
    fails(t, 'ERR_INVALID_NAME', () => parseNetworkName(name, 'network'), 'network', name);
  }
  t.end();
});

t.test('host names are DNS names, compared in lower case', (t) => {
  t.equal(parseHostName('Node-1.Example.org'), 'node-1.example.org');
  t.equal(parseHostName('a'.repeat(63)), 'a'.repeat(63));
  for (const name of [
    '',
    '-a',
    'a-',
    'a..b',
    '.a',
    'a.',
    'a_b',
    'a b',
    'a/b',
    'a'.repeat(64),
    `${'a'.repeat(60)}.`.repeat(5),
  ]) {
    fails(t, 'ERR_INVALID_NAME', () => parseHostName(name), 'host');
  }
  t.end();
});

t.test('endpoint names are DNS names that cannot be taken for addresses', (t) => {
  t.equal(parseEndpointName('Web'), 'web');
  t.equal(parseEndpointName('web.v2'), 'web.v2');
  t.equal(parseEndpointName('42'), '42');
  for (const name of ['10.1.0.5', '1.2', 'web_1', 'fd00::1', '*']) {
    fails(t, 'ERR_INVALID_NAME', () => parseEndpointName(name), name);
  }
  t.end();
});

t.test('aliases are each kept once, and the wrong one is named', (t) => {
  t.same(parseAliases(['b', 'A', 'B', 'a']), ['b', 'a']);
  fails(t, 'ERR_INVALID_NAME', () => parseAliases(['ok', 'no_good']), 'aliases[1]', 'no_good');
  const many = Array.from({ length: nameLimits.aliases + 1 }, (_, index) => `a${index}`);
  t.equal(parseAliases(many.slice(1)).length, nameLimits.aliases);
  fails(t, 'ERR_INVALID_NAME', () => parseAliases(many), 'aliases');
  t.end();
});

t.test('caller ids have the shape of container ids', (t) => {
  for (const id of ['a', '0123456789abcdef'.repeat(4), 'pod_1.x-y', 'a'.repeat(256)]) t.equal(parseCallerId(id), id);
  for (const id of ['', '-a', 'a/b', 'a b', 'a'.repeat(257)])
    fails(t, 'ERR_INVALID_NAME', () => parseCallerId(id), 'id');
  t.end();
});

t.test('interface names are what the kernel takes', (t) => {
  for (const name of ['eth0', 'a', 'a'.repeat(15), 'wlan-0.5', 'äöü', '...']) t.equal(parseIfname(name), name);
  for (const name of [
    '',
    '.',
    '..',
    'all',
    'default',
    'a'.repeat(16),
    'a/b',
    'a:b',
    'a b',
    'a\tb',
    'a\u0000',
    'eth%d',
    'ääääääää',
    '\u00a0',
  ]) {
    fails(t, 'ERR_INVALID_IFNAME', () => parseIfname(name), 'ifname');
  }
  t.end();
});

t.test('labels are bounded in key, value and number', (t) => {
  t.doesNotThrow(() => checkLabels({ tier: 'front', 'example.org/owner': 'Zoë', empty: '' }));
  for (const key of ['', '-a', 'a b', 'a=b', 'a/', 'k'.repeat(nameLimits.labelKey + 1)]) {
    fails(t, 'ERR_INVALID_NAME', () => checkLabels({ [key]: 'x' }), 'labels');
  }
  fails(t, 'ERR_INVALID_NAME', () => checkLabels({ tier: 'a\nb' }), 'labels.tier');
  for (const half of ['\ud83d', 'a\ude00b', '\ude00\ud83d'])
    fails(t, 'ERR_INVALID_NAME', () => checkLabels({ tier: half }), 'labels.tier');
  checkLabels({ tier: '\ud83d\ude00 ünï' });
  fails(t, 'ERR_INVALID_NAME', () => checkLabels({ tier: 'x'.repeat(nameLimits.labelValue + 1) }), 'labels.tier');
  const many = Object.fromEntries(Array.from({ length: nameLimits.labels + 1 }, (_, index) => [`k${index}`, '']));
  fails(t, 'ERR_INVALID_NAME', () => checkLabels(many), 'labels');
  t.end();
});

t.test('a change of labels sets, removes and is checked as a whole', (t) => {
  t.same(applyLabels({ a: '1', b: '2' }, { b: null, c: '3', gone: null }), { a: '1', c: '3' });
  fails(t, 'ERR_INVALID_NAME', () => applyLabels({}, { 'a b': 'x' }), 'a b');
  const odd = JSON.parse('{"__proto__":"1"}') as Record<string, string>;
  fails(t, 'ERR_INVALID_NAME', () => applyLabels({}, odd), '__proto__');
  t.end();
});
