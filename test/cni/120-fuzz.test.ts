import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { parseConfig, parseDocument } from '../../cni-plugin/config.js';
import { commands, parseArgs, parseEnvironment } from '../../cni-plugin/environment.js';
import { CniError } from '../../cni-plugin/error.js';
import { decodeFrame, encodeFrame } from '../../cni-plugin/frame.js';
import { attachRequest } from '../../cni-plugin/request.js';
import { formatResult, parseResult } from '../../cni-plugin/result.js';
import { supportedVersions } from '../../cni-plugin/version.js';
import { root } from '../cli/program.js';

/** Runs the native scanner, built with sanitizers, over documents; one line each. */
async function scan(documents: readonly Buffer[]): Promise<string[]> {
  const child = spawn(`${root}build/cni/scan-check`, [], { stdio: ['pipe', 'pipe', 'pipe'] });
  const [out, err] = [buffer(child.stdout), buffer(child.stderr)];
  for (const document of documents) {
    const head = Buffer.alloc(4);
    head.writeUInt32LE(document.length);
    child.stdin.write(head);
    child.stdin.write(document);
  }
  child.stdin.end();
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`the scanner ended with ${code}: ${(await err).toString('utf8')}`);
  return (await out).toString('latin1').trimEnd().split('\n');
}

const fields = ['name', 'cniVersion', 'type', 'agentSocket'] as const;

/** What JSON.parse makes of the same document, written as the scanner writes it. */
function expected(document: Buffer): string {
  let value: unknown;
  try {
    value = JSON.parse(document.toString('utf8'));
  } catch {
    return 'error';
  }
  if (value !== null && (typeof value !== 'object' || Array.isArray(value))) return 'error';
  if (depthOf(value) > 256) return 'error';
  const top = (value ?? {}) as Record<string, unknown>;
  const ipam = top['ipam'];
  const inner =
    typeof ipam === 'object' && ipam !== null && !Array.isArray(ipam) ? (ipam as Record<string, unknown>) : {};
  const values = [...fields.map((name) => top[name]), inner['agentSocket']];
  if (values.some((each) => each !== undefined && each !== null && typeof each !== 'string')) return 'mistyped';
  const texts = values.map((each) => (typeof each === 'string' ? `.${Buffer.from(each).toString('hex')}` : '-'));
  return `ok -1 ${texts.join(' ')}`;
}

function depthOf(value: unknown): number {
  let depth = 0;
  for (let level: unknown[] = [value]; level.some((each) => typeof each === 'object' && each !== null); depth++) {
    level = level.flatMap((each) => (typeof each === 'object' && each !== null ? Object.values(each) : []));
  }
  return depth;
}

const key = fc.oneof(fc.constantFrom(...fields, 'ipam', 'x', ''), fc.string({ maxLength: 6 }));
const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 12 }), fc.constantFrom('net', '1.0.0', '/run/a.sock'));
const { document } = fc.letrec<{ document: unknown; value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    text,
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 3 }),
    tie('document'),
  ),
  document: fc.dictionary(key, tie('value'), { maxKeys: 6 }),
}));

t.before(() => {
  const made = spawnSync('make', ['-C', `${root}cni-plugin`, '--no-print-directory', 'check'], { encoding: 'utf8' });
  if (made.status !== 0) throw new Error(made.stderr);
});

t.test('the native scanner agrees with JSON.parse about documents', async (t) => {
  const spaced = fc
    .tuple(document, fc.constantFrom(undefined, 1, '\t'))
    .map(([value, space]) => JSON.stringify(value, null, space));
  const documents = fc.sample(spaced, 3000).map((json) => Buffer.from(json));
  await compare(t, documents);
});

t.test('the native scanner agrees with JSON.parse about damaged documents', async (t) => {
  const damage = fc.tuple(
    document,
    fc.array(fc.tuple(fc.nat(), fc.nat(255), fc.nat(3)), { minLength: 1, maxLength: 4 }),
  );
  const documents = fc.sample(damage, 6000).map(([value, changes]) => {
    let bytes = Buffer.from(JSON.stringify(value));
    for (const [where, byte, how] of changes) {
      const at = where % (bytes.length + 1);
      if (how === 0) bytes = bytes.subarray(0, at);
      else if (how === 1)
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from([byte & 0x7f]), bytes.subarray(at)]);
      else if (how === 2) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)]);
      else
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          Buffer.from('\\u{}[]",:0e-.tfn'.charAt(byte % 16)),
          bytes.subarray(at),
        ]);
    }
    return bytes;
  });
  await compare(t, documents);
});

t.test('the native scanner takes any bytes, and stops at its bounds', async (t) => {
  const random = fc.sample(fc.uint8Array({ maxLength: 64 }), 3000).map((bytes) => Buffer.from(bytes));
  t.equal((await scan(random)).length, random.length);
  const nested = (levels: number): Buffer => Buffer.from(`{"name":"n","x":${'['.repeat(levels)}${']'.repeat(levels)}}`);
  t.same(
    (await scan([nested(255), nested(256), Buffer.from('['.repeat(100_000))])).map((line) => line.slice(0, 2)),
    ['ok', 'er', 'er'],
  );
  const odd = [
    '{"NAME":"a","name":"b"}',
    '{"name":"b","Name":"c"}',
    '{"x":{"name":"b"}}',
    '{"ipam":[{"agentSocket":"/x"}],"name":"\\ud83d\\ude00\\ud83d"}',
    '{"IPAM":{"AgentSocket":"/s"}}',
    '{"ipam":{"x":{"agentSocket":"/s"}}}',
  ];
  const hex = (value: string): string => `.${Buffer.from(value).toString('hex')}`;
  t.same(await scan(odd.map((json) => Buffer.from(json))), [
    `ok -1 ${hex('b')} - - - -`,
    `ok -1 ${hex('c')} - - - -`,
    'ok -1 - - - - -',
    `ok -1 ${hex('😀\ufffd')} - - - -`,
    `ok -1 - - - - ${hex('/s')}`,
    'ok -1 - - - - -',
  ]);
});

async function compare(t: Test, documents: readonly Buffer[]): Promise<void> {
  const lines = await scan(documents);
  t.equal(lines.length, documents.length);
  const counts = { ok: 0, error: 0 };
  for (const [index, bytes] of documents.entries()) {
    const wanted = expected(bytes);
    const line = lines[index] ?? '';
    counts[line === 'error' ? 'error' : 'ok'] += 1;
    // Latin letters in another case, and bytes that are no UTF-8, are the scanner's own to judge.
    if (bytes.toString('utf8').includes('\ufffd') || hasOddCase(bytes.toString('utf8'))) continue;
    const isSame = wanted === 'mistyped' ? /^ok \d /.test(line) : line === wanted;
    if (!isSame) t.same({ document: bytes.toString('utf8'), line }, { document: bytes.toString('utf8'), line: wanted });
  }
  t.ok(counts.ok > 0, `${counts.ok} were taken, ${counts.error} refused`);
}

function hasOddCase(json: string): boolean {
  const found = json.match(/name|cniversion|type|agentsocket|ipam/gi) ?? [];
  return found.some((name) => !['name', 'cniVersion', 'type', 'agentSocket', 'ipam'].includes(name));
}

t.test('whatever a runtime sends, the protocol answers with an error of its own or takes it', async (t) => {
  const configKeys = fc.constantFrom(
    'name',
    'NAME',
    'cniVersion',
    'type',
    'network',
    'ipam',
    'runtimeConfig',
    'args',
    'prevResult',
    'subnets',
    'driver',
    'options',
    'dns',
    'mac',
    'mtu',
  );
  const runtimeKeys = fc.constantFrom(
    'portMappings',
    'bandwidth',
    'ips',
    'mac',
    'ipRanges',
    'dns',
    'aliases',
    'cni',
    'labels',
    'hostPort',
    'ContainerPort',
    'protocol',
    'subnet',
    'ingressRate',
    'interfaces',
    'routes',
    'ip4',
    'type',
  );
  const { config } = fc.letrec<{ config: unknown; value: unknown }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom('tsnet', '10.1.0.0/24', '10.1.0.5', 'tcp', '1.1.0', 80, -1, 0, null, true),
      fc.string({ maxLength: 5 }),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(runtimeKeys, tie('value'), { maxKeys: 5 }),
    ),
    config: fc.dictionary(configKeys, tie('value'), { maxKeys: 4 }),
  }));
  const version = fc.constantFrom(...supportedVersions, undefined);
  let taken = 0;
  fc.assert(
    fc.property(
      config,
      version,
      fc.constantFrom(...commands),
      fc.oneof(fc.constantFrom('', 'IP=10.1.0.5;MAC=x', 'K8S_POD_NAME=a_b'), fc.string({ maxLength: 20 })),
      (value, cniVersion, command, args) => {
        const stdin = JSON.stringify({
          ...(value as object),
          name: 'net',
          ...(cniVersion === undefined ? {} : { cniVersion }),
        });
        try {
          const environment = parseEnvironment({
            CNI_COMMAND: command,
            CNI_CONTAINERID: 'c',
            CNI_NETNS: '/n',
            CNI_IFNAME: 'e',
            CNI_ARGS: args,
            CNI_PATH: '/',
          });
          const parsed = parseConfig(parseDocument(stdin), stdin, command);
          attachRequest(parsed, environment);
          const result = parseResult(parsed.document['prevResult'] ?? {}, 'prevResult', parsed.cniVersion);
          for (const each of supportedVersions.slice(result.ips.length > 0 ? 0 : 2)) formatResult(result, each);
          taken += 1;
        } catch (error) {
          if (!(error instanceof CniError)) throw error;
        }
      },
    ),
    { numRuns: 5000 },
  );
  t.ok(taken > 50, `${taken} were taken`);
});

t.test('arguments and frames are read as they were written', async (t) => {
  const word = fc.stringMatching(/^[A-Za-z0-9_:./-]{1,8}$/);
  fc.assert(
    fc.property(fc.dictionary(word, word, { noNullPrototype: true }), (args) => {
      const text = Object.entries(args)
        .map(([name, value]) => `${name}=${value}`)
        .join(';');
      t.same(Object.fromEntries(parseArgs(text)), args);
    }),
    { numRuns: 200 },
  );
  for (const bad of ['foo', '=x', 'a=b=c', 'a=b;', ';'])
    t.throws(() => parseArgs(bad), { code: 4, message: /invalid pair/ }, bad);
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), word, (stdin, id) => {
      const call = { environment: { CNI_COMMAND: 'DEL', CNI_CONTAINERID: id }, stdin };
      t.same(decodeFrame(encodeFrame(call)), call);
    }),
    { numRuns: 200 },
  );
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      try {
        decodeFrame(Buffer.from(bytes));
      } catch (error) {
        if (!(error instanceof CniError)) throw error;
      }
    }),
  );
  t.throws(() => decodeFrame(Buffer.from('PATH=/x\0\0{}')), { code: 6 }, 'only variables of CNI');
});
