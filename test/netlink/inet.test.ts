import { isIP, isIPv4 } from 'node:net';
import fc from 'fast-check';
import { Address6 } from 'ip-address';
import t from 'tap';
import { Reader } from '../../lib/bytes/reader.js';
import { EncodeError, Writer } from '../../lib/bytes/writer.js';
import {
  decodeInet,
  encodeInet,
  readInet,
  readLladdr,
  splitPrefix,
  writeInet,
  writeLladdr,
} from '../../lib/netlink/inet.js';

function written(write: (writer: Writer) => void): Buffer {
  const writer = new Writer(1);
  write(writer);
  return Buffer.from(writer.written());
}

t.test('every 4 or 16 bytes survive being formatted and parsed', async (t) => {
  const bytes = fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
    fc.array(fc.constantFrom(0, 0, 0, 1, 255), { minLength: 16, maxLength: 16 }).map((list) => Uint8Array.from(list)),
  );
  fc.assert(
    fc.property(bytes, (value) => {
      const text = decodeInet(value) ?? '';
      const back = encodeInet(text);
      const reader = new Reader(Buffer.from(value), 'address');
      return (
        isIP(text) === (value.length === 4 ? 4 : 6) &&
        Buffer.compare(back, value) === 0 &&
        readInet(reader) === text &&
        Buffer.compare(
          written((writer) => writeInet(writer, text)),
          value,
        ) === 0
      );
    }),
    { numRuns: 2000 },
  );
  t.equal(decodeInet(new Uint8Array(5)), undefined);
});

t.test('IPv6 text is what an independent library calls the correct form', async () => {
  const bytes = fc.array(fc.constantFrom(0, 0, 0, 0, 0x0a, 0xff), { minLength: 16, maxLength: 16 });
  fc.assert(
    fc.property(bytes, (list) => {
      const hex = Buffer.from(list)
        .toString('hex')
        .replace(/(.{4})(?!$)/g, '$1:');
      const text = decodeInet(Uint8Array.from(list)) ?? '';
      return text.includes('.') || text === new Address6(hex).correctForm();
    }),
    { numRuns: 2000 },
  );
});

t.test('what is no address for Node is refused, and what is one is taken', async () => {
  const unit = fc.constantFrom(...'0123456789abcdefF:.:.::g% /'.split(''), '::', '255', '256', '01', 'ffff', '1.2.3.4');
  fc.assert(
    fc.property(fc.array(unit, { maxLength: 12 }), (units) => {
      const text = units.join('');
      try {
        return encodeInet(text).length === (isIPv4(text) ? 4 : 16) && isIP(text) !== 0;
      } catch (error) {
        return error instanceof EncodeError && (isIP(text) === 0 || text.includes('%'));
      }
    }),
    { numRuns: 20000 },
  );
});

t.test('known texts of RFC 5952 come out as it demands', async (t) => {
  const cases: [string, string][] = [
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:0DB8::0001', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::ffff:10.1.0.5', '::ffff:10.1.0.5'],
    ['1::', '1::'],
    ['0:0:1::', '0:0:1::'],
  ];
  for (const [text, correct] of cases) t.equal(decodeInet(encodeInet(text)), correct, text);
});

t.test('a leading zero, a zone and a bad prefix length are refused with what and which', async (t) => {
  for (const text of ['010.1.1.1', '10.1.1', '10.1.1.1.1', '1.2.3.256', 'fe80::1%eth0', ':::', '1:2:3:4:5:6:7', '']) {
    t.throws(() => encodeInet(text), { name: 'EncodeError', value: text });
    t.throws(() => written((writer) => writeInet(writer, text)), { name: 'EncodeError', value: text });
  }
  for (const text of ['10.0.0.0/33', 'fd00::/129', '10.0.0.0/', '10.0.0.0/08', '10.0.0.0/-1', '10.0.0.0/1e1']) {
    t.throws(() => splitPrefix(text), { name: 'EncodeError', value: text });
  }
  t.same(splitPrefix('10.0.0.0/8'), { address: '10.0.0.0', length: 8 });
  t.same(splitPrefix('10.0.0.5'), { address: '10.0.0.5', length: 32 });
  t.same(splitPrefix('fd00::5'), { address: 'fd00::5', length: 128 });
});

t.test('link-layer addresses of any length survive, and other texts are refused', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 20 }), (value) => {
      const text = readLladdr(new Reader(Buffer.from(value), 'lladdr'));
      return (
        Buffer.compare(
          written((writer) => writeLladdr(writer, text)),
          value,
        ) === 0
      );
    }),
  );
  for (const text of ['02-00-00', '0g:00:00', '2:0:0', '02:00:', ':02:00']) {
    t.throws(() => written((writer) => writeLladdr(writer, text)), { name: 'EncodeError', value: text });
  }
});
