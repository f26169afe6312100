import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { golden, tsnet } from './program.js';
import { answerCluster, openStubApi } from './stub-api.js';

const wrong: readonly (readonly string[])[] = [
  ['lss'],
  ['network', 'ls'],
  ['ls', 'extra'],
  ['ls', '--nope'],
  ['ls', '-o', 'xml'],
  ['create'],
  ['create', 'a', '--driver', 'tunnel'],
  ['create', 'a', '--label', 'tier'],
  ['create', 'a', '--opt', '=x'],
  ['create', 'a', '--opt', 'dns=10.0.0.53', '--dns', '10.0.0.54'],
  ['create', 'a', '--mtu', '1e3'],
  ['create', 'a', '--gateway', '10.1.0.1'],
  ['create', 'a', '--subnet', '10.1.0.0/24', '--gateway', '10.2.0.1'],
  ['update', 'a'],
  ['update', 'a', '--label', 'tier'],
  ['connect', 'a'],
  ['disconnect', 'a'],
  ['disconnect', 'a', 'b', '--drain', '-5s'],
  ['disconnect', 'a', 'b', '--drain', 'soon'],
  ['run', '--', 'true'],
  ['run', '--network', 'a'],
  ['run', '--network', 'a', '--network', 'a', '--', 'true'],
  ['endpoint', 'sett'],
  ['endpoint', 'set', 'web'],
  ['endpoint', 'ls', '--local', '--host', 'x'],
  ['endpoint', 'ls', '--controller', 'http://a:1', '--local'],
  ['endpoint', 'set', 'web', '-p', '8080:80', '--no-publish'],
  ['endpoint', 'set', 'web', '--no-alias', '--alias', 'www'],
  ['endpoint', 'set', 'web', '--drain', '--no-drain'],
  ['endpoint', 'set', 'web', '--label', 'tier=a', '--label', 'tier-'],
  ['connect', 'a', 'pid:1', '--default-route', '--no-default-route'],
  ['connect', 'a', 'pid:1', '--label', 'tier=a', '--label', 'tier=b'],
  ['update', 'a', '--join', 'b', '--unjoin', 'b'],
  ['service', 'set', 'web', '--health', 'tcp', '--no-health'],
  ['service', 'set', 'web', '--no-publish', '--publish', '80'],
  ['service', 'set', 'web', '--selector', 'app=web', '--backend', 'web-1'],
  ['policy', 'create', '--file', 'a.yaml', '--deny-ingress'],
  ['policy', 'create', 'a', '--from', 'any', '--deny-ingress'],
  ['policy', 'create', 'a', '--from', 'any', '--from', 'app=web'],
  ['policy', 'create', 'a', '--deny-egress', '--port', '80'],
  ['controller', '--skydns-domain', 'example.net'],
  ['agent', '--no-dns', '--dns-domain', 'example.net'],
  ['dns', 'query', 'web', '--type', 'BOGUS'],
  ['completion', 'tcsh'],
  ['help', 'endpoint', 'nope'],
  ['ls', '--controller', 'https://a'],
  ['ls', '--controller', 'unix:/nonexistent', '--token-file', '/nonexistent'],
  ['controller', '--liveness', '10'],
  ['controller', '--listen', 'a'],
  ['agent', '--audit', 'soon'],
];

t.test('every wrong command line exits with 2, an error, and a hint', async (t) => {
  const lines: string[] = [];
  for (const args of wrong) {
    const { code, stdout, stderr } = await tsnet(args);
    t.same({ code, stdout }, { code: 2, stdout: '' }, args.join(' '));
    t.match(stderr, /^error: .+\nhint: .+\n$/, args.join(' '));
    lines.push(`$ tsnet ${args.join(' ')}\n${stderr}`);
  }
  t.equal(lines.join('\n'), golden('usage-errors', lines.join('\n')));
});

t.test('with -o json an error is one line of JSON, also for a line that cannot be parsed', async (t) => {
  for (const args of [
    ['ls', '-o', 'json', '--nope'],
    ['ls', '--output=json', '--nope'],
    ['ls', '-ojson', 'extra'],
  ]) {
    const { code, stderr } = await tsnet(args);
    t.equal(code, 2);
    t.match(
      JSON.parse(stderr),
      { code: 'ERR_USAGE', message: String, hint: /tsnet help ls/, details: {} },
      args.join(' '),
    );
    t.equal(stderr.split('\n').length, 2);
  }
  const { stderr } = await tsnet(['run', '--nope', '--', 'a', '-o', 'json']);
  t.match(stderr, /^error: /, "what comes after -- is the command's");
});

t.test('no command shows the help and exits with 2', async (t) => {
  for (const words of [[], ['endpoint'], ['host']]) {
    const { code, stdout, stderr } = await tsnet(words);
    t.same({ code, stdout }, { code: 2, stdout: '' });
    t.equal(stderr, golden(['help', ...words].join('-'), stderr));
  }
});

t.test('an agent or a controller that is not there is named', async (t) => {
  const agent = await tsnet(['ls'], { TSNET_AGENT_SOCKET: '/nonexistent/agent.sock' });
  t.same(agent, {
    code: 1,
    signal: null,
    stdout: '',
    stderr:
      'error: no agent answers at /nonexistent/agent.sock (no such socket)\nhint: Start the agent (`tsnet agent`), or name its socket with TSNET_AGENT_SOCKET.\n',
  });
  const controllers = await tsnet(['ls', '--controller', 'unix:/nonexistent/a,unix:/nonexistent/b']);
  t.equal(controllers.code, 1);
  t.match(
    controllers.stderr,
    'error: no controller answers at unix:/nonexistent/a (no such socket), unix:/nonexistent/b (no such socket)\nhint: ',
  );
  const status = await tsnet(['status', '-o', 'json'], { TSNET_AGENT_SOCKET: '/nonexistent/agent.sock' });
  t.same(JSON.parse(status.stdout), { agent: null, controller: null });
  t.match(JSON.parse(status.stderr), { code: 'ERR_AGENT_UNREACHABLE' });
  t.equal(status.code, 1);
});

t.test('attaching goes to the agent even where a controller is named', async (t) => {
  const api = await openStubApi(answerCluster);
  t.teardown(() => api.close());
  const env = { ...api.env, TSNET_CONTROLLER: 'unix:/nonexistent/controller' };
  t.equal((await tsnet(['connect', 'frontend', 'blue'], env)).code, 0);
  t.equal((await tsnet(['disconnect', 'frontend', 'blue'], env)).code, 0);
  t.match((await tsnet(['ls'], env)).stderr, 'error: no controller answers at unix:/nonexistent/controller');
});

t.test('a controller gets the token, the next one is asked only when the first cannot be reached', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-token-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const tokenFile = join(folder, 'admin.token');
  writeFileSync(tokenFile, 'secret\n');
  chmodSync(tokenFile, 0o600);
  const seen: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers.authorization);
    if (request.method === 'GET') response.end('[]');
    else request.socket.destroy();
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  t.teardown(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const env = { TSNET_CONTROLLER: `unix:/nonexistent/first,${url},${url}/`, TSNET_TOKEN_FILE: tokenFile };
  t.equal((await tsnet(['ls', '-o', 'json'], env)).stdout, '[]\n');
  t.same(seen.splice(0), ['Bearer secret']);
  const broken = await tsnet(['create', 'a'], env);
  t.match(broken.stderr, `error: no controller answers at unix:/nonexistent/first (no such socket), ${url} (`);
  t.equal(seen.length, 1, 'a request that may have been taken is not sent again');
});

t.test('the token is not for the agent', async (t) => {
  const api = await openStubApi(answerCluster);
  t.teardown(() => api.close());
  await tsnet(['ls', '--token-file', '/nonexistent'], api.env);
  t.same(
    api.requests.map(({ token }) => token),
    [undefined],
  );
});
