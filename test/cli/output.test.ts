import { closeSync, openSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { parse } from 'yaml';
import { TsnetError, type ErrorCode } from '../../core/errors.js';
import { plain } from '../lab/plain.js';
import { cleanEnv, golden, tsnet, tsnetPath } from './program.js';
import { answerCluster, frontend, lan, node1, openStubApi, web } from './stub-api.js';

const formats = ['table', 'wide', 'json', 'yaml'] as const;

const commands: Readonly<Record<string, readonly string[]>> = {
  create: ['create', 'frontend', '--label', 'tier=web'],
  ls: ['ls'],
  inspect: ['inspect', 'frontend', 'lan'],
  'inspect-endpoint': ['inspect', 'web', 'fedcba9876543210'],
  rm: ['rm', 'frontend', 'lan'],
  update: ['update', 'frontend', '--label', 'tier=web'],
  connect: ['connect', 'frontend', 'blue'],
  disconnect: ['disconnect', 'frontend', 'blue'],
  'endpoint-ls': ['endpoint', 'ls'],
  'dns-ls': ['dns', 'ls'],
  'dns-query': ['dns', 'query', 'web'],
  'endpoint-set': ['endpoint', 'set', 'web', '--no-alias'],
  'host-ls': ['host', 'ls'],
  'host-rm': ['host', 'rm', 'node3'],
  'host-token': ['host', 'token', 'node3'],
  status: ['status'],
};

/** What each command has printed, by name and format. */
const printed = new Map<string, string>();

t.test('every command prints each format as written down', async (t) => {
  const api = await openStubApi(answerCluster);
  t.teardown(() => api.close());
  for (const [name, args] of Object.entries(commands)) {
    for (const format of formats) {
      const { code, stdout, stderr } = await tsnet([...args, '-o', format], api.env);
      printed.set(`${name} ${format}`, stdout);
      t.equal(stdout, golden(`${name}-${format}`, stdout), `${name} -o ${format}`);
      t.same({ code, stderr }, { code: 0, stderr: '' }, `${name} -o ${format}`);
    }
  }
});

t.test('JSON and YAML are the same value, with the fields in the documented order', async (t) => {
  const asJson = (name: string): string => printed.get(`${name} json`) ?? '';
  const asYaml = (name: string): string => printed.get(`${name} yaml`) ?? '';
  for (const name of Object.keys(commands)) t.same(parse(asYaml(name)), JSON.parse(asJson(name)), name);
  const [network] = JSON.parse(asJson('ls')) as object[];
  t.same(network, frontend);
  t.same(Object.keys(network ?? {}).slice(0, 8), [
    'id',
    'name',
    'driver',
    'subnets',
    'vni',
    'mtu',
    'internal',
    'labels',
  ]);
  const [endpoint] = JSON.parse(asJson('endpoint-ls')) as object[];
  t.same(Object.keys(endpoint ?? {}).slice(0, 10), [
    'id',
    'name',
    'aliases',
    'network',
    'host',
    'addresses',
    'mac',
    'ifname',
    'sandbox',
    'generation',
  ]);
  const [host] = JSON.parse(asJson('host-ls')) as object[];
  t.same(host, node1);
  t.same(Object.keys(host ?? {}).slice(0, 4), ['name', 'vtep', 'state', 'lastSeen']);
});

t.test('-q prints what scripts loop over', async (t) => {
  const api = await openStubApi(answerCluster);
  t.teardown(() => api.close());
  t.equal((await tsnet(['ls', '-q'], api.env)).stdout, 'frontend\nlan\n');
  t.equal((await tsnet(['endpoint', 'ls', '-q'], api.env)).stdout, '0123456789abcdef\nfedcba9876543210\n');
  t.equal((await tsnet(['host', 'ls', '-q', '-o', 'json'], api.env)).stdout, 'node1\n');
});

t.test('an empty list is a header, an empty array, or nothing', async (t) => {
  const api = await openStubApi(() => []);
  t.teardown(() => api.close());
  t.equal((await tsnet(['ls'], api.env)).stdout, 'NAME  ID  DRIVER  SUBNETS  MTU\n');
  t.equal((await tsnet(['ls', '-o', 'json'], api.env)).stdout, '[]\n');
  t.equal((await tsnet(['ls', '-q'], api.env)).stdout, '');
});

t.test('inspect and rm go on past what is not there and exit with 1', async (t) => {
  const api = await openStubApi(answerCluster);
  t.teardown(() => api.close());
  const message = 'error: network: there is no "nope"\nhint: Make it with `tsnet create NAME`, or see `tsnet ls`.\n';
  const shown = await tsnet(['inspect', 'nope', 'lan', '-o', 'json'], api.env);
  t.same(JSON.parse(shown.stdout), [lan]);
  t.match(JSON.parse(shown.stderr), {
    code: 'ERR_NETWORK_UNKNOWN',
    message: 'network: there is no "nope"',
    details: {},
  });
  t.equal(shown.code, 1);
  t.same(await tsnet(['rm', 'frontend', 'nope', 'lan'], api.env), {
    code: 1,
    signal: null,
    stdout: 'frontend\nlan\n',
    stderr: message,
  });
});

t.test('requests say what was asked, and nothing that was not', async (t) => {
  const api = await openStubApi(answerCluster);
  t.teardown(() => api.close());
  const asked = async (...args: string[]): Promise<unknown> => {
    api.requests.length = 0;
    const { code, stderr } = await tsnet(args, api.env);
    t.same({ code, stderr }, { code: 0, stderr: '' }, args.join(' '));
    return api.requests.map(({ method, path, body }) => [method, path, ...(body === undefined ? [] : [body])]);
  };
  t.same(await asked('create', 'a'), [['POST', '/v1/networks', { name: 'a' }]]);
  t.same(
    await asked(
      ...'create a --driver bridge --subnet 10.1.0.0/24 --gateway 10.1.0.9 --ipv6 --internal --mtu 1400 --label a=b --label c= --opt x=y --dns 10.0.0.53 --dns fd00::53'.split(
        ' ',
      ),
    ),
    [
      [
        'POST',
        '/v1/networks',
        {
          name: 'a',
          driver: 'bridge',
          subnets: [{ subnet: '10.1.0.0/24', gateway: '10.1.0.9' }],
          ipv6: true,
          internal: true,
          mtu: 1400,
          labels: { a: 'b', c: '' },
          options: { x: 'y', dns: '10.0.0.53,fd00::53' },
        },
      ],
    ],
  );
  t.same(await asked('update', 'lan', '--label', 'a=1', '--label', 'b-', '--subnet', '10.2.0.0/24'), [
    ['PATCH', '/v1/networks/lan', { labels: { a: '1', b: null }, addSubnets: [{ subnet: '10.2.0.0/24' }] }],
  ]);
  t.same(
    await asked(
      ...'connect lan pid:7 --name w --alias a --alias b --ip 10.1.0.5 --ip fd00::5 --mac 02:00:00:00:00:01 --ifname eth3 --label k=v --id i --no-default-route'.split(
        ' ',
      ),
    ),
    [
      [
        'POST',
        '/v1/agent/attach',
        {
          network: 'lan',
          target: 'pid:7',
          id: 'i',
          ifname: 'eth3',
          name: 'w',
          aliases: ['a', 'b'],
          addresses: ['10.1.0.5', 'fd00::5'],
          mac: '02:00:00:00:00:01',
          labels: { k: 'v' },
          defaultRoute: false,
        },
      ],
    ],
  );
  t.same(await asked('connect', 'lan', 'blue', '--default-route'), [
    ['POST', '/v1/agent/attach', { network: 'lan', target: 'netns:/run/netns/blue', defaultRoute: true }],
  ]);
  t.same(await asked('connect', 'lan', 'blue'), [
    ['POST', '/v1/agent/attach', { network: 'lan', target: 'netns:/run/netns/blue' }],
  ]);
  t.same(await asked('disconnect', 'lan', '--id', 'i', '--ifname', 'eth1'), [
    ['POST', '/v1/agent/detach', { network: 'lan', id: 'i', ifname: 'eth1' }],
  ]);
  for (const [text, drainMs] of [
    ['90', 90_000],
    ['500ms', 500],
    ['2m', 120_000],
  ] as const)
    t.same(await asked('disconnect', 'lan', '--id', 'i', '--drain', text), [
      ['POST', '/v1/agent/detach', { network: 'lan', id: 'i', drainMs }],
    ]);
  t.same(await asked('endpoint', 'set', 'web', '--drain'), [['PATCH', '/v1/agent/endpoints/web', { draining: true }]]);
  t.same(await asked('endpoint', 'set', 'web', '--no-drain'), [
    ['PATCH', '/v1/agent/endpoints/web', { draining: false }],
  ]);
  t.same(await asked('endpoint', 'ls', 'lan', '--host', 'node 1'), [['GET', '/v1/endpoints?network=lan&host=node+1']]);
  t.same(await asked('endpoint', 'ls', '--local'), [['GET', '/v1/agent/endpoints']]);
  t.same(await asked('endpoint', 'set', 'web', '--alias', 'a', '--alias', 'b', '--label', 'x-'), [
    ['PATCH', '/v1/agent/endpoints/web', { labels: { x: null }, aliases: ['a', 'b'] }],
  ]);
  t.same(await asked('endpoint', 'set', 'web', '--no-alias'), [['PATCH', '/v1/agent/endpoints/web', { aliases: [] }]]);
  t.same(await asked('host', 'rm', 'node3', '--force'), [['DELETE', '/v1/hosts/node3?force=true']]);
  t.same(await asked('host', 'rm', 'node3'), [['DELETE', '/v1/hosts/node3']]);
});

t.test('a reference cannot leave its place in the path', async (t) => {
  const api = await openStubApi(answerCluster);
  t.teardown(() => api.close());
  t.equal((await tsnet(['rm', '../hosts/node1?force=true'], api.env)).code, 1);
  t.same(
    api.requests.map(({ path }) => path),
    ['/v1/networks/..%2Fhosts%2Fnode1%3Fforce%3Dtrue'],
  );
});

t.test('what is repaired in vain makes status exit with 1', async (t) => {
  const api = await openStubApi((request) => {
    const answer = answerCluster(request) as { reconcile?: object };
    return request.path === '/v1/agent/status'
      ? { ...answer, reconcile: { objects: 1, repairs: 0, failing: [{ object: 'link tsb-1', error: 'EBUSY' }] } }
      : answer;
  });
  t.teardown(() => api.close());
  const { code, stdout } = await tsnet(['status'], api.env);
  t.equal(code, 1);
  t.match(stdout, /^FAILING +link tsb-1: EBUSY$/m);
});

t.test('disconnecting what is not connected is no error', async (t) => {
  const api = await openStubApi(({ path }) => (path.endsWith('/detach') ? { detached: [] } : { name: 'frontend' }));
  t.teardown(() => api.close());
  const nothing = { code: 0, signal: null, stdout: '', stderr: '' };
  t.same(await tsnet(['disconnect', 'frontend', web.sandbox ?? ''], api.env), nothing);
  t.same(
    api.requests.map(({ path }) => path),
    ['/v1/agent/detach', '/v1/networks/frontend'],
  );
});

t.test('disconnecting from a network that does not exist says so, unless nobody knows', async (t) => {
  let code: ErrorCode = 'ERR_NETWORK_UNKNOWN';
  const api = await openStubApi(({ path }) => {
    if (path.endsWith('/detach')) return { detached: [] };
    throw new TsnetError(code, 'network: "fronted" does not exist');
  });
  t.teardown(() => api.close());
  const refused = await tsnet(['disconnect', 'fronted', web.sandbox ?? ''], api.env);
  t.equal(refused.code, 1);
  t.match(refused.stderr, /^error: network: "fronted" does not exist\nhint: /);
  code = 'ERR_CONTROLLER_UNREACHABLE';
  t.equal((await tsnet(['disconnect', 'fronted', web.sandbox ?? ''], api.env)).code, 0);
});

t.test('what cannot be written is an error in words, not a stack', async (t) => {
  const api = await openStubApi(answerCluster);
  t.teardown(() => api.close());
  const full = openSync('/dev/full', 'w');
  t.teardown(() => closeSync(full));
  for (const args of [['ls'], ['help'], ['rm', 'frontend', 'lan']]) {
    const child = spawn(...plain([tsnetPath, ...args]), { env: cleanEnv(api.env), stdio: ['ignore', full, 'pipe'] });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    const stderr = child.stderr === null ? '' : await text(child.stderr);
    t.equal(await ended, 1, args.join(' '));
    t.match(stderr, /^error: standard output: .*ENOSPC/, args.join(' '));
    t.notMatch(stderr, /\n\s+at /, args.join(' '));
  }
});
