import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { privateMountArgs } from '../lab/private-mounts.js';
import { runProgram, type ProgramResult } from '../lab/program.js';
import { waitFor } from '../lab/wait.js';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const tools = ['tools/setup.mjs', 'tools/quickstart.mjs', 'tools/test.mjs'];

/** Commands that stand before the machine's own, each with a shell script for a body. */
function fakes(t: Test, scripts: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'tsnet-fakes-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const [name, body] of Object.entries(scripts)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${body}\n`);
    chmodSync(join(folder, name), 0o755);
  }
  return folder;
}

/** Says that all packages are there. */
const allInstalled = `sed -e 's/#.*//' -e '/^ *$/d' -e 's/^/ii /' '${join(root, 'packaging', 'debian-packages.txt')}'`;

/** Runs a tool with another word on what process, user or commands are. */
function runTool(tool: string, world: { readonly faked?: string; readonly path?: string }): Promise<ProgramResult> {
  const faked =
    world.faked === undefined ? [] : ['--import', `data:text/javascript,${encodeURIComponent(world.faked)}`];
  const env = { PATH: `${world.path === undefined ? '' : `${world.path}:`}${process.env['PATH'] ?? ''}` };
  return runProgram(process.execPath, [...faked, join(root, tool)], { env });
}

/** One sentence on stderr, with a stop at its end, and nothing else. */
async function saysOnly(t: Test, run: Promise<ProgramResult>, sentence: RegExp): Promise<void> {
  const { status, stdout, stderr } = await run;
  t.equal(status, 1);
  t.equal(
    stdout
      .split('\n')
      .filter((line) => !line.startsWith('>'))
      .join(''),
    '',
  );
  t.match(stderr, /^error: [^\n]+\.\n$/);
  t.match(stderr, sentence);
}

t.test('what the machine lacks is said in one sentence by each command that needs it', async (t) => {
  for (const tool of tools) {
    await t.test(tool, async (t) => {
      const lacks = (faked: string): Promise<ProgramResult> => runTool(tool, { faked });
      await saysOnly(t, lacks('process.geteuid = () => 1000'), /needs root.*sudo/);
      await saysOnly(t, lacks('Object.defineProperty(process, "platform", {value: "darwin"})'), /Linux only.*darwin/);
      const old = 'Object.defineProperty(process, "versions", {value: {...process.versions, node: "20.18.3"}})';
      await saysOnly(t, lacks(old), /Node 20\.19 or newer.*20\.18\.3/);
    });
  }
});

t.test('a machine that is to run tsnet gets no packages of the tests', async (t) => {
  const { parsePackageList } = (await import(join(root, 'tools/setup/packages.mjs'))) as {
    parsePackageList: (text: string, sections?: readonly string[]) => string[];
  };
  const text = readFileSync(join(root, 'packaging', 'debian-packages.txt'), 'utf8');
  const host = parsePackageList(text, ['run', 'build']);
  t.match(host, ['etcd-server', 'nftables', 'iproute2', 'util-linux', 'g++', 'make']);
  t.notOk(
    host.some((name) => ['docker.io', 'firewalld', 'ufw', 'podman', 'containerd'].includes(name)),
    'nothing that brings a service of its own',
  );
  t.same([...host, ...parsePackageList(text, ['test'])], parsePackageList(text), 'every package is in a section');
});

t.test('a kernel feature that is missing is named, as is more than one', async (t) => {
  /** Fails what asks for one of these words. */
  const kernelWithout = (words: string): string =>
    fakes(t, {
      'dpkg-query': allInstalled,
      unshare: `[ "$2" = true ] && exit 0\nif grep -q -E '${words}'; then echo 'not supported' >&2; exit 2; fi`,
    });
  const cases: readonly (readonly [words: string, named: RegExp])[] = [
    ['type vxlan', /^error: This kernel \([^)]+\) lacks: VXLAN links \(CONFIG_VXLAN\)\.$/m],
    ['type macvlan', /lacks: macvlan links \(CONFIG_MACVLAN\)\.$/m],
    ['table inet', /lacks: nftables \(CONFIG_NF_TABLES_INET\), nftables NAT \(CONFIG_NFT_NAT\)\.$/m],
    ['type nat|type veth', /lacks: veth links \(CONFIG_VETH\), nftables NAT \(CONFIG_NFT_NAT\)\.$/m],
  ];
  for (const tool of tools) {
    for (const [words, named] of cases) await saysOnly(t, runTool(tool, { path: kernelWithout(words) }), named);
    const noNamespaces = fakes(t, { 'dpkg-query': allInstalled, unshare: 'exit 1' });
    await saysOnly(t, runTool(tool, { path: noNamespaces }), /does not let root make network namespaces/);
  }
});

/** At what the set-up is when the signal comes, by the command that then waits; the others succeed at once. */
const moments: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'looks whether packages are known': { 'apt-get': 'case "$*" in *--simulate*) wait_here ;; esac' },
  'asks for newer lists': { 'apt-get': 'case "$*" in *--simulate*) exit 1 ;; update*) wait_here ;; esac' },
  'installs packages': { 'apt-get': 'case "$*" in *--simulate*) ;; install*) touch "$INSTALLED"; wait_here ;; esac' },
  'disables what was installed': {
    'apt-get': 'case "$*" in *--simulate*) ;; install*) touch "$INSTALLED" ;; esac',
    dpkg: 'wait_here; echo /lib/systemd/system/one.service',
  },
};

const policy = '/usr/sbin/policy-rc.d';

/** An installation of two packages by the set-up, in a folder of its own, with Debian's commands faked. */
class Installation {
  readonly folder = mkdtempSync(join(tmpdir(), 'tsnet-set-up-'));
  readonly #path: string;

  constructor(t: Test, commands: Readonly<Record<string, string>>) {
    t.teardown(() => rmSync(this.folder, { recursive: true, force: true }));
    for (const name of ['tmp', 'checkout']) mkdirSync(join(this.folder, name));
    writeFileSync(join(this.folder, 'list'), 'one\ntwo\n');
    const bodies = {
      'dpkg-query': 'if [ -e "$INSTALLED" ]; then echo "ii one"; echo "ii two"; fi',
      dpkg: 'echo /lib/systemd/system/one.service',
      'apt-get': 'exit 0',
      'deb-systemd-helper': `echo "$@" >>${this.folder}/helper`,
      ...commands,
    };
    const waitHere = `wait_here() { trap 'exit 100' INT TERM; touch ${this.folder}/waits; while [ ! -e ${this.folder}/goes-on ]; do sleep 0.05; done; }`;
    this.#path = fakes(
      t,
      Object.fromEntries(Object.entries(bodies).map(([name, body]) => [name, `${waitHere}\n${body}`])),
    );
  }

  has(name: string): boolean {
    return existsSync(join(this.folder, name));
  }

  read(name: string): string {
    return readFileSync(join(this.folder, name), 'utf8');
  }

  /** What the set-up has put anywhere but into the machine's packages. */
  get remains(): readonly string[] {
    return ['tmp', 'checkout'].flatMap((name) => readdirSync(join(this.folder, name)));
  }

  /** Lets a command that waits go on. */
  goOn(): void {
    writeFileSync(join(this.folder, 'goes-on'), '');
  }

  /** Begins; `before` is done first, in the view of its own that /usr/sbin is seen in, for the set-up binds over it. */
  start(before = ':'): { readonly pid: number; readonly ended: Promise<{ status: number | null; said: string }> } {
    const [list, note] = [join(this.folder, 'list'), join(this.folder, 'checkout', 'before')];
    const program = [
      `const { ensurePackages } = await import(${JSON.stringify(join(root, 'tools/setup/packages.mjs'))});`,
      `const { runTool } = await import(${JSON.stringify(join(root, 'tools/setup.mjs'))});`,
      `await runTool(() => ensurePackages(${JSON.stringify(list)}, ${JSON.stringify(note)}));`,
    ].join('\n');
    const script = `trap : INT TERM; rm -f ${policy}; ${before}; "$@"; status=$?; ls ${policy} >${this.folder}/policy 2>&1; exit $status`;
    const node = [process.execPath, '--input-type=module', '-e', program];
    const [view = '', ...args] = [...privateMountArgs(this.folder, ['/usr/sbin']), 'sh', '-c', script, 'sh', ...node];
    const env = {
      ...process.env,
      INSTALLED: join(this.folder, 'installed'),
      PATH: `${this.#path}:${process.env['PATH'] ?? ''}`,
      TMPDIR: join(this.folder, 'tmp'),
    };
    const child = spawn(view, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'], env });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const ended = new Promise<{ status: number | null; said: string }>((resolve) =>
      child.on('close', (status) => resolve({ status, said })),
    );
    return { pid: child.pid ?? 0, ended };
  }
}

for (const [moment, commands] of Object.entries(moments)) {
  for (const isGroup of [true, false]) {
    const how = isGroup ? '' : ', told alone';
    t.test(`a set-up that is interrupted while it ${moment} leaves nothing${how}`, async (t) => {
      const installation = new Installation(t, commands);
      const { pid, ended } = installation.start();
      await waitFor(`the set-up to be where it ${moment}`, () => installation.has('waits'));
      process.kill(isGroup ? -pid : childOf(pid), 'SIGINT');
      installation.goOn();
      const { status, said } = await ended;
      t.equal(status, 1);
      t.match(said, /error: .*interrupted/);
      t.match(installation.read('policy'), /No such file/, 'services are held back no longer');
      t.strictSame(installation.remains, []);
      if (installation.has('installed'))
        t.match(installation.read('helper'), 'disable one.service', 'and what came is started at no boot');
    });
  }
}

t.test('what a set-up that was killed has installed is disabled by the next, as if it had installed it', async (t) => {
  const { 'installs packages': commands = {} } = moments;
  const installation = new Installation(t, commands);
  const { pid, ended } = installation.start();
  await waitFor('the set-up to install', () => installation.has('waits'));
  process.kill(-pid, 'SIGKILL');
  await ended;
  t.strictSame(installation.remains.length > 0, true, 'something is left to be cleaned up');
  // What it made in its view of /usr/sbin is gone with the view, and made again.
  const next = installation.start(`: >${policy}; chmod 444 ${policy}`);
  t.equal((await next.ended).status, 0);
  t.match(installation.read('helper'), 'disable one.service');
  t.match(installation.read('policy'), /No such file/);
  t.strictSame(installation.remains, []);
});

/** The only child of a process: node, behind the shell that waits for it. */
function childOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]);
}
