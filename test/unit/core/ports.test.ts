import t from 'tap';
import { checkPort, formatPort, parsePortSpec, portsConflict } from '../../../core/ports.js';

const read = (text: string): string => formatPort(checkPort(parsePortSpec(text)));

t.test('what is written is read, and what is left out follows', (t) => {
  const readings: readonly (readonly [string, string])[] = [
    ['8080:80', '8080:80/tcp'],
    ['8080:80/udp', '8080:80/udp'],
    ['8080:80/sctp', '8080:80/sctp'],
    [':8080:80', '8080:80/tcp'],
    ['0:80', '0:80/tcp'],
    ['0:80-89', '0:80-89/tcp'],
    ['1-65535:1-65535', '1-65535:1-65535/tcp'],
    ['1000-1009:2000', '1000-1009:2000-2009/tcp'],
    ['127.0.0.1:53:53/udp', '127.0.0.1:53:53/udp'],
    ['[2001:DB8::0:1]:53:53', '[2001:db8::1]:53:53/tcp'],
  ];
  for (const [text, expected] of readings) t.equal(read(text), expected, text);
  t.end();
});

t.test('what is no mapping is refused, naming what is wrong', (t) => {
  const refusals: readonly (readonly [string, string, RegExp])[] = [
    ['65536:80', 'ERR_INVALID_PORT', /host port 65536 is not from 0 to 65535/],
    ['80:65536', 'ERR_INVALID_PORT', /port 65536 is not from 1 to 65535/],
    ['80:0', 'ERR_INVALID_PORT', /port 0 is not from 1 to 65535/],
    ['65000-65536:65000-65536', 'ERR_INVALID_PORT', /range 65000-65536/],
    ['90-80:90-80', 'ERR_INVALID_PORT', /range 90-80/],
    ['80-90:80-91', 'ERR_INVALID_PORT', /11 and 12 ports/],
    ['80-90:80-80', 'ERR_INVALID_PORT', /11 and 1 ports/],
    ['0-9:80', 'ERR_INVALID_PORT', /host port 0/],
    ['80:80/icmp', 'ERR_INVALID_PORT', /protocol "icmp".*tcp, udp and sctp/],
    ['80:80/TCP', 'ERR_INVALID_PORT', /protocol "TCP"/],
    ['80:80/', 'ERR_INVALID_PORT', /protocol ""/],
    ['80', 'ERR_INVALID_PORT', /no mapping of ports/],
    ['-1:80', 'ERR_INVALID_PORT', /no mapping of ports/],
    ['80:http', 'ERR_INVALID_PORT', /no mapping of ports/],
    ['1.5:80', 'ERR_INVALID_PORT', /no mapping of ports/],
    ['', 'ERR_INVALID_PORT', /no mapping of ports/],
    ['::1:80:80', 'ERR_INVALID_PORT', /no mapping of ports/],
    ['10.0.0.300:80:80', 'ERR_INVALID_ADDRESS', /10\.0\.0\.300/],
    ['localhost:80:80', 'ERR_INVALID_ADDRESS', /localhost/],
    ['0.0.0.0:80:80', 'ERR_INVALID_ADDRESS', /leave it out/],
    ['[::]:80:80', 'ERR_INVALID_ADDRESS', /leave it out/],
    ['224.0.0.1:80:80', 'ERR_INVALID_ADDRESS', /224\.0\.0\.1/],
  ];
  for (const [text, code, message] of refusals) t.throws(() => read(text), { code, message }, JSON.stringify(text));
  t.throws(() => read('1'.repeat(1000)), { code: 'ERR_INVALID_PORT' }, 'a long text');
  t.end();
});

t.test('two mappings conflict when one packet could be meant for both', (t) => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['8080:80', '8080:81', true],
    ['8080:80', '8081:80', false],
    ['8080:80', '8080:80/udp', false],
    ['8080:80', '10.0.0.1:8080:80', true],
    ['8080:80', '[2001:db8::1]:8080:80', true],
    ['10.0.0.1:8080:80', '10.0.0.1:8080:80', true],
    ['10.0.0.1:8080:80', '10.0.0.2:8080:80', false],
    ['10.0.0.1:8080:80', '[2001:db8::1]:8080:80', false],
    ['8000-8099:8000', '8099-8200:1000', true],
    ['8000-8099:8000', '8100-8200:1000', false],
    ['8000-8099:8000', '8050:1', true],
  ];
  for (const [a, b, expected] of cases) {
    const [one, other] = [checkPort(parsePortSpec(a)), checkPort(parsePortSpec(b))];
    t.equal(portsConflict(one, other), expected, `${a} and ${b}`);
    t.equal(portsConflict(other, one), expected, `${b} and ${a}`);
  }
  t.end();
});
