import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { dnsSocketPath } from '../../../agent/dns/server.js';
import { callServer } from '../../../cli/exchange.js';
import { EtcdClient } from '../../../lib/etcd/client.js';
import { HttpClient } from '../../../lib/http/client.js';
import { listenHttp } from '../../../lib/http/listen.js';
import { newHttpServer } from '../../../lib/http/server.js';
import { newLogger } from '../../../lib/log.js';
import { socketPath } from '../../../lib/socket-path.js';
import { bindUnix } from '../../../lib/unix-socket.js';

const log = newLogger('test', 'silent');

function newFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-path-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

const pathOf = (folder: string, sizeBytes: number): string => `${folder}/`.padEnd(sizeBytes, 's');

const tooLong = (code: string, syscall: string): { code: string; message: RegExp; cause: object } => ({
  code,
  message: /the path of a socket has 107 bytes at most, this one has 108$/,
  cause: { code: 'ENAMETOOLONG', syscall },
});

t.test('a path is as it was, or refused', async (t) => {
  for (const path of ['', 'a', '/run/tsnet/agent.sock', `/${'é'.repeat(53)}`, '/'.repeat(107)])
    t.equal(socketPath(path, 'ERR_LISTEN'), path);
  for (const path of [`//${'é'.repeat(53)}`, '/'.repeat(108)])
    t.throws(() => socketPath(path, 'ERR_USAGE'), tooLong('ERR_USAGE', 'connect'), 'bytes count, not letters');
});

t.test('servers and clients use the longest path, and of one longer no other file instead', async (t) => {
  const folder = newFolder(t);
  const [longest, longer] = [pathOf(folder, 107), pathOf(folder, 108)];
  const app = newHttpServer({ log });
  app.get('/ping', () => ({ pong: true }));
  await t.rejects(listenHttp(app, `unix:${longer}`), tooLong('ERR_LISTEN', 'bind'));
  await t.rejects(bindUnix(createServer(), longer), tooLong('ERR_LISTEN', 'bind'));
  t.same(readdirSync(folder), [], 'nothing was made');

  const listening = await listenHttp(app, `unix:${longest}`);
  const ask = async (path: string): Promise<unknown[]> => {
    const base = `unix:${path}`;
    const client = new HttpClient({ base, unreachable: 'ERR_AGENT_UNREACHABLE' });
    t.teardown(() => client.close());
    const call = callServer({ base, unreachable: 'ERR_AGENT_UNREACHABLE' }, { method: 'GET', path: '/ping' });
    const lines = client.lines('GET', '/ping', { idleMs: 10_000 });
    const got = await Promise.allSettled([client.call('GET', '/ping'), call, lines]);
    return got.map((each) => (each.status === 'rejected' ? (each.reason as unknown) : 'answered'));
  };
  t.same(await ask(longest), ['answered', 'answered', 'answered']);
  const refused = tooLong('ERR_AGENT_UNREACHABLE', 'connect');
  t.match(await ask(longer), [refused, refused, refused]);
  await listening.close();
});

t.test('so do the name server, and clients of etcd', async (t) => {
  const runDir = '/'.padEnd(107 - '/dns.sock'.length, 'r');
  t.equal(dnsSocketPath(runDir), `${runDir}/dns.sock`);
  t.throws(() => dnsSocketPath(`${runDir}r`), tooLong('ERR_LISTEN', 'bind'));
  for (const scheme of ['unix:', 'unix://']) {
    const endpoint = `${scheme}${pathOf('/run', 107)}`;
    new EtcdClient({ endpoints: [endpoint] }).close();
    t.throws(() => new EtcdClient({ endpoints: [`${endpoint}s`] }), tooLong('ERR_USAGE', 'connect'));
  }
});
