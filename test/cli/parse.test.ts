import t from 'tap';
import { planRoute } from '../../cli/connection.js';
import type { CliContext } from '../../cli/context.js';
import { hasColor } from '../../cli/context.js';
import { escapeControls, formatRecord, formatTable } from '../../cli/output/table.js';
import {
  collectLabelChanges,
  collectList,
  collectPairs,
  formatDuration,
  parseDurationMs,
  parseServer,
  parseWhole,
} from '../../cli/parse.js';
import { matchAddresses, matchSubnets } from '../../cli/subnets.js';
import { parseTarget } from '../../cli/target.js';
import { frontend, lan } from './stub-api.js';

const cli = (env: Record<string, string> = {}): CliContext => ({
  env,
  cwd: '/srv',
  stdout: { write: () => undefined },
  stderr: { write: () => undefined },
  version: '0',
  libexecDir: '/',
});

t.test('a target is a process, a path made absolute, or a name in /run/netns', async (t) => {
  t.equal(parseTarget('pid:4711', '/srv'), 'pid:4711');
  t.equal(parseTarget('netns:/proc/1/ns/net', '/srv'), 'netns:/proc/1/ns/net');
  t.equal(parseTarget('netns:a/../b', '/srv'), 'netns:/srv/b');
  t.equal(parseTarget('blue', '/srv'), 'netns:/run/netns/blue');
  t.equal(parseTarget('blue.1', '/srv'), 'netns:/run/netns/blue.1');
});

t.test('a wrong target is refused with what to write instead', async (t) => {
  const hints: readonly [string, RegExp][] = [
    ['4711', /pid:4711/],
    ['pid:', /pid:4711/],
    ['pid:0', /pid:4711/],
    ['pid:01', /pid:4711/],
    ['pid:-1', /pid:4711/],
    ['netns:', /netns:\/proc/],
    ['/proc/1/ns/net', /netns:\/proc\/1\/ns\/net/],
    ['../x', /netns:\.\.\/x/],
    ['', /pid:N/],
    ['..', /pid:N/],
  ];
  for (const [text, hint] of hints) {
    t.throws(
      () => parseTarget(text, '/srv'),
      {
        code: 'ERR_INVALID_TARGET',
        message: `TARGET: "${text}" is neither pid:N, netns:PATH nor a name in /run/netns`,
        hint,
      },
      text,
    );
  }
  for (const pid of ['4194305', '99999999', '12345678901234567890']) {
    t.throws(() => parseTarget(`pid:${pid}`, '/srv'), {
      code: 'ERR_INVALID_TARGET',
      message: `TARGET: no process has the id ${pid}: 4194304 is the largest there is`,
    });
  }
});

t.test('gateways and ranges go to the subnet that contains them, in any order and either family', async (t) => {
  t.same(
    matchSubnets({
      subnet: ['10.1.0.0/24', 'fd00:1::/64'],
      gateway: ['fd00:1::fe', '10.1.0.254'],
      ipRange: ['10.1.0.128/25'],
    }),
    [
      { subnet: '10.1.0.0/24', gateway: '10.1.0.254', range: '10.1.0.128/25' },
      { subnet: 'fd00:1::/64', gateway: 'fd00:1::fe' },
    ],
  );
  t.same(matchSubnets({}), []);
  t.throws(() => matchSubnets({ gateway: ['10.1.0.1'] }), {
    code: 'ERR_USAGE',
    message: /^--gateway: 10\.1\.0\.1 needs a --subnet/,
  });
  t.throws(() => matchSubnets({ subnet: ['10.1.0.0/24'], gateway: ['10.2.0.1'] }), {
    code: 'ERR_USAGE',
    message: /none of the subnets 10\.1\.0\.0\/24/,
  });
  t.throws(() => matchSubnets({ subnet: ['10.1.0.0/24'], ipRange: ['10.1.0.0/16'] }), {
    code: 'ERR_USAGE',
    message: /^--ip-range: 10\.1\.0\.0\/16 is in none/,
  });
  t.throws(() => matchSubnets({ subnet: ['10.1.0.0/24'], gateway: ['10.1.0.1', '10.1.0.2'] }), {
    code: 'ERR_USAGE',
    message: /are both for 10\.1\.0\.0\/24/,
  });
  t.throws(() => matchSubnets({ subnet: ['10.1.0.0/24'], ipRange: ['10.1.0.0/25', '10.1.0.128/25'] }), {
    code: 'ERR_USAGE',
  });
  t.throws(() => matchSubnets({ subnet: ['10.1.0.5/24'] }), { code: 'ERR_INVALID_CIDR', message: /--subnet/ });
  t.throws(() => matchSubnets({ subnet: ['10.1.0.0/24'], gateway: ['010.1.0.1'] }), {
    code: 'ERR_INVALID_ADDRESS',
    message: /--gateway/,
  });
});

t.test('fixed addresses go to the network that has a subnet for them', async (t) => {
  t.same(matchAddresses(['198.18.4.9', 'fd74:736e::9', '10.64.1.1'], [frontend, lan]), [
    ['fd74:736e::9', '10.64.1.1'],
    ['198.18.4.9'],
  ]);
  t.throws(() => matchAddresses(['10.9.0.1'], [frontend, lan]), {
    code: 'ERR_ADDRESS_OUTSIDE_SUBNET',
    message: /10\.9\.0\.1 is in no subnet of frontend, lan/,
  });
});

t.test('labels are K=V, and K- removes where something can be removed', async (t) => {
  t.same(collectPairs('a=b=c', collectPairs('x=')), { x: '', a: 'b=c' });
  t.throws(() => collectPairs('a'), /KEY=VALUE/);
  t.throws(() => collectPairs('=a'), /KEY=VALUE/);
  t.same(collectLabelChanges('old-', collectLabelChanges('a=1-')), { a: '1-', old: null });
  t.throws(() => collectLabelChanges('a'), /KEY-/);
  t.throws(() => collectLabelChanges('-'), /KEY-/);
  t.same(Object.entries(collectPairs('__proto__=x')), [['__proto__', 'x']], 'no key reaches a prototype');
});

t.test('lists, numbers, durations and places are read strictly', async (t) => {
  t.same(collectList('a, b', ['c']), ['c', 'a', 'b']);
  t.throws(() => collectList('a,,b'));
  t.equal(parseWhole(1, 65_535)('4789'), 4789);
  for (const text of ['0', '65536', '-1', '1.5', '0x10', '007', '', '1e3'])
    t.throws(() => parseWhole(1, 65_535)(text), text);
  t.same(['500ms', '10s', '2m', '1h'].map(parseDurationMs), [500, 10_000, 120_000, 3_600_000]);
  for (const text of ['10', '0s', 's', '-1s', '1.5s', '10 s']) t.throws(() => parseDurationMs(text), text);
  t.same([500, 10_000, 120_000, 3_600_000, 90_000, 0].map(formatDuration), ['500ms', '10s', '2m', '1h', '90s', '0ms']);
  t.equal(parseServer('unix:a.sock', '/srv'), 'unix:/srv/a.sock');
  t.equal(parseServer('http://[::1]:7420', '/srv'), 'http://[::1]:7420');
  for (const text of ['https://a', 'a:1', '127.0.0.1', 'unix:', ''])
    t.throws(() => parseServer(text, '/srv'), { code: 'ERR_USAGE' }, text);
});

t.test('a named controller wins over the agent, the agent over the default controller', async (t) => {
  const none = (): boolean => false;
  const there = (path: string): boolean => path === '/run/tsnet/agent.sock';
  t.match(planRoute(cli({ TSNET_AGENT_SOCKET: '/a' }), { controller: 'http://c:1,unix:b' }, there), {
    to: 'controllers',
    bases: ['http://c:1', 'unix:/srv/b'],
  });
  t.same(planRoute(cli({ TSNET_AGENT_SOCKET: 'x.sock' }), {}, there), { to: 'agent', socket: '/srv/x.sock' });
  t.same(planRoute(cli(), {}, there), { to: 'agent', socket: '/run/tsnet/agent.sock' });
  t.match(planRoute(cli(), { controller: '' }, none), { to: 'controllers', bases: ['http://127.0.0.1:7420'] });
});

t.test('tables are aligned, and what others named cannot drive the terminal', async (t) => {
  const columns = [
    { title: 'A', cell: (row: readonly string[]) => row[0] ?? '' },
    { title: 'WIDE', wide: true, cell: () => 'w' },
    { title: 'B', cell: (row: readonly string[]) => row[1] ?? '' },
  ];
  t.equal(
    formatTable(
      [
        ['long', ''],
        ['x', 'y'],
      ],
      columns,
      false,
    ),
    'A     B\nlong  -\nx     y\n',
  );
  t.equal(formatTable([['x', 'y']], columns, true), 'A  WIDE  B\nx  w     y\n');
  t.equal(formatRecord(['x', ''], columns), 'A     x\nWIDE  w\nB     -\n');
  t.equal(escapeControls('a\u001b[2J\n\u009b\u202eb'), 'a\\x1b[2J\\x0a\\x9b\\u202eb');
  t.equal(escapeControls('Zoë 網'), 'Zoë 網');
});

t.test('colour is for terminals without NO_COLOR', async (t) => {
  const terminal = { write: () => undefined, isTTY: true };
  t.ok(hasColor(terminal, {}));
  t.ok(hasColor(terminal, { NO_COLOR: '' }));
  t.notOk(hasColor(terminal, { NO_COLOR: '1' }));
  t.notOk(hasColor(terminal, { TERM: 'dumb' }));
  t.notOk(hasColor({ write: () => undefined }, {}));
});
