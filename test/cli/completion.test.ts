import { spawn, spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { cleanEnv, golden, tsnet, tsnetPath } from './program.js';
import { answerCluster, openStubApi } from './stub-api.js';

const hasZsh = spawnSync('zsh', ['--version']).status === 0;

/** What bash offers for a line whose last word is being typed. */
const offerScript = `
source <(tsnet completion bash)
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_tsnet
printf '%s\\n' "\${COMPREPLY[@]}"
`;

async function run(
  program: string,
  args: readonly string[],
  input: string,
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const path = `${dirname(tsnetPath)}:${process.env['PATH'] ?? ''}`;
  const child = spawn(program, args, { env: cleanEnv({ ...env, PATH: path }), stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.end(input);
  const exit = new Promise<number | null>((done) => child.once('exit', done));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await exit, stdout, stderr };
}

t.test('bash takes the script and offers commands, options, choices and names', async (t) => {
  const { code, stdout: script } = await tsnet(['completion', 'bash']);
  t.equal(code, 0);
  t.equal(script, golden('completion-bash', script));
  t.same(await run('bash', ['--norc', '-n'], script), { code: 0, stdout: '', stderr: '' });
  const api = await openStubApi(answerCluster);
  t.teardown(() => api.close());
  const offers = async (...words: string[]): Promise<readonly string[]> => {
    const { stdout, stderr } = await run('bash', ['--norc', '-c', offerScript, 'bash', 'tsnet', ...words], '', api.env);
    t.equal(stderr, '', words.join(' '));
    return stdout.split('\n').filter((line) => line !== '');
  };
  t.same(await offers('c'), ['create', 'connect', 'cni', 'controller', 'completion']);
  t.same(await offers('endpoint', ''), ['ls', 'set']);
  t.same(await offers('endpoint', 's'), ['set']);
  t.same(await offers('completion', ''), ['bash', 'zsh']);
  t.same(await offers('create', '--i'), ['--ip-range', '--ipv6', '--internal']);
  t.same(await offers('ls', '-'), ['-q', '--quiet', '-o', '--output', '--controller', '--token-file', '-h', '--help']);
  t.same(await offers('create', 'a', '--driver', ''), ['overlay', 'bridge', 'macvlan']);
  t.same(await offers('ls', '-o', 'j'), ['json']);
  t.same(await offers('rm', ''), ['frontend', 'lan']);
  t.same(await offers('rm', 'frontend', 'l'), ['lan'], 'rm takes several');
  t.same(await offers('update', 'frontend', ''), [], 'update takes one');
  t.same(await offers('connect', '--name', 'rm', 'f'), ['frontend'], 'the value of an option is no command');
  t.same(await offers('run', '--network', 'f'), ['frontend']);
  t.same(await offers('host', 'rm', 'n'), ['node1']);
  t.same(await offers('endpoint', 'set', '0'), ['0123456789abcdef']);
});

t.test('zsh takes the script', { skip: hasZsh ? false : 'zsh is not there' }, async (t) => {
  const { stdout: script } = await tsnet(['completion', 'zsh']);
  t.same(await run('zsh', ['-n'], script), { code: 0, stdout: '', stderr: '' });
  const loaded = await run(
    'zsh',
    [
      '-f',
      '-c',
      'autoload -Uz compinit && compinit -D -u && source <(tsnet completion zsh) && print $_comps[tsnet] && whence -w _tsnet_endpoint_set',
    ],
    '',
  );
  t.same(loaded, { code: 0, stdout: '_tsnet\n_tsnet_endpoint_set: function\n', stderr: '' });
});

t.test('the zsh script is as written down', async (t) => {
  const { code, stdout } = await tsnet(['completion', 'zsh']);
  t.equal(code, 0);
  t.equal(stdout, golden('completion-zsh', stdout));
});
