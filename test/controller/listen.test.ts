import { spawn } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { TsnetError } from '../../core/errors.js';
import { HttpClient } from '../../lib/http/client.js';
import { listenHttp } from '../../lib/http/listen.js';
import { newHttpServer } from '../../lib/http/server.js';
import { newLogger } from '../../lib/log.js';

const log = newLogger('test', 'silent');

function newApp(maxRequests?: number) {
  const app = newHttpServer({ log, ...(maxRequests === undefined ? {} : { maxRequests }) });
  app.get('/ping', () => ({ pong: true }));
  app.get('/known', () => {
    throw new TsnetError('ERR_NETWORK_UNKNOWN', 'network: "x" does not exist');
  });
  app.get('/unforeseen', () => {
    throw new Error('secret of the inside');
  });
  return app;
}

void t.test('listening on a unix socket', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'tsnet-listen-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'api.sock');
  const client = new HttpClient({ base: `unix:${path}`, unreachable: 'ERR_AGENT_UNREACHABLE' });
  t.teardown(() => client.close());

  await t.test('only its owner may open the socket, and it goes with the server', async (t) => {
    const app = newApp();
    const listening = await listenHttp(app, `unix:${path}`);
    t.equal(listening.url, `unix:${path}`);
    t.equal((await stat(path)).mode & 0o777, 0o600);
    t.same(await client.call('GET', '/ping'), { pong: true });
    await t.rejects(
      listenHttp(newApp(), `unix:${path}`),
      { code: 'ERR_LISTEN' },
      'a socket that is answered is not taken',
    );
    t.same(await client.call('GET', '/ping'), { pong: true });
    await listening.close();
    await t.rejects(stat(path), { code: 'ENOENT' });
    await t.rejects(client.call('GET', '/ping'), { code: 'ERR_AGENT_UNREACHABLE' });
  });

  await t.test('a socket file that a killed process left is replaced', async (t) => {
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    const child = spawn(process.execPath, ['-e', script], { stdio: 'ignore' });
    await new Promise((resolve) => child.once('exit', resolve));
    t.ok((await stat(path)).isSocket());
    const listening = await listenHttp(newApp(), `unix:${path}`);
    t.same(await client.call('GET', '/ping'), { pong: true });
    t.equal((await stat(path)).mode & 0o777, 0o600);
    await listening.close();
  });
});

void t.test('listening on TCP', async (t) => {
  const app = newApp();
  const first = await listenHttp(app, 'http://127.0.0.1:0');
  t.teardown(() => first.close());
  const second = await listenHttp(app, 'http://[::1]:0').catch(() => undefined);
  if (second !== undefined) {
    t.teardown(() => second.close());
    t.match(second.url, /^http:\/\/\[::1\]:\d+$/);
    t.same(await (await fetch(`${second.url}/ping`)).json(), { pong: true });
  }
  t.same(await (await fetch(`${first.url}/ping`)).json(), { pong: true });
  await t.rejects(listenHttp(newApp(), first.url), { code: 'ERR_LISTEN', message: /EADDRINUSE/ });
  await t.rejects(listenHttp(newApp(), 'https://127.0.0.1:1'), { code: 'ERR_USAGE' });
  await t.rejects(listenHttp(newApp(), '127.0.0.1:1'), { code: 'ERR_USAGE' });
});

void t.test('errors', async (t) => {
  const app = newApp();
  const listening = await listenHttp(app, 'http://127.0.0.1:0');
  t.teardown(() => listening.close());
  const get = async (path: string): Promise<{ readonly status: number; readonly body: object }> => {
    const response = await fetch(`${listening.url}${path}`);
    return { status: response.status, body: (await response.json()) as object };
  };
  t.match(await get('/known'), {
    status: 404,
    body: { code: 'ERR_NETWORK_UNKNOWN', message: /"x"/, hint: /tsnet/, details: {} },
  });
  t.match(await get('/nowhere'), { status: 404, body: { code: 'ERR_NOT_FOUND', message: /\/nowhere/ } });
  const inside = await get('/unforeseen');
  t.match(inside, { status: 500, body: { code: 'ERR_INTERNAL' } });
  t.notMatch(JSON.stringify(inside), /secret/);
});

void t.test('more requests at once than allowed are turned away, and later ones are served', async (t) => {
  const app = newHttpServer({ log, maxRequests: 2 });
  let release: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  let waiting = 0;
  app.get('/slow', async () => {
    waiting += 1;
    await gate;
    return {};
  });
  const listening = await listenHttp(app, 'http://127.0.0.1:0');
  t.teardown(() => listening.close());
  const slow = [fetch(`${listening.url}/slow`), fetch(`${listening.url}/slow`)];
  while (waiting < 2) await new Promise((resolve) => setImmediate(resolve));
  const third = await fetch(`${listening.url}/slow`);
  t.equal(third.status, 429);
  t.match(await third.json(), { code: 'ERR_BUSY' });
  release();
  for (const one of slow) t.equal((await one).status, 200);
  t.equal((await fetch(`${listening.url}/slow`)).status, 200);
});

void t.test('a body that is hostile is refused in words', async (t) => {
  const app = newApp();
  const schema = { body: { type: 'object', properties: { name: { type: 'string' } } } };
  app.post('/body', { schema }, () => ({}));
  const listening = await listenHttp(app, 'http://127.0.0.1:0');
  t.teardown(() => listening.close());
  const post = async (body: string): Promise<object> => {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${listening.url}/body`, { method: 'POST', headers, body });
    return { status: response.status, body: (await response.json()) as object };
  };
  const deep = 100_000;
  t.match(await post('['.repeat(deep) + ']'.repeat(deep)), {
    status: 400,
    body: { code: 'ERR_INVALID_REQUEST', message: /^body: \[…\] must be object$/ },
  });
  t.match(await post('{"name":'.repeat(deep) + '1' + '}'.repeat(deep)), {
    status: 400,
    body: { code: 'ERR_INVALID_REQUEST', message: /^name: \{…\} must be string$/ },
  });
  for (const body of ['{"name":"a","__proto__":{}}', '{"constructor":{"prototype":{}}}', '{']) {
    t.match(await post(body), {
      status: 400,
      body: { code: 'ERR_INVALID_REQUEST', message: /no JSON, or has a key/, hint: /__proto__/ },
    });
  }
});
