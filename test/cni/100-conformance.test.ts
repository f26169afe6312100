import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { supportedVersions } from '../../cni-plugin/version.js';
import { errorOf, referenceDir, runPlugin, shimPath, type PluginResult } from './program.js';

/**
 * What runtimes see of every plugin that is made with the reference library: each row is run against ours and, where
 * Debian's plugin of that age knows the verb, against the reference, so that a wrong expectation shows.
 */
interface Row {
  readonly name: string;
  readonly env: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly code: number;
  readonly msg: string | RegExp;
  readonly details?: string | RegExp;
  /** Why the reference answers otherwise. */
  readonly onlyOurs?: string;
}

const reference = join(referenceDir, 'host-local');
const folder = mkdtempSync(join(tmpdir(), 'tsnet-cni-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const base = { CNI_CONTAINERID: 'c1', CNI_NETNS: '/run/netns/none', CNI_IFNAME: 'eth0', CNI_PATH: referenceDir };
const config = (more: object = {}): string =>
  JSON.stringify({
    cniVersion: '1.0.0',
    name: 'net',
    type: 'tsnet',
    agentSocket: join(folder, 'agent.sock'),
    ipam: { type: 'host-local', subnet: '10.77.0.0/24', dataDir: join(folder, 'host-local') },
    ...more,
  });
const add = { CNI_COMMAND: 'ADD', ...base };
const ifname = (name: string): Record<string, string> => ({ ...add, CNI_IFNAME: name });
const badIfname = 'interface name contains / or : or whitespace characters';
const old = 'Debian’s plugins know no 1.1.0';

const rows: readonly Row[] = [
  {
    name: 'an unknown verb',
    env: { ...add, CNI_COMMAND: 'NOPE' },
    stdin: config(),
    code: 4,
    msg: 'unknown CNI_COMMAND: NOPE',
  },
  {
    name: 'an unknown verb without a configuration',
    env: { ...add, CNI_COMMAND: 'NOPE' },
    stdin: '',
    code: 6,
    msg: /^error unmarshall network config/,
  },
  {
    name: 'verbs are upper case',
    env: { ...add, CNI_COMMAND: 'add' },
    stdin: config(),
    code: 4,
    msg: 'unknown CNI_COMMAND: add',
  },
  {
    name: 'ADD with an id only',
    env: { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c1' },
    code: 4,
    msg: 'required env variables [CNI_NETNS,CNI_IFNAME,CNI_PATH] missing',
  },
  {
    name: 'ADD with nothing',
    env: { CNI_COMMAND: 'ADD' },
    code: 4,
    msg: 'required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing',
  },
  {
    name: 'DEL with nothing needs no sandbox',
    env: { CNI_COMMAND: 'DEL' },
    code: 4,
    msg: 'required env variables [CNI_CONTAINERID,CNI_IFNAME,CNI_PATH] missing',
  },
  {
    name: 'CHECK with an id only',
    env: { CNI_COMMAND: 'CHECK', CNI_CONTAINERID: 'c1' },
    code: 4,
    msg: 'required env variables [CNI_NETNS,CNI_IFNAME,CNI_PATH] missing',
  },
  {
    name: 'empty variables are missing ones',
    env: { ...add, CNI_NETNS: '' },
    stdin: config(),
    code: 4,
    msg: 'required env variables [CNI_NETNS] missing',
  },
  {
    name: 'GC without a path',
    env: { CNI_COMMAND: 'GC' },
    stdin: config({ cniVersion: '1.1.0' }),
    code: 4,
    msg: 'required env variables [CNI_PATH] missing',
    onlyOurs: old,
  },
  {
    name: 'variables come before the configuration',
    env: { CNI_COMMAND: 'ADD', CNI_CONTAINERID: '-c1' },
    stdin: '{x',
    code: 4,
    msg: 'required env variables [CNI_NETNS,CNI_IFNAME,CNI_PATH] missing',
  },
  {
    name: 'the configuration comes before the id',
    env: { ...add, CNI_CONTAINERID: '-c1' },
    stdin: '{x',
    code: 6,
    msg: /^error unmarshall network config/,
  },
  {
    name: 'the name comes before the id',
    env: { ...add, CNI_CONTAINERID: '-c1' },
    stdin: '{}',
    code: 7,
    msg: 'missing network name',
  },
  {
    name: 'an id that begins with a dash',
    env: { ...add, CNI_CONTAINERID: '-c1' },
    stdin: config(),
    code: 4,
    msg: 'invalid characters in containerID',
    details: '-c1',
  },
  {
    name: 'an id with a slash',
    env: { ...add, CNI_CONTAINERID: 'a/b' },
    stdin: config(),
    code: 4,
    msg: 'invalid characters in containerID',
    details: 'a/b',
  },
  {
    name: 'an id with a line break',
    env: { ...add, CNI_CONTAINERID: 'a\nb' },
    stdin: config(),
    code: 4,
    msg: 'invalid characters in containerID',
    details: 'a\nb',
  },
  {
    name: 'an interface name of 16 bytes',
    env: ifname('0123456789abcdef'),
    stdin: config(),
    code: 4,
    msg: 'interface name is too long',
    details: 'interface name should be less than 16 characters',
  },
  {
    name: 'an interface name of 16 bytes in 8 characters',
    env: ifname('éééééééé'),
    stdin: config(),
    code: 4,
    msg: 'interface name is too long',
    details: 'interface name should be less than 16 characters',
  },
  { name: 'an interface name .', env: ifname('.'), stdin: config(), code: 4, msg: 'interface name is . or ..' },
  { name: 'an interface name ..', env: ifname('..'), stdin: config(), code: 4, msg: 'interface name is . or ..' },
  { name: 'an interface name with a slash', env: ifname('a/b'), stdin: config(), code: 4, msg: badIfname },
  { name: 'an interface name with a colon', env: ifname('a:b'), stdin: config(), code: 4, msg: badIfname },
  { name: 'an interface name with a space', env: ifname('a b'), stdin: config(), code: 4, msg: badIfname },
  {
    name: 'an interface name with a no-break space',
    env: ifname('a\u00a0b'),
    stdin: config(),
    code: 4,
    msg: badIfname,
  },
  {
    name: 'an interface name with an ideographic space',
    env: ifname('a\u3000b'),
    stdin: config(),
    code: 4,
    msg: badIfname,
  },
  {
    name: 'no configuration',
    env: add,
    stdin: '',
    code: 6,
    msg: /^error unmarshall network config: unexpected end of JSON input/,
  },
  {
    name: 'half a configuration',
    env: add,
    stdin: '{"name":"n"',
    code: 6,
    msg: /^error unmarshall network config: unexpected end of JSON input/,
  },
  { name: 'no JSON', env: add, stdin: '{x', code: 6, msg: /^error unmarshall network config: invalid character/ },
  {
    name: 'something after the configuration',
    env: add,
    stdin: '{"name":"n"} x',
    code: 6,
    msg: /^error unmarshall network config: invalid character/,
  },
  {
    name: 'a byte order mark',
    env: add,
    stdin: '\ufeff{"name":"n"}',
    code: 6,
    msg: /^error unmarshall network config/,
  },
  { name: 'an array', env: add, stdin: '[]', code: 6, msg: /^error unmarshall network config/ },
  { name: 'a text', env: add, stdin: '"net"', code: 6, msg: /^error unmarshall network config/ },
  { name: 'null is an empty object', env: add, stdin: 'null', code: 7, msg: 'missing network name' },
  { name: 'no name', env: add, stdin: '{}', code: 7, msg: 'missing network name' },
  { name: 'an empty name', env: add, stdin: '{"name":""}', code: 7, msg: 'missing network name' },
  { name: 'a name that is null', env: add, stdin: '{"name":null}', code: 7, msg: 'missing network name' },
  {
    name: 'a name with a space',
    env: add,
    stdin: '{"name":"a b"}',
    code: 7,
    msg: 'invalid characters found in network name',
    details: 'a b',
  },
  {
    name: 'a name with an escaped space',
    env: add,
    stdin: '{"name":"a\\u0020b"}',
    code: 7,
    msg: 'invalid characters found in network name',
    details: 'a b',
  },
  { name: 'a name that is a number', env: add, stdin: '{"name":5}', code: 6, msg: /^error unmarshall network config/ },
  {
    name: 'a version that is a number',
    env: add,
    stdin: '{"name":"n","cniVersion":5}',
    code: 6,
    msg: /^decoding version from network config/,
  },
  {
    name: 'a version from the future',
    env: add,
    stdin: config({ cniVersion: '9.9.9' }),
    code: 1,
    msg: 'incompatible CNI versions',
    details: /^config is "9\.9\.9", plugin supports \["0\.1\.0" "0\.2\.0" "0\.3\.0" "0\.3\.1" "0\.4\.0" "1\.0\.0"/,
  },
  {
    name: 'DEL with a version from the future',
    env: { ...add, CNI_COMMAND: 'DEL' },
    stdin: config({ cniVersion: '9.9.9' }),
    code: 1,
    msg: 'incompatible CNI versions',
    details: /9\.9\.9/,
  },
  {
    name: 'a version that is none',
    env: add,
    stdin: config({ cniVersion: 'abc' }),
    code: 1,
    msg: 'incompatible CNI versions',
    details: /^config is "abc"/,
  },
  {
    name: 'a version of two numbers',
    env: add,
    stdin: config({ cniVersion: '1.0' }),
    code: 1,
    msg: 'incompatible CNI versions',
    details: /^config is "1\.0"/,
  },
  {
    name: 'CHECK before there was CHECK',
    env: { ...add, CNI_COMMAND: 'CHECK' },
    stdin: config({ cniVersion: '0.3.1' }),
    code: 1,
    msg: 'config version does not allow CHECK',
  },
  {
    name: 'CHECK without a version',
    env: { ...add, CNI_COMMAND: 'CHECK' },
    stdin: '{"name":"n"}',
    code: 1,
    msg: 'config version does not allow CHECK',
  },
  {
    name: 'CHECK with a version from the future',
    env: { ...add, CNI_COMMAND: 'CHECK' },
    stdin: config({ cniVersion: '9.9.9' }),
    code: 1,
    msg: 'plugin version does not allow CHECK',
  },
  {
    name: 'CHECK with a version of two numbers',
    env: { ...add, CNI_COMMAND: 'CHECK' },
    stdin: config({ cniVersion: '0.4' }),
    code: 1,
    msg: 'incompatible CNI versions',
    details: /^config is "0\.4"/,
  },
  {
    name: 'CHECK with a version that is none',
    env: { ...add, CNI_COMMAND: 'CHECK' },
    stdin: config({ cniVersion: 'abc' }),
    code: 6,
    msg: /^failed to convert/,
  },
  {
    name: 'GC before there was GC',
    env: { ...add, CNI_COMMAND: 'GC' },
    stdin: config(),
    code: 1,
    msg: 'config version does not allow GC',
    onlyOurs: old,
  },
  {
    name: 'STATUS before there was STATUS',
    env: { ...add, CNI_COMMAND: 'STATUS' },
    stdin: config(),
    code: 1,
    msg: 'config version does not allow STATUS',
    onlyOurs: old,
  },
];

function assertRow(t: Test, row: Row, result: PluginResult): void {
  const { code, msg, details } = errorOf(result);
  t.same({ status: result.status, code }, { status: 1, code: row.code });
  if (typeof row.msg === 'string') t.equal(msg, row.msg);
  else t.match(msg, row.msg);
  if (row.details === undefined || typeof row.details === 'string') t.equal(details, row.details);
  else t.match(details, row.details);
}

for (const row of rows) {
  t.test(`${row.name}: ${row.code}`, async (t) => {
    const call = { env: row.env, stdin: row.stdin ?? '' };
    assertRow(t, row, await runPlugin(call));
    if (row.onlyOurs === undefined) assertRow(t, row, await runPlugin({ ...call, program: reference }));
  });
}

t.test('without a verb it says what it is, on standard error, and succeeds', async (t) => {
  for (const [program, versions] of [
    [shimPath, supportedVersions],
    [reference, supportedVersions.slice(0, 6)],
  ] as const) {
    const result = await runPlugin({ env: {}, program });
    t.same([result.status, result.stdout], [0, '']);
    t.match(result.stderr, new RegExp(`^CNI .*\\nCNI protocol versions supported: ${versions.join(', ')}\\n$`));
  }
});

t.test('VERSION lists every version, reads nothing and needs nobody', async (t) => {
  for (const stdin of ['', '{"cniVersion":"0.4.0"}', '{x']) {
    const env = { CNI_COMMAND: 'VERSION', CNI_NETNS: 'dummy', CNI_IFNAME: 'dummy', CNI_PATH: 'dummy' };
    t.same((await runPlugin({ env, stdin })).json, { cniVersion: '1.1.0', supportedVersions: [...supportedVersions] });
    const other = (await runPlugin({ env, stdin, program: reference })).json as { supportedVersions: string[] };
    t.same(other.supportedVersions, supportedVersions.slice(0, 6));
  }
});

t.test('errors carry the configuration’s version, and are laid out as the library does', async (t) => {
  const result = await runPlugin({ env: { ...add, CNI_CONTAINERID: '-c1' }, stdin: config({ cniVersion: '0.4.0' }) });
  t.equal(
    result.stdout,
    '{\n    "cniVersion": "0.4.0",\n    "code": 4,\n    "msg": "invalid characters in containerID",\n    "details": "-c1"\n}\n',
  );
  t.equal(result.stderr, '');
});

t.test('what is no UTF-8 or has to be escaped still makes JSON', async (t) => {
  const stdin = Buffer.from('{"name":"\\u0000\\"\\\\\xff\xf0"}', 'latin1');
  const result = await runPlugin({ env: add, stdin });
  t.match(errorOf(result), { code: 7, details: '\0"\\\ufffd\ufffd' });
});

t.test('a configuration of more than 1 MiB is refused', async (t) => {
  t.match(errorOf(await runPlugin({ env: add, stdin: config({ x: 'x'.repeat(1 << 20) }) })), {
    code: 6,
    msg: /too large/,
  });
});

t.test('an agent’s socket is an absolute path of bounded length', async (t) => {
  for (const agentSocket of ['agent.sock', `/${'x'.repeat(200)}`, '/a\0b']) {
    t.match(errorOf(await runPlugin({ env: add, stdin: config({ agentSocket }) })), { code: 7, msg: /agentSocket/ });
  }
});

t.test('standard input that cannot be read: 5', async (t) => {
  for (const [program, reading] of [
    [shimPath, '< /'],
    [reference, '< /'],
    [shimPath, '<&-'],
  ] as const) {
    const env = { ...add, PLUGIN: program };
    const result = await runPlugin({ env, program: '/bin/sh', args: ['-c', `exec "$PLUGIN" ${reading}`] });
    t.match({ status: result.status, ...errorOf(result) }, { status: 1, code: 5, msg: /reading from stdin/ }, reading);
  }
});

t.test('CNI_PATH is missed by GC alone, and what a verb does not need is not looked at', async (t) => {
  const pathless = { ...base, CNI_PATH: '' };
  for (const [command, code] of [
    ['ADD', 11],
    ['CHECK', 11],
    ['STATUS', 50],
    ['GC', 4],
  ] as const) {
    const env = { ...pathless, CNI_COMMAND: command };
    t.equal(errorOf(await runPlugin({ env, stdin: config({ cniVersion: '1.1.0' }) })).code, code, command);
  }
  const odd = { CNI_CONTAINERID: '-c1', CNI_IFNAME: 'a/b', CNI_NETNS: 'x', CNI_PATH: '/', TRACEPARENT: '00-x' };
  for (const [command, code] of [
    ['GC', 11],
    ['STATUS', 50],
  ] as const) {
    const env = { ...odd, CNI_COMMAND: command };
    t.equal(errorOf(await runPlugin({ env, stdin: config({ cniVersion: '1.1.0' }) })).code, code, command);
  }
  t.equal((await runPlugin({ env: { ...odd, CNI_COMMAND: 'VERSION' } })).status, 0);
});

t.test('without an agent: ADD and CHECK 11, STATUS 50, GC 11, DEL written down for it', async (t) => {
  const call = (command: string, version = '1.1.0'): Promise<PluginResult> =>
    runPlugin({ env: { ...base, CNI_COMMAND: command }, stdin: config({ cniVersion: version }) });
  for (const [command, code] of [
    ['ADD', 11],
    ['CHECK', 11],
    ['GC', 11],
    ['STATUS', 50],
  ] as const) {
    t.match(
      errorOf(await call(command)),
      { code, msg: "tsnet's agent is not available", details: /cni\.sock/ },
      command,
    );
  }
  t.notOk(existsSync(join(folder, 'cni-spool')), 'only a DEL is written down');
  const [first, second] = [await call('DEL'), await call('DEL', '0.3.1')];
  t.same([first.status, first.stdout, second.status, second.stdout], [0, '', 0, '']);
  const names = readdirSync(join(folder, 'cni-spool'));
  t.equal(names.length, 2);
  t.same(names, [...names].sort(), 'in their order');
});

t.test('a DEL that cannot be written down is not reported as done', async (t) => {
  const own = join(folder, 'full');
  mkdirSync(join(own, 'cni-spool'), { recursive: true, mode: 0o700 });
  const stdin = config({ agentSocket: join(own, 'agent.sock'), x: 'x'.repeat(100_000) });
  const del = { ...base, CNI_COMMAND: 'DEL' };
  // Where there is room for the file, and none for what is in it.
  const script =
    'mount -t tmpfs -o size=16k none "$FOLDER" && { "$PLUGIN"; status=$?; ls -A "$FOLDER/cni-spool" >&2; exit $status; }';
  const full = await runPlugin({
    env: { ...del, PLUGIN: shimPath, FOLDER: own },
    stdin,
    enter: ['unshare', '--mount'],
    program: '/bin/sh',
    args: ['-c', script],
  });
  t.match(
    { status: full.status, ...errorOf(full) },
    { status: 1, code: 11, details: /spool: No space left on device/ },
  );
  t.equal(full.stderr, '', 'and nothing half written stays');

  for (let number = 0; number < 10_000; number += 1) writeFileSync(join(own, 'cni-spool', `${number}.del`), '');
  t.match(errorOf(await runPlugin({ env: del, stdin })), { code: 11, details: /spool: No space left on device/ });
  t.equal(readdirSync(join(own, 'cni-spool')).length, 10_000, 'a spool has its bounds');
  rmSync(join(own, 'cni-spool'), { recursive: true });
  symlinkSync(folder, join(own, 'cni-spool'));
  t.match(errorOf(await runPlugin({ env: del, stdin })), { code: 11, details: /spool: / }, 'nor is a link followed');
  rmSync(join(own, 'cni-spool'));
  mkdirSync(join(own, 'cni-spool'));
  chmodSync(join(own, 'cni-spool'), 0o777);
  t.match(
    errorOf(await runPlugin({ env: del, stdin })),
    { code: 11, details: /spool: / },
    'nor what others may write to',
  );
});
