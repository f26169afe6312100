import t from 'tap';
import type { ServiceView } from '../../core/api/service.js';
import { tsnet } from './program.js';
import { openStubApi } from './stub-api.js';

const view: ServiceView = {
  name: 'web',
  network: 'frontend',
  mode: 'vip',
  addresses: ['10.64.0.9', 'fd74:736e::9'],
  ports: [
    { port: 80, target: 8080, protocol: 'tcp' },
    { port: 53, target: 53, protocol: 'udp' },
  ],
  selector: { app: 'web' },
  affinity: 'none',
  drainMs: 30_000,
  endpoints: [
    { endpoint: '00000000000000a1', name: 'web-1', host: 'h1', addresses: ['10.64.0.2'], state: 'ready' },
    { endpoint: '00000000000000a2', name: null, host: 'h2', addresses: ['10.64.0.3'], state: 'failing' },
  ],
  createdAt: '2026-01-02T03:04:05.000Z',
  generation: 1,
};

t.test('service', async (t) => {
  const api = await openStubApi(({ method, path }) => {
    if (method === 'DELETE') return undefined;
    return path === '/v1/services' && method === 'GET' ? [view] : view;
  });
  t.teardown(() => api.close());
  const last = () => api.requests.at(-1);
  const run = (...args: string[]) => tsnet(['service', ...args], api.env);

  t.test('create sends what its options say, and nothing that they do not', async (t) => {
    const least = await run(
      'create',
      'web',
      '--network',
      'frontend',
      '--port',
      '80',
      '--backend',
      'a',
      '--backend',
      'b',
    );
    t.equal(least.code, 0, least.stderr);
    t.same(last()?.body, { name: 'web', network: 'frontend', ports: [{ port: 80 }], backends: ['a', 'b'] });
    const words = '--network frontend --port 80:8080 --port 53/udp --selector app=web --selector tier=front --mode vip';
    const more = '--ip 10.64.0.9 --affinity client-ip --health http:/ready --publish 8080:80 --drain 5s';
    t.equal((await run('create', 'web', ...`${words} ${more}`.split(' '))).code, 0);
    t.same(last()?.body, {
      name: 'web',
      network: 'frontend',
      ports: [
        { port: 80, target: 8080 },
        { port: 53, protocol: 'udp' },
      ],
      selector: { app: 'web', tier: 'front' },
      mode: 'vip',
      addresses: ['10.64.0.9'],
      affinity: 'client-ip',
      health: { type: 'http', path: '/ready' },
      publish: [{ hostPort: 8080, port: 80 }],
      drainMs: 5000,
    });
  });

  t.test('what cannot be read is refused before anything is sent', async (t) => {
    const before = api.requests.length;
    const base = ['create', 'web', '--network', 'frontend', '--port'];
    for (const words of [
      [...base, 'http'],
      [...base, '80', '--health', 'ping'],
      [...base, '80', '--publish', '1.2.3.4:80'],
      [...base, '80', '--mode', 'random'],
      [...base, '80', '--backend', 'a', '--selector', 'a=b'],
      ['create', 'web', '--network', 'frontend'],
      ['drain', 'web'],
      ['set', 'web'],
      ['set', 'web', '--generation', '3'],
      ['set', 'web', '--drain', '1s', '--generation', '0'],
      ['set', 'web', '--port', '80:x'],
      ['set', 'web', '--backend', 'a', '--selector', 'a=b'],
      ['set', '--affinity', 'none'],
    ])
      t.equal((await run(...words)).code, 2, words.join(' '));
    t.equal(api.requests.length, before);
  });

  t.test('set sends what is to change, and nothing else', async (t) => {
    const words =
      '--port 80:8081 --selector app=web --affinity none --health tcp --publish 8080 --drain 5s --generation 7';
    t.equal((await run('set', 'web.frontend', ...words.split(' '))).code, 0);
    t.match(last(), { method: 'PATCH', path: '/v1/services/web.frontend' });
    t.same(last()?.body, {
      ports: [{ port: 80, target: 8081 }],
      selector: { app: 'web' },
      affinity: 'none',
      health: { type: 'tcp' },
      publish: [{ hostPort: 8080 }],
      drainMs: 5000,
      generation: 7,
    });
    await run('set', 'web', '--backend', 'a', '--backend', 'b', '--no-health', '--no-publish');
    t.same(last()?.body, { backends: ['a', 'b'], health: null, publish: [] });
  });

  t.test('ls, inspect, drain and rm', async (t) => {
    t.match((await run('ls')).stdout, /web +frontend +vip +10\.64\.0\.9,fd74:736e::9 +80:8080\/tcp,53\/udp +1\/2/);
    t.equal((await run('ls', '-q')).stdout, 'web.frontend\n');
    t.match((await run('inspect', 'web')).stdout, /web-1@h1=ready,00000000000000a2@h2=failing/);
    t.same(JSON.parse((await run('inspect', 'web', '-o', 'json')).stdout), [view]);
    await run('drain', 'web', 'web-1', 'web-2');
    t.match(last(), { method: 'PATCH', path: '/v1/services/web', body: { drain: ['web-1', 'web-2'] } });
    await run('drain', 'web', 'web-1', '--undo');
    t.same(last()?.body, { undrain: ['web-1'] });
    t.equal((await run('rm', 'web.frontend')).stdout, 'web.frontend\n');
    t.match(last(), { method: 'DELETE', path: '/v1/services/web.frontend' });
  });
});
