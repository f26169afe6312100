import t from 'tap';
import {
  addrAt,
  canonicalAddr,
  canonicalPrefix,
  checkSubnet,
  compareAddr,
  containsAddr,
  containsPrefix,
  formatAddr,
  formatPrefix,
  intersectPrefix,
  isAddrText,
  isLinkLocal,
  isLoopback,
  isMulticast,
  isUnspecified,
  lastAddr,
  offsetOf,
  overlaps,
  parseAddr,
  parsePrefix,
  prefixSize,
} from '../../../core/addr.js';
import { TsnetError } from '../../../core/errors.js';
import { fails } from './error-check.js';

t.test('addresses are written in one canonical form', (t) => {
  const forms = [
    ['10.1.0.5', '10.1.0.5'],
    ['255.255.255.255', '255.255.255.255'],
    ['0.0.0.0', '0.0.0.0'],
    ['::', '::'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['FD00:0:0:0:0:0:0:5', 'fd00::5'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['2001:0db8::0001', '2001:db8::1'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
    ['::ffff:1.2.3.4', '::ffff:102:304'],
    ['64:ff9b::192.168.0.1', '64:ff9b::c0a8:1'],
    ['1:2:3:4:5:6:1.2.3.4', '1:2:3:4:5:6:102:304'],
  ] as const;
  for (const [text, canonical] of forms) t.equal(canonicalAddr(text), canonical, text);
  t.end();
});

t.test('an ambiguous or malformed address is refused by field and value', (t) => {
  const wrong = [
    '',
    ' ',
    '1',
    '10.1.1',
    '10.1.1.1.1',
    '010.1.1.1',
    '10.1.1.01',
    '10.1.1.256',
    '10.1.1.-1',
    '0x0a.1.1.1',
    '10.1.1.1 ',
    '10.1.1.1/24',
    '1.2.3.4:',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7::8',
    '::12345',
    'fe80::1%eth0',
    '::g',
    '1.2.3.4::',
    '::1.2.3.4:5',
    '::1.2.3',
    '1:2:3:4:5:6:7:1.2.3.4',
    '[::1]',
    '１.2.3.4',
    `${'0'.repeat(100)}::`,
  ];
  for (const text of wrong) {
    t.notOk(isAddrText(text), text);
    fails(
      t,
      'ERR_INVALID_ADDRESS',
      () => parseAddr(text, 'gateway'),
      'gateway',
      JSON.stringify(text).slice(1, 20).replace(/"$/, ''),
    );
  }
  t.end();
});

t.test('a long value is cut in the message and the details', (t) => {
  try {
    parseAddr('x'.repeat(10_000));
    t.fail('parsed');
  } catch (error) {
    t.ok(error instanceof TsnetError && error.message.length < 200);
    t.ok(error instanceof TsnetError && String(error.details.value).length <= 64);
  }
  t.end();
});

t.test('a subnet with host bits is refused and the right one named', (t) => {
  for (const [text, corrected] of [
    ['10.1.0.5/24', '10.1.0.0/24'],
    ['fd00::5/64', 'fd00::/64'],
  ] as const) {
    fails(t, 'ERR_INVALID_CIDR', () => parsePrefix(text), 'subnet', text, corrected);
    try {
      parsePrefix(text);
    } catch (error) {
      t.match(error, { hint: `Write ${corrected}.`, details: { corrected } });
    }
  }
  t.end();
});

t.test('a malformed subnet is refused', (t) => {
  const wrong = [
    '10.1.0.0',
    '10.1.0.0/',
    '10.1.0.0/33',
    'fd00::/129',
    '10.1.0.0/024',
    '10.1.0.0/-1',
    '/24',
    '10.1.0.0/24/24',
    '10.0/8',
    '10.1.0.0/2 4',
    '10.1.0.0/1e1',
  ];
  for (const text of wrong) fails(t, 'ERR_INVALID_CIDR', () => parsePrefix(text, 'range'), 'range', text);
  t.end();
});

t.test('prefixes know what they hold', (t) => {
  const subnet = parsePrefix('10.1.0.0/24');
  const v6 = parsePrefix('fd00:1::/64');
  t.equal(prefixSize(subnet), 256n);
  t.equal(prefixSize(v6), 1n << 64n);
  t.equal(prefixSize(parsePrefix('0.0.0.0/0')), 1n << 32n);
  t.ok(containsAddr(subnet, parseAddr('10.1.0.255')));
  t.notOk(containsAddr(subnet, parseAddr('10.1.1.0')));
  t.notOk(containsAddr(parsePrefix('::/0'), parseAddr('10.1.0.1')), 'never across families');
  t.ok(containsPrefix(parsePrefix('0.0.0.0/0'), subnet));
  t.ok(containsPrefix(subnet, subnet));
  t.notOk(containsPrefix(parsePrefix('10.1.0.0/25'), subnet));
  t.ok(overlaps(parsePrefix('10.0.0.0/8'), subnet) && overlaps(subnet, parsePrefix('10.0.0.0/8')));
  t.notOk(overlaps(subnet, parsePrefix('10.1.1.0/24')));
  t.notOk(overlaps(parsePrefix('0.0.0.0/0'), parsePrefix('::/0')));
  t.same(intersectPrefix(subnet, parsePrefix('10.1.0.64/26')), parsePrefix('10.1.0.64/26'));
  t.equal(intersectPrefix(subnet, v6), null);
  t.equal(formatAddr(addrAt(v6, 0x10005n)), 'fd00:1::1:5');
  t.equal(formatAddr(addrAt(subnet, 255)), '10.1.0.255');
  t.throws(() => addrAt(subnet, 256), RangeError);
  t.throws(() => addrAt(subnet, -1), RangeError);
  t.equal(offsetOf(subnet, parseAddr('10.1.0.7')), 7n);
  t.equal(formatAddr(lastAddr(v6)), 'fd00:1::ffff:ffff:ffff:ffff');
  t.equal(canonicalPrefix('FD00:1:0::/64'), 'fd00:1::/64');
  t.equal(formatPrefix(parsePrefix('0.0.0.0/0')), '0.0.0.0/0');
  t.end();
});

t.test('addresses sort by family, then by value', (t) => {
  const texts = ['fd00::1', '10.1.0.10', '::1', '10.1.0.9', '9.255.0.0'];
  const sorted = texts
    .map((text) => parseAddr(text))
    .sort(compareAddr)
    .map(formatAddr);
  t.same(sorted, ['9.255.0.0', '10.1.0.9', '10.1.0.10', '::1', 'fd00::1']);
  t.end();
});

t.test('addresses with a meaning of their own are told apart', (t) => {
  t.ok(
    isMulticast(parseAddr('224.0.0.1')) &&
      isMulticast(parseAddr('239.255.255.255')) &&
      isMulticast(parseAddr('ff02::1')),
  );
  t.notOk(
    isMulticast(parseAddr('223.255.255.255')) ||
      isMulticast(parseAddr('240.0.0.0')) ||
      isMulticast(parseAddr('fe00::')),
  );
  t.ok(isLoopback(parseAddr('127.1.2.3')) && isLoopback(parseAddr('::1')));
  t.notOk(isLoopback(parseAddr('128.0.0.1')) || isLoopback(parseAddr('::2')));
  t.ok(isLinkLocal(parseAddr('169.254.1.1')) && isLinkLocal(parseAddr('febf::1')));
  t.notOk(isLinkLocal(parseAddr('169.253.1.1')) || isLinkLocal(parseAddr('fec0::1')));
  t.ok(isUnspecified(parseAddr('0.0.0.0')) && isUnspecified(parseAddr('::')));
  t.notOk(isUnspecified(parseAddr('0.0.0.1')));
  t.end();
});

t.test('ranges with a meaning of their own cannot be subnets', (t) => {
  for (const text of ['10.0.0.0/8', '192.168.7.0/24', '100.64.0.0/10', 'fd00::/8', '2001:db8::/32', '172.16.0.0/30']) {
    t.doesNotThrow(() => checkSubnet(parsePrefix(text)), text);
  }
  const wrong = [
    '0.0.0.0/0',
    '0.1.0.0/16',
    '127.0.0.0/24',
    '169.254.8.0/24',
    '224.0.0.0/24',
    '240.0.0.0/8',
    '255.255.255.0/24',
    '128.0.0.0/1',
    '::/0',
    '::/64',
    '::1/128',
    '::ffff:0:0/96',
    '64:ff9b::/96',
    'fe80::/64',
    'ff05::/16',
    'fc00::/6',
  ];
  for (const text of wrong)
    fails(t, 'ERR_INVALID_CIDR', () => checkSubnet(parsePrefix(text), 'subnets[0]'), 'subnets[0]', text);
  t.end();
});
