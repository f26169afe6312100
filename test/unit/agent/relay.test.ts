import { createServer, type IncomingMessage, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import fastify from 'fastify';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { addRelay, isPlainTarget } from '../../../agent/local-api/relay.js';
import { ControllerClient } from '../../../agent/sync/controller-client.js';
import { HttpClient } from '../../../lib/http/client.js';

interface Heard {
  readonly url: string;
  readonly seen: { readonly method: string; readonly url: string; readonly token: string | undefined }[];
}

async function listen(t: Test, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** A server that notes what it is asked. */
async function newServer(t: Test): Promise<Heard> {
  const seen: Heard['seen'] = [];
  const server = createServer((request: IncomingMessage, response) => {
    seen.push({ method: request.method ?? '', url: request.url ?? '', token: request.headers.authorization });
    response.setHeader('connection', 'close').end('{"heard":true}');
  });
  return { url: `http://127.0.0.1:${await listen(t, server)}`, seen };
}

/** Sends a request line as it is; the answer's status, or 0 where the connection is closed without one. */
function ask(port: number, line: string): Promise<number> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () =>
      socket.write(`${line} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n`),
    );
    socket.setTimeout(20_000, () => socket.destroy(new Error('no answer')));
    socket.on('data', (chunk) => (text += chunk.toString()));
    socket.on('error', reject);
    socket.on('close', () => resolve(Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0)));
  });
}

t.test('the relay talks to the controller only, whatever it is asked for', async (t) => {
  const [controller, other] = [await newServer(t), await newServer(t)];
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-relay-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, 'secret');
  const client = new ControllerClient({ urls: [controller.url], host: 'h1', tokenFile });
  t.teardown(() => client.close());
  const app = fastify();
  t.teardown(() => app.close());
  app.setErrorHandler((error: Error & { http?: number }, _request, reply) => reply.code(error.http ?? 500).send());
  addRelay(app, { client, checkRelayed: () => Promise.resolve() });
  await app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = app.server.address() as AddressInfo;

  t.equal(await ask(port, 'GET /v1/networks/front?endpoints=true'), 200);
  t.equal(await ask(port, 'DELETE /v1/services/web.front'), 200);
  const good = [
    { method: 'GET', url: '/v1/networks/front?endpoints=true', token: 'Bearer secret' },
    { method: 'DELETE', url: '/v1/services/web.front', token: 'Bearer secret' },
  ];
  t.same(controller.seen, good, 'what is in order arrives as it is, with the token of the host');

  const host = other.url.slice('http://'.length);
  for (const line of [
    `GET ${other.url}/v1/networks`,
    `GET ${other.url}/v1/networks/front`,
    `GET //${host}/v1/networks`,
    `GET ///${host}/v1/networks`,
    `GET /\\${host}/v1/networks`,
    `GET /v1/networks/../hosts/h1/register`,
    `GET /v1/networks/%2e%2e/%2E%2E/metrics`,
    `GET /v1/networks/.%2e/hosts`,
    `GET /v1/networks/..\\..\\metrics`,
    `GET /v1/networks/..%2f..%2fmetrics`,
    `GET /v1/networks/..%5cmetrics`,
    `GET /v1/networks/./front`,
    `GET /v1/networks//front`,
    `GET /v1/networks/`,
    `GET /v1/networks/%00`,
    `GET *`,
    `OPTIONS *`,
    `OPTIONS /v1/networks`,
    `TRACE /v1/networks`,
    `CONNECT ${host}`,
    `CONNECT ${other.url}/v1/networks`,
    `GET @${host}/v1/networks`,
    `GET v1/networks`,
    `GET ftp://${host}/v1/networks`,
  ]) {
    const status = await ask(port, line);
    t.ok(status === 0 || (status >= 400 && status < 500), `${line} is refused: ${status}`);
  }
  t.same(controller.seen, good, 'none of them reached the controller');
  t.same(other.seen, [], 'nor anybody else');
});

t.test('names with characters of their own are plain', (t) => {
  for (const target of [
    '/v1/networks/a.b',
    '/v1/networks/...',
    '/v1/networks/..a',
    '/v1/status?x=/../y',
    '/v1/policies/%61',
  ])
    t.ok(isPlainTarget(target), target);
  t.end();
});

t.test('a client sends paths only, to its own server', async (t) => {
  const [own, other] = [await newServer(t), await newServer(t)];
  const client = new HttpClient({ base: own.url, unreachable: 'ERR_CONTROLLER_UNREACHABLE' });
  t.teardown(() => client.close());
  await t.rejects(client.call('GET', `${other.url}/v1/networks`), { code: 'ERR_INVALID_REQUEST' });
  await t.rejects(client.call('GET', 'v1/networks'), { code: 'ERR_INVALID_REQUEST' });
  await t.rejects(client.call('GET', '/v1/a b'), { code: 'ERR_INVALID_REQUEST' });
  await client.call('GET', `//${other.url.slice('http://'.length)}/v1/networks`);
  await client.call('GET', '/v1/networks/../x');
  t.same(
    own.seen.map(({ url }) => url),
    [`//${other.url.slice('http://'.length)}/v1/networks`, '/v1/networks/../x'],
    'as they are',
  );
  t.same(other.seen, []);
});
