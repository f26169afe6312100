import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { AttachRequest, DetachRequest } from '../../core/api/attach.js';
import { TsnetError } from '../../core/errors.js';
import { isForeground, startTimeOf } from '../../cli/run/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { cleanEnv, root, startTsnet, tsnet, tsnetPath, type Outcome } from './program.js';
import { answerCluster, openStubApi, web, type Answer, type StubApi } from './stub-api.js';

const built = existsSync(`${root}build/libexec/tsnet-run`);
const skip = !built
  ? 'build/libexec/tsnet-run is not built'
  : process.geteuid?.() !== 0
    ? 'a network namespace needs root'
    : false;

/** An agent that keeps who is attached, as a real one does, and says what it sees at that moment. */
async function openAgent(
  answer: Answer = answerCluster,
): Promise<StubApi & { readonly attached: Map<string, AttachRequest> }> {
  const attached = new Map<string, AttachRequest>();
  const api = await openStubApi(async (request) => {
    const result = await answer(request);
    const body = request.body as AttachRequest & DetachRequest;
    if (request.path === '/v1/agent/attach') attached.set(`${body.network} ${body.id ?? ''}`, body);
    if (request.path === '/v1/agent/detach')
      return { detached: attached.delete(`${body.network} ${body.id ?? ''}`) ? [web.id] : [] };
    return result;
  });
  return { ...api, attached };
}

const pidOf = (target: string): number => Number(target.replace('pid:', ''));
const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`);

t.test('a run', { skip }, async (t) => {
  t.test("gives the command a resolv.conf of its own, and leaves the host's as it is", async (t) => {
    // Told from those of other tests' runs.
    const text = `nameserver 10.64.0.1\nsearch frontend-${process.pid}.tsnet.internal\n`;
    const before = readFileSync('/etc/resolv.conf', 'utf8');
    const api = await openAgent((request) =>
      request.path.startsWith('/v1/agent/resolver') ? { text } : answerCluster(request),
    );
    t.teardown(() => api.close());
    const { code, stdout } = await tsnet(['run', '--network', 'frontend', '--', 'cat', '/etc/resolv.conf'], api.env);
    t.same({ code, stdout }, { code: 0, stdout: text });
    t.equal(readFileSync('/etc/resolv.conf', 'utf8'), before);
    t.same(
      readdirSync('/run').filter((name) => name.startsWith('tsnet-resolv-') && holds(`/run/${name}`, text)),
      [],
      'no file is left',
    );
  });

  t.test('attaches before the command starts, in a namespace of its own, and detaches when it ended', async (t) => {
    let namespaceThen = '';
    let programThen = '';
    const api = await openAgent((request) => {
      if (request.path === '/v1/agent/attach') {
        const pid = pidOf((request.body as AttachRequest).target);
        namespaceThen = readlinkSync(`/proc/${pid}/ns/net`);
        programThen = readlinkSync(`/proc/${pid}/exe`);
      }
      return answerCluster(request);
    });
    t.teardown(() => api.close());
    const { code, stdout, stderr } = await tsnet(
      [
        'run',
        '--network',
        'frontend',
        '--name',
        'web',
        '--alias',
        'www',
        '--label',
        'a=b',
        '--',
        'sh',
        '-c',
        'readlink /proc/self/ns/net; echo problem >&2; exit 7',
      ],
      api.env,
    );
    t.same({ code, stdout, stderr }, { code: 7, stdout: `${namespaceThen}\n`, stderr: 'problem\n' });
    t.not(namespaceThen, readlinkSync('/proc/self/ns/net'));
    t.match(programThen, /tsnet-run$/, 'the command did not run yet');
    const [attach, resolver, detach] = api.requests;
    const { target, id, ...rest } = attach?.body as AttachRequest;
    t.same(rest, { network: 'frontend', name: 'web', aliases: ['www'], labels: { a: 'b' } });
    t.match(id, new RegExp(`^run-${pidOf(target)}-[1-9][0-9]*$`));
    t.equal(resolver?.path, `/v1/agent/resolver?target=${encodeURIComponent(target)}`);
    t.same(detach?.body, { network: 'frontend', id });
    t.equal(api.requests.length, 3);
    t.equal(api.attached.size, 0);
    t.notOk(isAlive(pidOf(target)));
  });

  t.test('attaches networks in their order and detaches them in reverse', async (t) => {
    const api = await openAgent();
    t.teardown(() => api.close());
    const { code, stderr } = await tsnet(
      ['run', '--network', 'frontend', '--network', 'lan', '--ip', '198.18.4.130', '--ip', '10.64.0.9', '--', 'true'],
      api.env,
    );
    t.same({ code, stderr }, { code: 0, stderr: '' });
    const calls = api.requests.filter(({ method }) => method === 'POST');
    t.same(
      calls.map(({ path, body }) => [
        path.replace('/v1/agent/', ''),
        (body as AttachRequest).network,
        (body as AttachRequest).addresses ?? null,
      ]),
      [
        ['attach', 'frontend', ['10.64.0.9']],
        ['attach', 'lan', ['198.18.4.130']],
        ['detach', 'lan', null],
        ['detach', 'frontend', null],
      ],
    );
  });

  t.test('whose later network fails never starts the command and leaves nothing attached', async (t) => {
    const api = await openAgent((request) => {
      if (request.path === '/v1/agent/attach' && (request.body as AttachRequest).network === 'lan')
        throw new TsnetError('ERR_ADDRESS_EXHAUSTED', 'network lan: no address is left');
      return answerCluster(request);
    });
    t.teardown(() => api.close());
    const { code, stdout, stderr } = await tsnet(
      ['run', '--network', 'frontend', '--network', 'lan', '--', 'echo', 'started'],
      api.env,
    );
    t.same({ code, stdout }, { code: 1, stdout: '' });
    t.match(stderr, /^error: network lan: no address is left\nhint: /);
    t.equal(api.attached.size, 0);
    t.notOk(isAlive(pidOf((api.requests[0]?.body as AttachRequest).target)));
  });

  t.test('without an agent says so and leaves no process', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'tsnet-run-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const socket = join(folder, 'agent.sock');
    const { code, stderr } = await tsnet(['run', '--network', 'frontend', '--', 'echo', 'started'], {
      TSNET_AGENT_SOCKET: socket,
    });
    t.equal(code, 1);
    t.match(stderr, `error: no agent answers at ${socket} (no such socket)\n`);
    t.same(
      readdirSync('/proc').filter((name) => isHelper(name) && holds(`/proc/${name}/environ`, socket)),
      [],
    );
  });

  t.test('of a command that is not there exits with 127 and attaches nothing', async (t) => {
    const api = await openAgent();
    t.teardown(() => api.close());
    for (const command of ['no-such-command', '/etc/passwd', './no-such-command', '/tmp']) {
      const { code, stderr } = await tsnet(['run', '--network', 'frontend', '--', command], api.env);
      t.equal(code, 127, command);
      t.match(stderr, `error: command "${command}" is not there or not executable\nhint: `);
    }
    t.equal(api.requests.length, 0);
  });

  t.test('whose helper is missing names the file', async (t) => {
    const api = await openAgent();
    t.teardown(() => api.close());
    const { code, stderr } = await tsnet(['run', '--network', 'frontend', '--', 'true'], {
      ...api.env,
      TSNET_LIBEXEC: '/nonexistent',
    });
    t.equal(code, 1);
    t.match(stderr, /^error: \/nonexistent\/tsnet-run cannot be started: .*ENOENT\nhint: /);
    t.equal(api.requests.length, 0);
  });

  t.test('passes options after the command on, with and without --', async (t) => {
    const api = await openAgent();
    t.teardown(() => api.close());
    for (const separator of [['--'], []]) {
      const { stdout } = await tsnet(
        ['run', '--network', 'frontend', ...separator, 'echo', '--name', 'x', '-h'],
        api.env,
      );
      t.equal(stdout, '--name x -h\n');
    }
    t.same(
      api.requests.filter(({ path }) => path.endsWith('attach')).map(({ body }) => (body as AttachRequest).name),
      [undefined, undefined],
    );
  });

  t.test('exits with 128 and the number of the signal that ended the command', async (t) => {
    const api = await openAgent();
    t.teardown(() => api.close());
    t.equal((await tsnet(['run', '--network', 'frontend', '--', 'sh', '-c', 'kill -KILL $$'], api.env)).code, 137);
    t.equal(api.attached.size, 0);
  });

  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGINT', 'SIGQUIT', 'SIGWINCH'] as const) {
    t.test(`passes ${signal} on to the command and waits for it`, async (t) => {
      const api = await openAgent();
      t.teardown(() => api.close());
      const script = `trap 'echo got; exit 3' ${signal.slice(3)}; echo ready; while :; do sleep 0.01; done`;
      // A session of its own: no terminal delivers signals to the command.
      const { child, outcome } = startTsnet(['run', '--network', 'frontend', '--', 'bash', '-c', script], {
        env: api.env,
        detached: true,
        timeout: 30_000,
      });
      await firstOutput(child.stdout);
      child.kill(signal);
      t.match(await outcome, { code: 3, stdout: 'ready\ngot\n', stderr: '' });
      t.equal(api.attached.size, 0);
    });
  }

  const scriptPath = '/usr/bin/script';
  t.test(
    'leaves ^C to the terminal, which the command has as well',
    { skip: existsSync(scriptPath) ? false : 'script(1) is not there' },
    async (t) => {
      const api = await openAgent();
      t.teardown(() => api.close());
      const inner = `trap 'echo got' INT; test -t 0 && test -t 1 && echo ready; read -r line; echo "end $line"; exit 4`;
      const command = `exec ${tsnetPath} run --network frontend -- bash -c '${inner.replace(/'/g, `'\\''`)}'`;
      const child = spawn(scriptPath, ['-qec', command, '/dev/null'], {
        env: cleanEnv({ ...api.env, SHELL: '/bin/sh' }),
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      let seen = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => (seen += text));
      const exit = once(child, 'exit');
      await waitFor('the command', () => seen.includes('ready'));
      child.stdin.write('\u0003');
      await waitFor('the trap', () => seen.includes('got'));
      child.stdin.write('typed\n');
      const [code] = (await exit) as [number];
      t.equal(code, 4, seen);
      t.equal(seen.split('got').length - 1, 1, 'the signal came once');
      t.match(seen, 'end typed');
      t.equal(api.attached.size, 0);
    },
  );

  t.test('that is interrupted while it attaches never starts the command and leaves nothing attached', async (t) => {
    let release = (): void => undefined;
    const waiting = new Promise<void>((done) => (release = done));
    const api = await openAgent(async (request) => {
      if (request.path === '/v1/agent/attach' && (request.body as AttachRequest).network === 'lan') await waiting;
      return answerCluster(request);
    });
    t.teardown(() => api.close());
    const { child, outcome } = startTsnet(
      ['run', '--network', 'frontend', '--network', 'lan', '--', 'echo', 'started'],
      { env: api.env, detached: true },
    );
    await waitFor('the second attach', () => api.requests.length === 2);
    child.kill('SIGTERM');
    t.match(await outcome, { code: 143, stdout: '', stderr: '' });
    t.same(
      api.requests.slice(2).map(({ path, body }) => [path, (body as DetachRequest).network]),
      [
        ['/v1/agent/detach', 'lan'],
        ['/v1/agent/detach', 'frontend'],
      ],
    );
    release();
  });

  t.test('that is killed before the command starts takes the sandbox with it', async (t) => {
    let release = (): void => undefined;
    const waiting = new Promise<void>((done) => (release = done));
    const api = await openAgent(async (request) => {
      await waiting;
      return answerCluster(request);
    });
    t.teardown(() => api.close());
    const { child, outcome } = startTsnet(['run', '--network', 'frontend', '--', 'echo', 'started'], {
      env: api.env,
      detached: true,
    });
    await waitFor('the attach', () => api.requests.length === 1);
    const pid = pidOf((api.requests[0]?.body as AttachRequest).target);
    child.kill('SIGKILL');
    t.match(await outcome, { signal: 'SIGKILL', stdout: '' });
    await waitFor('the end of the sandbox', () => !isAlive(pid));
    release();
  });

  t.test('keeps the exit code of the command when detaching fails, and warns', async (t) => {
    const api = await openAgent((request) => {
      if (request.path === '/v1/agent/detach') throw new TsnetError('ERR_STOPPING', 'the agent is stopping');
      return answerCluster(request);
    });
    t.teardown(() => api.close());
    const outcome: Outcome = await tsnet(['run', '--network', 'frontend', '--', 'sh', '-c', 'exit 5'], api.env);
    t.same(outcome, {
      code: 5,
      signal: null,
      stdout: '',
      stderr: 'warning: not detached from frontend: the agent is stopping\n',
    });
  });
});

t.test('the start time names a process for good', async (t) => {
  const fields = readFileSync('/proc/self/stat', 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  t.equal(startTimeOf(process.pid), fields[19]);
  t.equal(startTimeOf(4_194_304), '0');
});

t.test('a process is in the foreground when the terminal says so', async (t) => {
  const folder = t.testdir({
    foreground: '7 (a) b) S 1 70 7 34816 70 4194560 1',
    background: '7 (a) b) S 1 70 7 34816 71 4194560 1',
    'without-terminal': '7 (a) b) S 1 70 7 0 -1 4194560 1',
  });
  t.ok(isForeground(`${folder}/foreground`));
  t.notOk(isForeground(`${folder}/background`));
  t.notOk(isForeground(`${folder}/without-terminal`));
  t.notOk(isForeground('/nonexistent'));
});

/** Reports whether a file has a text in it; one that has gone has not. */
function holds(path: string, text: string): boolean {
  try {
    return readFileSync(path, 'utf8').includes(text);
  } catch {
    return false;
  }
}

function isHelper(pid: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`).endsWith('/tsnet-run');
  } catch {
    return false;
  }
}

function firstOutput(stream: NodeJS.ReadableStream | null): Promise<void> {
  return new Promise((done) => stream?.once('data', () => done()));
}
