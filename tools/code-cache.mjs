/**
 * Writes V8's compiled code of the bundled CLI: node tools/code-cache.mjs CLI.cjs CACHE
 *
 * Runs `tsnet ls` once against a server of its own first, so that the functions every call needs are in it.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Script } from 'node:vm';

const [, , filename, cachePath] = process.argv;
const folder = mkdtempSync(join(tmpdir(), 'tsnet-code-cache-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

const network = {
  id: '00000000',
  name: 'a',
  driver: 'overlay',
  subnets: [{ subnet: '10.0.0.0/24', gateway: '10.0.0.1' }],
  vni: 1,
  mtu: 1450,
  internal: false,
  labels: {},
  options: {},
  createdAt: '',
  generation: 1,
};
const socket = join(folder, 'api.sock');
const server = createServer((_, response) => {
  response.end(JSON.stringify([network]));
  server.close();
});
await new Promise((done) => server.listen(socket, done));

for (const name of Object.keys(process.env)) if (name.startsWith('TSNET_')) delete process.env[name];
process.env.TSNET_AGENT_SOCKET = socket;
process.argv = [process.execPath, filename, 'ls'];

// The same text as in build/bin/tsnet, or V8 takes the cache for another script's.
const source = `(function (exports, require, module, __filename, __dirname) {${readFileSync(filename, 'utf8')}\n})`;
const script = new Script(source, { filename });
script.runInThisContext()({}, createRequire(filename), {}, filename, dirname(filename));
process.on('exit', (code) => {
  if (code === 0) writeFileSync(cachePath, script.createCachedData());
});
