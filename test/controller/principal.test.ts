import '@fastify/swagger';
import { networkInterfaces } from 'node:os';
import t from 'tap';
import { authorize, type Access } from '../../controller/principal.js';
import { newHttpServer } from '../../lib/http/server.js';
import { newLogger } from '../../lib/log.js';
import type { HostToken } from '../../core/api/host.js';
import { hashToken } from '../../controller/token-files.js';
import { until } from '../store/real-etcd.js';
import { callWith, hostBody, newController, newTestEtcd } from './running-controller.js';

interface Caller {
  readonly who: string;
  readonly headers: Record<string, string>;
  /** What it may call. */
  readonly may: readonly Access[];
}

t.setTimeout(120_000);

void t.test('principals', async (t) => {
  const etcd = await newTestEtcd(t);
  const seen: {
    readonly method: string;
    readonly url: string;
    readonly access: Access | undefined;
    readonly hasErrors: boolean;
  }[] = [];
  const controller = await newController(t, etcd.endpoint, { requireLoopbackToken: true });
  const { app } = controller.handle;
  const document = app.swagger() as unknown as {
    readonly openapi: string;
    readonly paths: Record<
      string,
      Record<
        string,
        {
          readonly description?: string;
          readonly responses: object;
          readonly parameters?: readonly { readonly in: string; readonly name: string }[];
          readonly requestBody?: object;
        }
      >
    >;
  };
  const admin = await controller.token('admin');
  const host = await controller.token('host');
  const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` });

  await t.test('every route says who may call it and how it fails', async (t) => {
    t.match(document.openapi, /^3\./);
    for (const [path, methods] of Object.entries(document.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        const access = /^Access: (any|manage|admin|host)\.$/.exec(operation.description ?? '')?.[1] as
          Access | undefined;
        seen.push({
          method: method.toUpperCase(),
          url: path,
          access,
          hasErrors: '4XX' in operation.responses && '5XX' in operation.responses,
        });
      }
    }
    t.ok(seen.length >= 16, `${seen.length} routes`);
    for (const { method, url, access, hasErrors } of seen) {
      t.ok(access, `${method} ${url} has an access`);
      t.ok(hasErrors, `${method} ${url} has error answers`);
      t.ok(app.hasRoute({ method, url: url.replaceAll(/\{(\w+)\}/g, ':$1') }), `${method} ${url} is registered`);
    }
  });

  await t.test('a route that does not say it cannot be made', async (t) => {
    const mirror = controller.handle.context.mirror;
    const bare = newHttpServer({ log: newLogger('bare', 'silent') });
    t.teardown(() => bare.close());
    authorize(bare, {
      mirror,
      tokens: { admin, host },
      requireLoopbackToken: false,
      hostsManageNetworks: () => true,
      ownHostTokens: false,
    });
    t.throws(() => bare.get('/open', () => 'x'), /GET \/open/);
    bare.get('/closed', { config: { access: 'admin' } }, () => 'x');
  });

  await t.test('the document names every parameter of every path', async (t) => {
    for (const [path, methods] of Object.entries(document.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        const named = new Set((operation.parameters ?? []).filter((one) => one.in === 'path').map((one) => one.name));
        for (const [, name] of path.matchAll(/\{(\w+)\}/g))
          t.ok(named.has(name ?? ''), `${method} ${path}: ${String(name)}`);
        const hasBody = method === 'post' || method === 'put' || method === 'patch';
        t.equal(operation.requestBody !== undefined, hasBody, `${method} ${path}: body`);
      }
    }
    t.notMatch(JSON.stringify(document), /"\$ref":"(?!#\/)/, 'and refers to nothing outside itself');
  });

  await t.test('are held to what each may call', async (t) => {
    await callWith(`${controller.url}/v1/hosts/h1`, { method: 'PUT', headers: bearer(admin), body: hostBody(1) });
    const callers: readonly Caller[] = [
      { who: 'nobody', headers: {}, may: [] },
      { who: 'a wrong token', headers: bearer('f'.repeat(64)), may: [] },
      { who: 'no bearer token', headers: { authorization: `Basic ${admin}` }, may: [] },
      { who: 'admin', headers: bearer(admin), may: ['any', 'manage', 'admin', 'host'] },
      { who: 'host h1', headers: bearer(host), may: ['any', 'manage', 'host'] },
      { who: "host h2 on h1's routes", headers: { ...bearer(host), 'x-tsnet-host': 'h2' }, may: ['any', 'manage'] },
      { who: 'admin who says it is h2', headers: { ...bearer(admin), 'x-tsnet-host': 'h2' }, may: ['any', 'manage'] },
    ];
    for (const { who, headers, may } of callers) {
      for (const { method, url, access } of seen) {
        const path = url
          .replace('{host}', url.endsWith('/token') ? 'h3' : 'h1')
          .replace('{ref}', 'nothing')
          .replace('{id}', '0'.repeat(16));
        const body = method === 'GET' || method === 'DELETE' ? {} : { body: {} };
        const code = await callWith(`${controller.url}${path}`, { method, headers, ...body }).then(
          () => 'ok',
          (error: unknown) => (error as { code?: string }).code ?? 'none',
        );
        const isRefused = code === 'ERR_UNAUTHENTICATED' || code === 'ERR_FORBIDDEN';
        t.equal(
          isRefused,
          access === undefined || !may.includes(access),
          `${who}: ${method} ${url} (${String(access)}) gives ${code}`,
        );
      }
    }
  });

  await t.test('hosts manage networks only while the setting is on', async (t) => {
    const strict = await newController(t, etcd.endpoint, { requireLoopbackToken: true, hostsManageNetworks: false });
    const create = (token: string): Promise<unknown> =>
      callWith(`${strict.url}/v1/networks`, {
        method: 'POST',
        headers: { ...bearer(token), 'x-tsnet-host': 'h1' },
        body: { name: 'managed' },
      });
    await t.rejects(create(await strict.token('host')), {
      code: 'ERR_FORBIDDEN',
      message: /host:h1.*hostsManageNetworks/,
    });
    await callWith(`${strict.url}/v1/networks`, {
      method: 'POST',
      headers: bearer(await strict.token('admin')),
      body: { name: 'managed' },
    });
  });

  await t.test('a host with a token of its own is nobody else, and nobody else is that host', async (t) => {
    const other = await newController(t, etcd.endpoint, { requireLoopbackToken: true });
    const own = async (name: string): Promise<string> => {
      const made = await callWith<HostToken>(`${controller.url}/v1/hosts/${name}/token`, {
        method: 'POST',
        headers: bearer(admin),
        body: {},
      });
      t.equal(made.host, name);
      t.match(made.token, /^[0-9a-f]{64}$/);
      return made.token;
    };
    const register = (token: string, name: string, more: Record<string, string> = {}): Promise<unknown> =>
      callWith(`${other.url}/v1/hosts/${name}`, {
        method: 'PUT',
        headers: { ...bearer(token), ...more },
        body: hostBody(9),
      });
    const first = await own('kept');
    await until(() => other.handle.context.mirror.tables.token.group('host:kept').size === 1, 30_000, 'the token');
    await t.rejects(register(host, 'kept'), { code: 'ERR_UNAUTHENTICATED', message: /"kept" needs its own token/ });
    await t.rejects(register(host, 'free', { 'x-tsnet-host': 'kept' }), { code: 'ERR_UNAUTHENTICATED' });
    await register(first, 'kept');
    await t.rejects(register(first, 'free'), { code: 'ERR_UNAUTHENTICATED', message: /of host "kept", not of "free"/ });
    await t.rejects(register(first, 'free', { 'x-tsnet-host': 'kept' }), { code: 'ERR_FORBIDDEN' });
    await register(host, 'free');
    t.match(
      await callWith(`${other.url}/v1/status`, { headers: bearer(first) }),
      { store: 'ok' },
      'it need not say its name',
    );
    const second = await own('kept');
    await until(
      () => !other.handle.context.mirror.tables.token.get('host:kept', hashToken(first)),
      30_000,
      'the change',
    );
    await t.rejects(register(first, 'kept'), { code: 'ERR_UNAUTHENTICATED', message: /not known|needs its own/ });
    await register(second, 'kept');
    await t.rejects(
      callWith(`${other.url}/v1/hosts/kept/token`, { method: 'POST', headers: bearer(second), body: {} }),
      { code: 'ERR_FORBIDDEN' },
      'only an admin makes them',
    );
    for (const name of ['kept', 'free'])
      await callWith(`${other.url}/v1/hosts/${name}?force=true`, { method: 'DELETE', headers: bearer(admin) });
    await t.rejects(register(second, 'kept'), { code: 'ERR_UNAUTHENTICATED' }, 'the token went with its host');
  });

  await t.test('the token that all hosts know can be put out of use', async (t) => {
    const strict = await newController(t, etcd.endpoint, { requireLoopbackToken: true, ownHostTokens: true });
    for (const token of [host, await strict.token('host')]) {
      for (const headers of [bearer(token), { ...bearer(token), 'x-tsnet-host': 'h1' }]) {
        await t.rejects(callWith(`${strict.url}/v1/status`, { headers }), {
          code: 'ERR_UNAUTHENTICATED',
          hint: /tsnet host token/,
        });
      }
    }
    t.match(await callWith(`${strict.url}/v1/status`, { headers: bearer(admin) }), { store: 'ok' });
  });

  await t.test("controllers of one store take each other's tokens", async (t) => {
    const other = await newController(t, etcd.endpoint, { requireLoopbackToken: true });
    t.not(await other.token('admin'), admin);
    t.match(await callWith(`${other.url}/v1/status`, { headers: bearer(admin) }), { store: 'ok' });
    const stored = JSON.stringify(
      (await other.handle.context.client.list('/tsnet/v1/tokens/')).kvs.map(({ key, value }) => [
        key,
        value.toString(),
      ]),
    );
    t.notMatch(stored, admin, 'the store holds no token');
    t.notMatch(stored, await other.token('host'));
  });

  await t.test('over loopback need no token unless told so, and may say which host they are', async (t) => {
    const open = await newController(t, etcd.endpoint);
    t.match(await callWith(`${open.url}/v1/status`, {}), { store: 'ok' });
    await t.rejects(
      callWith(`${open.url}/v1/status`, { headers: bearer('wrong'.repeat(10)) }),
      { code: 'ERR_UNAUTHENTICATED' },
      'a wrong token is wrong there too',
    );
    await t.rejects(
      callWith(`${open.url}/v1/hosts/h1?force=true`, { method: 'DELETE', headers: { 'x-tsnet-host': 'h1' } }),
      { code: 'ERR_FORBIDDEN' },
    );
    await t.rejects(
      callWith(`${open.url}/v1/status`, { headers: { origin: 'http://evil.example' } }),
      { code: 'ERR_UNAUTHENTICATED' },
      'a browser page is not trusted',
    );
    await t.rejects(callWith(`${open.url}/v1/status`, { headers: { 'x-tsnet-host': 'bad host!' } }), {
      code: 'ERR_INVALID_NAME',
    });
    t.match(await callWith(`${open.url}/openapi.json`, {}), { openapi: /^3/, info: { title: 'tsnet controller' } });
  });

  await t.test('from elsewhere need a token', async (t) => {
    const address = Object.values(networkInterfaces())
      .flat()
      .find((one) => one?.family === 'IPv4' && !one.internal)?.address;
    if (address === undefined) {
      t.pass('this machine has no address but loopback');
      return;
    }
    const far = await newController(t, etcd.endpoint, { listen: [`http://${address}:0`] });
    await t.rejects(callWith(`${far.url}/v1/status`, {}), { code: 'ERR_UNAUTHENTICATED', hint: /token-file/ });
    t.match(await callWith(`${far.url}/v1/status`, { headers: bearer(await far.token('host')) }), { store: 'ok' });
  });
});

void t.test('requests that are none', async (t) => {
  const etcd = await newTestEtcd(t);
  const controller = await newController(t, etcd.endpoint);
  const post = (
    body: string,
    headers: Record<string, string> = { 'content-type': 'application/json' },
  ): Promise<Response> => fetch(`${controller.url}/v1/networks`, { method: 'POST', headers, body });
  const codeOf = async (response: Response): Promise<string> =>
    ((await response.json()) as { readonly code: string }).code;
  t.equal(await codeOf(await post('{')), 'ERR_INVALID_REQUEST');
  t.equal(await codeOf(await post('')), 'ERR_INVALID_REQUEST');
  t.equal(await codeOf(await post('name=x', { 'content-type': 'text/plain' })), 'ERR_INVALID_REQUEST');
  const large = await post(JSON.stringify({ name: 'x'.repeat(2_000_000) }));
  t.equal(large.status, 413);
  t.equal(await codeOf(large), 'ERR_TOO_LARGE');
  t.equal(await codeOf(await fetch(`${controller.url}/v2`)), 'ERR_NOT_FOUND');
  t.equal(await codeOf(await fetch(`${controller.url}/v1/networks/%ff`)), 'ERR_INVALID_REQUEST');
  t.equal(
    await codeOf(
      await fetch(`${controller.url}/v1/hosts/bad%20name`, {
        method: 'PUT',
        headers: { 'content-type': 'application/json' },
        body: '{}',
      }),
    ),
    'ERR_INVALID_NAME',
  );
});
