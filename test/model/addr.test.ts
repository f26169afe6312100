import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Address4, Address6 } from 'ip-address';
import t from 'tap';
import {
  addrAt,
  addrWidth,
  containsAddr,
  containsPrefix,
  formatAddr,
  formatPrefix,
  isAddrText,
  lastAddr,
  offsetOf,
  overlaps,
  parseAddr,
  parsePrefix,
  prefixOf,
} from '../../core/addr.js';
import type { Addr } from '../../core/addr.js';
import { TsnetError } from '../../core/errors.js';
import { holds } from './holds.js';

/** Groups with many zeros, since those decide what is compressed. */
const group = fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: 0, max: 0xffff }));
const v6Value = fc
  .array(group, { minLength: 8, maxLength: 8 })
  .map((groups) => groups.reduce((value, part) => (value << 16n) | BigInt(part), 0n));
const anyAddr: fc.Arbitrary<Addr> = fc.oneof(
  fc.record(
    { family: fc.constant(4 as const), value: fc.bigInt({ min: 0n, max: (1n << 32n) - 1n }) },
    { noNullPrototype: true },
  ),
  fc.record({ family: fc.constant(6 as const), value: v6Value }, { noNullPrototype: true }),
);
const anyPrefix = fc
  .tuple(anyAddr, fc.nat(128))
  .map(([addr, length]) => prefixOf(addr, length % (addrWidth(addr.family) + 1)));

t.test('writing and reading an address gives the same address', (t) => {
  holds(
    t,
    fc.property(anyAddr, (addr) => {
      assert.deepEqual(parseAddr(formatAddr(addr)), addr);
    }),
  );
  t.end();
});

t.test('an address is written as another implementation writes it', (t) => {
  holds(
    t,
    fc.property(anyAddr, (addr) => {
      const other = addr.family === 4 ? Address4.fromBigInt(addr.value) : Address6.fromBigInt(addr.value);
      assert.equal(formatAddr(addr), other.correctForm());
    }),
    1000,
  );
  t.end();
});

t.test('an IPv6 text is taken exactly when another implementation takes it, and means the same', (t) => {
  const piece = fc.constantFrom('::', ':', ':', '0', '1', 'ff', 'FFFF', '0db8', '12345', 'g', '1.2.3.4', '.');
  let taken = 0;
  holds(
    t,
    fc.property(fc.array(piece, { minLength: 2, maxLength: 17 }), (pieces) => {
      const text = pieces.join('');
      if (!text.includes(':') || text.length > 45) return;
      const isValid = Address6.isValid(text);
      assert.equal(isAddrText(text), isValid, text);
      if (!isValid) return;
      taken++;
      assert.equal(parseAddr(text).value, new Address6(text).bigInt(), text);
    }),
    20_000,
  );
  t.ok(taken > 50, `${taken} valid texts were among them`);
  t.end();
});

t.test('any text is read or refused with a typed error', (t) => {
  const near = fc.string({ unit: fc.constantFrom(...'0123456789abcdefx.:/% -'), maxLength: 50 });
  holds(
    t,
    fc.property(fc.oneof(fc.string(), near), (text) => {
      for (const parse of [parseAddr, parsePrefix]) {
        try {
          parse(text);
        } catch (error) {
          assert.ok(error instanceof TsnetError);
        }
      }
    }),
    2000,
  );
  t.end();
});

t.test('a prefix holds exactly the addresses from its first to its last', (t) => {
  holds(
    t,
    fc.property(anyPrefix, anyAddr, fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), (prefix, addr, random) => {
      assert.deepEqual(parsePrefix(formatPrefix(prefix)), prefix);
      const last = lastAddr(prefix);
      assert.ok(containsAddr(prefix, last));
      const isBetween = addr.family === prefix.family && addr.value >= prefix.base && addr.value <= last.value;
      assert.equal(containsAddr(prefix, addr), isBetween);
      const offset = random % (last.value - prefix.base + 1n);
      const inside = addrAt(prefix, offset);
      assert.ok(containsAddr(prefix, inside));
      assert.equal(offsetOf(prefix, inside), offset);
    }),
  );
  t.end();
});

t.test('two prefixes overlap exactly when one holds an end of the other', (t) => {
  holds(
    t,
    fc.property(anyPrefix, anyPrefix, fc.nat(128), (a, other, length) => {
      const near = prefixOf(lastAddr(a), length % (addrWidth(a.family) + 1));
      for (const b of [other, near]) {
        const shares = a.family === b.family && a.base <= lastAddr(b).value && b.base <= lastAddr(a).value;
        assert.equal(overlaps(a, b), shares);
        const holds = a.family === b.family && a.base <= b.base && lastAddr(b).value <= lastAddr(a).value;
        assert.equal(containsPrefix(a, b), holds);
      }
    }),
  );
  t.end();
});
