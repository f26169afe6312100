import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { cleanEnv, golden, tsnet, tsnetPath } from './program.js';
import { answerCluster, openStubApi } from './stub-api.js';

const hasZsh = spawnSync('zsh', ['--version']).status === 0;
const hasFish = spawnSync('fish', ['--version']).status === 0;

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
  t.same(await offers('completion', ''), ['bash', 'zsh', 'fish']);
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

t.test('the fish script is as written down, and has each command and option', async (t) => {
  const { code, stdout } = await tsnet(['completion', 'fish']);
  t.equal(code, 0);
  t.equal(stdout, golden('completion-fish', stdout));
  const lines = stdout.split('\n');
  for (const wanted of [
    `complete -c tsnet -n '__tsnet_at "" 0' -a 'endpoint' -d 'list endpoints and change them'`,
    `complete -c tsnet -n '__tsnet_at /endpoint 0' -a 'set' -d`,
    `complete -c tsnet -n '__tsnet_at /rm 0+' -a '(tsnet ls -q 2>/dev/null)'`,
    `complete -c tsnet -n '__tsnet_at /create' -l driver -x -a 'overlay bridge macvlan' -d`,
    `complete -c tsnet -n '__tsnet_at /policy/create' -s f -l file -r -F -d`,
    `complete -c tsnet -n '__tsnet_at /endpoint/ls' -s h -l help -d 'show this help'`,
    `complete -c tsnet -n '__tsnet_at /run 0+' -F`,
  ])
    t.ok(
      lines.some((line) => line.startsWith(wanted)),
      wanted,
    );
  const { stdout: bash } = await tsnet(['completion', 'bash']);
  const words = [...bash.matchAll(/\) path='([^']+)' ;;/g)].map(([, path = '']) => path);
  t.ok(words.length > 20, 'commands are known');
  const isThere = (path: string): boolean => stdout.includes(`'__tsnet_at /${path.replaceAll(' ', '/')}`);
  t.same(
    words.filter((path) => !isThere(path)),
    [],
    'all of them',
  );
  const isOpen = (line: string): boolean => (line.replaceAll("\\'", '').match(/'/g) ?? []).length % 2 !== 0;
  t.same(lines.filter(isOpen), [], 'no quote is left open');
});

t.test('fish takes the script and offers the same', { skip: hasFish ? false : 'fish is not there' }, async (t) => {
  const { stdout: script } = await tsnet(['completion', 'fish']);
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-fish-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'tsnet.fish'), script);
  const checked = await run('fish', ['--no-execute', join(folder, 'tsnet.fish')], '', { HOME: folder });
  t.same(checked, { code: 0, stdout: '', stderr: '' });
  const api = await openStubApi(answerCluster);
  t.teardown(() => api.close());
  const offers = async (line: string): Promise<readonly string[]> => {
    const ask = 'tsnet completion fish | source; complete -C $argv[1]';
    const { stdout, stderr } = await run('fish', ['--no-config', '-c', ask, line], '', {
      ...api.env,
      HOME: folder,
    });
    t.equal(stderr, '', line);
    return stdout
      .split('\n')
      .filter((offer) => offer !== '')
      .map((offer) => offer.split('\t', 1)[0] ?? '')
      .sort();
  };
  t.same(await offers('tsnet c'), ['cni', 'completion', 'connect', 'controller', 'create']);
  t.same(await offers('tsnet endpoint '), ['ls', 'set']);
  t.same(await offers('tsnet completion '), ['bash', 'fish', 'zsh']);
  t.same(await offers('tsnet create --i'), ['--internal', '--ip-range', '--ipv6']);
  t.same(await offers('tsnet create a --driver '), ['bridge', 'macvlan', 'overlay']);
  t.same(await offers('tsnet ls -o j'), ['json']);
  t.same(await offers('tsnet rm '), ['frontend', 'lan']);
  t.same(await offers('tsnet rm frontend l'), ['lan'], 'rm takes several');
  t.same(await offers('tsnet update frontend '), [], 'update takes one');
  t.same(await offers('tsnet connect --name rm f'), ['frontend'], 'the value of an option is no command');
  t.same(await offers('tsnet run --network f'), ['frontend']);
  t.same(await offers('tsnet host rm n'), ['node1']);
  t.same(await offers('tsnet endpoint set 0'), ['0123456789abcdef']);
});
