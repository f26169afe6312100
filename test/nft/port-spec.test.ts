import fc from 'fast-check';
import t from 'tap';
import type { PortMapping } from '../../core/model.js';
import { checkPort, checkPorts, formatPort, isSamePorts, parsePortSpec, portsConflict } from '../../core/ports.js';

t.test('what users write is read', (t) => {
  const rows: readonly (readonly [string, string])[] = [
    ['8080:80', '8080:80/tcp'],
    ['8080:80/udp', '8080:80/udp'],
    ['0:80', '0:80/tcp'],
    ['127.0.0.1:8080:80/sctp', '127.0.0.1:8080:80/sctp'],
    ['[2001:DB8::1]:8080:80', '[2001:db8::1]:8080:80/tcp'],
    ['1000-1009:2000-2009', '1000-1009:2000-2009/tcp'],
    ['1000-1009:2000', '1000-1009:2000-2009/tcp'],
    ['1000:2000-2009', '1000-1009:2000-2009/tcp'],
    ['0:2000-2009/udp', '0:2000-2009/udp'],
    [':8080:80', '8080:80/tcp'],
    ['65535:65535', '65535:65535/tcp'],
  ];
  for (const [text, expected] of rows) t.equal(formatPort(checkPort(parsePortSpec(text))), expected, text);
  t.end();
});

t.test('what is none is refused, with the field', (t) => {
  const rows: readonly (readonly [string, string])[] = [
    ['', 'ERR_INVALID_PORT'],
    ['80', 'ERR_INVALID_PORT'],
    ['x:80', 'ERR_INVALID_PORT'],
    ['80:0', 'ERR_INVALID_PORT'],
    ['65536:80', 'ERR_INVALID_PORT'],
    ['80:65536', 'ERR_INVALID_PORT'],
    ['80:80/icmp', 'ERR_INVALID_PORT'],
    ['80:80/', 'ERR_INVALID_PORT'],
    ['1000-1009:2000-2008', 'ERR_INVALID_PORT'],
    ['1009-1000:2000-2009', 'ERR_INVALID_PORT'],
    ['65530-65535:65531-65536', 'ERR_INVALID_PORT'],
    ['65535:1-2', 'ERR_INVALID_PORT'],
    ['0-5:80', 'ERR_INVALID_PORT'],
    ['1.2.3:80:80', 'ERR_INVALID_ADDRESS'],
    ['0.0.0.0:80:80', 'ERR_INVALID_ADDRESS'],
    ['[::]:80:80', 'ERR_INVALID_ADDRESS'],
    ['224.0.0.1:80:80', 'ERR_INVALID_ADDRESS'],
    ['2001:db8::1:80:80', 'ERR_INVALID_PORT'],
    ['9'.repeat(500), 'ERR_INVALID_PORT'],
  ];
  for (const [text, code] of rows) t.throws(() => parsePortSpec(text), { code }, text.slice(0, 40));
  t.end();
});

const port = fc.integer({ min: 1, max: 100 });
const mapping: fc.Arbitrary<PortMapping> = fc
  .record({
    hostPort: port,
    port,
    length: fc.nat({ max: 5 }),
    hostAddress: fc.constantFrom(null, '10.0.0.1', '10.0.0.2'),
    protocol: fc.constantFrom('tcp', 'udp'),
  })
  .map(({ hostPort, port: inner, length, hostAddress, protocol }) => ({
    hostAddress,
    hostPort,
    hostPortEnd: hostPort + length,
    port: inner,
    portEnd: inner + length,
    protocol,
  }));

t.test('text and mapping are each other’s', (t) => {
  fc.assert(
    fc.property(mapping, (value) => formatPort(checkPort(parsePortSpec(formatPort(value)))) === formatPort(value)),
  );
  t.pass();
  t.end();
});

t.test('two mappings conflict exactly when some packet is for both', (t) => {
  const isFor = (value: PortMapping, address: string, number: number): boolean =>
    value.hostPort <= number &&
    number <= value.hostPortEnd &&
    (value.hostAddress === null || value.hostAddress === address);
  fc.assert(
    fc.property(mapping, mapping, (a, b) => {
      let both = false;
      for (const address of ['10.0.0.1', '10.0.0.2', '10.0.0.3']) {
        for (let number = 1; number <= 106; number++) both ||= isFor(a, address, number) && isFor(b, address, number);
      }
      const expected = both && a.protocol === b.protocol;
      const isRefused = (): boolean => {
        try {
          checkPorts([a, b]);
          return false;
        } catch {
          return true;
        }
      };
      return portsConflict(a, b) === expected && portsConflict(b, a) === expected && isRefused() === expected;
    }),
  );
  t.pass();
  t.end();
});

t.test('a repeated request is the same one, whichever port was chosen', (t) => {
  const asked = checkPorts([{ hostPort: 0, port: 80 }]);
  const held: PortMapping = {
    hostAddress: null,
    hostPort: 50_000,
    hostPortEnd: 50_000,
    port: 80,
    portEnd: 80,
    protocol: 'tcp',
  };
  t.ok(isSamePorts([held], asked));
  t.notOk(isSamePorts([{ ...held, port: 81, portEnd: 81 }], asked));
  t.notOk(isSamePorts([], asked));
  t.end();
});
