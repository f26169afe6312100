import t from 'tap';
import { hash64, macForAddr, macForBridge, macForVtep, parseMac } from '../../../core/mac.js';
import { fails } from './error-check.js';

t.test('a MAC is written in lower case', (t) => {
  t.equal(parseMac('02:00:0A:01:00:05'), '02:00:0a:01:00:05');
  t.equal(parseMac('fe:ff:ff:ff:ff:ff'), 'fe:ff:ff:ff:ff:ff');
  t.end();
});

t.test('what no endpoint can have is refused by field and value', (t) => {
  const wrong = [
    '',
    '02:00:0a:01:00',
    '02:00:0a:01:00:05:06',
    '2:0:a:1:0:5',
    '02-00-0a-01-00-05',
    '02000a010005',
    '02:00:0a:01:00:0g',
    '02:00:0a:01:00:05 ',
    '01:00:5e:00:00:01',
    '33:33:00:00:00:01',
    'ff:ff:ff:ff:ff:ff',
    '00:00:00:00:00:00',
  ];
  for (const text of wrong) fails(t, 'ERR_INVALID_MAC', () => parseMac(text, 'mac'), 'mac', JSON.stringify(text));
  t.end();
});

t.test('the hash is FNV-1a', (t) => {
  t.equal(hash64(''), 0xcbf29ce484222325n);
  t.equal(hash64('a'), 0xaf63dc4c8601ec8cn);
  t.equal(hash64('foobar'), 0x85944171f73967e8n);
  t.end();
});

t.test('an address keeps its MAC within a network and has another in another network', (t) => {
  t.equal(macForAddr('00000001', '10.1.0.5'), macForAddr('00000001', '10.1.0.5'));
  const macs = [
    macForAddr('00000001', '10.1.0.5'),
    macForAddr('00000001', '10.1.0.6'),
    macForAddr('00000002', '10.1.0.5'),
    macForAddr('00000001', 'fd00::5'),
    macForBridge('00000001', 'node-1'),
    macForBridge('00000001', 'node-2'),
    macForVtep('00000001', 'node-1'),
  ];
  t.equal(new Set(macs).size, macs.length, 'all are different');
  t.end();
});

t.test('50 000 derived MACs are valid, locally administered and different', (t) => {
  const macs = new Set<string>();
  let valid = 0;
  for (let index = 0; index < 50_000; index++) {
    const mac = macForAddr('0123abcd', `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`);
    macs.add(mac);
    if (parseMac(mac) === mac && (Number.parseInt(mac.slice(0, 2), 16) & 3) === 2) valid++;
  }
  t.equal(valid, 50_000);
  t.equal(macs.size, 50_000);
  t.end();
});
