import t from 'tap';
import * as keys from '../../core/keys.js';

void t.test('every key built is read back as what it was', async (t) => {
  const cases: readonly (readonly [string, keys.Key])[] = [
    [keys.epochKey, { kind: 'epoch' }],
    [keys.settingsKey, { kind: 'settings' }],
    [keys.subnetsGuardKey, { kind: 'subnets-guard' }],
    [keys.publishedGuardKey, { kind: 'published-guard' }],
    [keys.networkKey('0123abcd'), { kind: 'network', id: '0123abcd' }],
    [keys.nameKey('front_end.1'), { kind: 'name', name: 'front_end.1' }],
    [keys.vniKey(8_388_608), { kind: 'vni', vni: 8_388_608 }],
    [keys.blocksGuardKey('0123abcd'), { kind: 'blocks-guard', network: '0123abcd' }],
    [keys.blockKey('0123abcd', '10.1.0.0/29'), { kind: 'block', network: '0123abcd', cidr: '10.1.0.0/29' }],
    [keys.blockKey('0123abcd', 'fd00:1::/112'), { kind: 'block', network: '0123abcd', cidr: 'fd00:1::/112' }],
    [keys.hostKey('node-1.example'), { kind: 'host', host: 'node-1.example' }],
    [keys.livenessKey('node-1'), { kind: 'liveness', host: 'node-1' }],
    [keys.carrierKey('0123abcd', 'node-1'), { kind: 'carrier', network: '0123abcd', host: 'node-1' }],
    [
      keys.endpointKey('0123abcd', '0011223344556677'),
      { kind: 'endpoint', network: '0123abcd', id: '0011223344556677' },
    ],
    [keys.addressKey('0123abcd', 'fd00::5'), { kind: 'address', network: '0123abcd', address: 'fd00::5' }],
    [keys.macKey('0123abcd', '02:00:0a:01:00:05'), { kind: 'mac', network: '0123abcd', mac: '02:00:0a:01:00:05' }],
    [keys.carveKey('node-1', '0011223344556677'), { kind: 'carve', owner: 'node-1', id: '0011223344556677' }],
    [
      keys.carveAnswerKey('node-1', '0011223344556677'),
      { kind: 'carve-answer', owner: 'node-1', id: '0011223344556677' },
    ],
    [keys.removedKey('0123abcd'), { kind: 'removed', network: '0123abcd' }],
    [keys.tokenKey('admin', 'ff00'), { kind: 'token', role: 'admin', hash: 'ff00' }],
  ];
  for (const [text, key] of cases) {
    t.same(keys.parseKey(text), key, text);
    t.ok(text.startsWith(keys.keyPrefix));
  }
  t.equal(new Set(cases.map(([text]) => text)).size, cases.length, 'no two the same');
});

void t.test('what is not a key of tsnet is none', async (t) => {
  for (const text of [
    '',
    '/',
    '/tsnet/v2/epoch',
    '/tsnet/v1/',
    '/tsnet/v1/networks/',
    '/tsnet/v1/networks',
    '/tsnet/v1/vnis/x',
    '/tsnet/v1/blocks/a/b/c',
    '/tsnet/v1/unknown/a',
  ]) {
    t.equal(keys.parseKey(text), undefined, text);
  }
});
