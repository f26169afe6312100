import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { createServer, type Server } from 'node:http';
import type { CniAnswer } from '../../cni-plugin/plugin.js';
import { cniSocketPath, serveCalls } from '../../cni-plugin/socket.js';
import { loadNative } from '../../native/index.js';
import { tsnet } from '../cli/program.js';
import { shimPath } from './program.js';

/** An agent that answers STATUS as told, and lists endpoints. */
class StubAgent {
  readonly folder = mkdtempSync(join(tmpdir(), 'tsnet-cni-'));
  readonly socket = join(this.folder, 'agent.sock');
  readonly bin = join(this.folder, 'bin');
  readonly conf = join(this.folder, 'conf');
  readonly env = { TSNET_AGENT_SOCKET: this.socket };
  isReady = true;
  endpoints: object[] = [];
  #server: Server | undefined;
  #endCalls: (() => void) | undefined;

  async start(t: Test): Promise<this> {
    this.#server = createServer((request, response) => {
      request.resume();
      request.on('end', () => response.end(JSON.stringify(this.endpoints)));
    });
    await new Promise<void>((done) => this.#server?.listen(this.socket, done));
    this.#endCalls = await serveCalls(loadNative(), cniSocketPath(this.socket), () => Promise.resolve(this.#status()));
    t.teardown(async () => {
      await this.stop();
      rmSync(this.folder, { recursive: true });
    });
    return this;
  }

  async stop(): Promise<void> {
    this.#endCalls?.();
    this.#endCalls = undefined;
    this.#server?.closeAllConnections();
    await new Promise((done) => (this.#server === undefined ? done(undefined) : this.#server.close(done)));
  }

  run(verb: string, ...more: string[]) {
    return tsnet(['cni', verb, '--bin-dir', this.bin, '--conf-dir', this.conf, ...more, '-o', 'json'], this.env);
  }

  #status(): CniAnswer {
    if (this.isReady) return { exit: 0, stdout: '' };
    const msg = 'tsnet cannot attach to network frontend';
    return { exit: 1, stdout: JSON.stringify({ cniVersion: '1.1.0', code: 50, msg, details: 'there is none' }) };
  }
}

t.test('install puts the plugin and a configuration list in place, and again changes nothing', async (t) => {
  const agent = await new StubAgent().start(t);
  const first = await agent.run('install', '--runtime', 'podman', '--network', 'frontend');
  const [binary, conflist] = [join(agent.bin, 'tsnet'), join(agent.conf, 'frontend-podman.conflist')];
  t.same(first.stderr, '');
  t.same(JSON.parse(first.stdout), {
    runtime: 'podman',
    name: 'frontend-podman',
    network: 'frontend',
    binary,
    conflist,
    changed: [binary, conflist],
  });
  t.ok(readFileSync(binary).equals(readFileSync(shimPath)));
  t.equal(statSync(binary).mode & 0o777, 0o755);
  t.same(JSON.parse(readFileSync(conflist, 'utf8')), {
    cniVersion: '1.0.0',
    name: 'frontend-podman',
    plugins: [
      {
        type: 'tsnet',
        network: 'frontend',
        runtime: 'podman',
        agentSocket: agent.socket,
        capabilities: {
          portMappings: true,
          ips: true,
          mac: true,
          aliases: true,
          bandwidth: true,
          dns: true,
          ipRanges: true,
        },
      },
    ],
  });
  t.same(readdirSync(agent.conf), ['frontend-podman.conflist'], 'no temporary file remains');
  const inodes = [statSync(binary).ino, statSync(conflist).ino];
  const again = await agent.run('install', '--runtime', 'podman', '--network', 'frontend');
  t.same((JSON.parse(again.stdout) as { changed: string[] }).changed, []);
  t.same([statSync(binary).ino, statSync(conflist).ino], inodes);

  writeFileSync(binary, 'an older one');
  const update = await agent.run('install', '--runtime', 'podman', '--network', 'frontend', '--cni-version', '0.4.0');
  t.same(
    (JSON.parse(update.stdout) as { changed: string[] }).changed,
    [binary, conflist],
    'both are brought up to date',
  );
});

t.test('the configuration is written last, once the agent can attach', async (t) => {
  const agent = await new StubAgent().start(t);
  agent.isReady = false;
  const refused = await agent.run('install', '--runtime', 'containerd', '--network', 'frontend');
  t.equal(refused.code, 1);
  t.match(JSON.parse(refused.stderr), {
    code: 'ERR_NETWORK_UNKNOWN',
    message: /cannot attach to network frontend/,
    hint: /tsnet create frontend/,
  });
  t.same(readdirSync(agent.folder).includes('conf'), false);
  await agent.stop();
  const away = await agent.run('install', '--runtime', 'containerd', '--network', 'frontend');
  t.match(JSON.parse(away.stderr), { code: 'ERR_AGENT_UNREACHABLE' });
  t.same(readdirSync(agent.folder).includes('conf'), false);
});

t.test('somebody else’s file or name is left alone', async (t) => {
  const agent = await new StubAgent().start(t);
  mkdirSync(agent.conf);
  const other = join(agent.conf, '10-frontend-containerd.conflist');
  writeFileSync(other, '{"name":"x","plugins":[{"type":"bridge"}]}');
  const file = await agent.run('install', '--runtime', 'containerd', '--network', 'frontend');
  t.match(JSON.parse(file.stderr), { code: 'ERR_NETWORK_NAME_IN_USE' });
  rmSync(other);
  writeFileSync(join(agent.conf, '87-podman.conflist'), '{"name":"web","plugins":[{"type":"bridge"}]}');
  const name = await agent.run('install', '--runtime', 'podman', '--network', 'frontend', '--name', 'web');
  t.match(JSON.parse(name.stderr), { code: 'ERR_NETWORK_NAME_IN_USE', message: /87-podman/ });
});

t.test('uninstall takes away its own, and the plugin once nobody needs it', async (t) => {
  const agent = await new StubAgent().start(t);
  const binary = join(agent.bin, 'tsnet');
  for (const runtime of ['podman', 'nerdctl'])
    t.equal((await agent.run('install', '--runtime', runtime, '--network', 'a')).code, 0);
  await agent.run('install', '--runtime', 'podman', '--network', 'b');
  writeFileSync(join(agent.conf, 'foreign.conflist'), '{"name":"x","plugins":[{"type":"bridge"}]}');
  const one = await agent.run('uninstall', '--runtime', 'podman', '--network', 'b');
  t.same((JSON.parse(one.stdout) as { changed: string[] }).changed, [join(agent.conf, 'b-podman.conflist')]);
  t.match(one.stderr, /kept/);
  await agent.run('uninstall', '--runtime', 'podman');
  t.same(readdirSync(agent.conf), ['a-nerdctl.conflist', 'foreign.conflist']);

  agent.endpoints = [{ labels: { 'cni.name': 'a-nerdctl' } }];
  await agent.run('uninstall', '--runtime', 'nerdctl');
  t.ok(statSync(binary).isFile(), 'a container still runs');
  agent.endpoints = [];
  const last = await agent.run('uninstall', '--runtime', 'nerdctl');
  t.same((JSON.parse(last.stdout) as { changed: string[] }).changed, [binary]);
  t.equal((await agent.run('uninstall', '--runtime', 'nerdctl')).code, 0, 'again');
});

t.test('what keeps a runtime from using it is said', async (t) => {
  const agent = await new StubAgent().start(t);
  mkdirSync(agent.conf);
  const before = join(agent.conf, '05-other.conf');
  writeFileSync(before, '{"name":"x","type":"bridge"}');
  writeFileSync(join(agent.conf, '04-no-configuration.txt'), '');
  for (const runtime of ['containerd', 'crio', 'ctr']) {
    const { code, stderr } = await agent.run('install', '--runtime', runtime, '--network', 'a');
    t.equal(code, 0, 'it is installed all the same');
    t.match(
      stderr,
      new RegExp(`^note: ${runtime} takes the first file of .*/conf, which is 05-other\\.conf:`),
      runtime,
    );
    t.equal(/"loopback"/.test(stderr), runtime === 'containerd', runtime);
    await agent.run('uninstall', '--runtime', runtime);
  }
  t.equal(
    (await agent.run('install', '--runtime', 'podman', '--network', 'a')).stderr,
    '',
    'its containers name theirs',
  );
  rmSync(before);
  writeFileSync(join(agent.bin, 'loopback'), '');
  t.equal((await agent.run('install', '--runtime', 'containerd', '--network', 'a')).stderr, '');
});

t.test('what is made is for everybody to read, whatever the umask', async (t) => {
  const agent = await new StubAgent().start(t);
  const umask = process.umask(0o077);
  const { code } = await agent
    .run('install', '--runtime', 'apptainer', '--network', 'a', '--conf-dir', join(agent.conf, 'net.d'))
    .finally(() => process.umask(umask));
  t.equal(code, 0);
  const modeOf = (...path: string[]): number => statSync(join(...path)).mode & 0o777;
  t.same(
    [modeOf(agent.bin), modeOf(agent.bin, 'tsnet'), modeOf(agent.conf), modeOf(agent.conf, 'net.d')],
    [0o755, 0o755, 0o755, 0o755],
  );
  t.equal(modeOf(agent.conf, 'net.d', 'a-apptainer.conflist'), 0o644);
});
