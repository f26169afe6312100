import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import type { Lab } from '../lab/lab.js';
import { mustExecIn, type Sandbox } from '../lab/sandbox.js';

export const resolvConf = '/etc/resolv.conf';

/** What the container resolved with before. */
export const before = 'nameserver 198.18.255.253\nsearch before.example\n';

/** A process with network, mount namespace and root folder of its own. */
export interface Container extends Sandbox {
  readonly pid: number;
  readonly netns: Sandbox;
  /** Its root folder as the machine has it, without what is mounted in the container. */
  readonly root: string;
  /** A file as the container sees it. */
  readonly read: (path?: string) => Promise<string>;
  /** Runs a shell text inside. */
  readonly run: (text: string) => Promise<string>;
  readonly kill: () => Promise<void>;
}

export interface ContainerOptions {
  /** Fills the root folder; default: a resolv.conf. */
  readonly prepare?: (root: string) => void;
  /** A shell text that the container begins with. */
  readonly begin?: string;
}

/** Starts a container that waits until the test ends. */
export async function startContainer(t: Test, lab: Lab, options: ContainerOptions = {}): Promise<Container> {
  const root = mkdtempSync(join(lab.folder, 'root-'));
  for (const folder of ['bin', 'etc', 'run', 'proc']) mkdirSync(join(root, folder));
  copyFileSync('/usr/bin/busybox', join(root, 'bin/busybox'));
  (options.prepare ?? ((folder: string) => writeFileSync(join(folder, resolvConf), before)))(root);
  const netns = await lab.sandbox();
  const [program = '', ...enter] = netns.enter;
  const text = `${options.begin ?? ':'} && echo up && exec /bin/busybox cat`;
  const argv = [...enter, 'unshare', '--mount', 'chroot', root, '/bin/busybox', 'sh', '-c', text];
  const child = spawn(program, argv, { stdio: ['pipe', 'pipe', 'inherit'] });
  const { pid } = child;
  if (pid === undefined) throw new Error('the container did not start');
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  t.teardown(kill);
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(() => Promise.reject(new Error('the container has ended'))),
  ]);
  const inside = ['nsenter', `--target=${pid}`, '--net', '--mount', '--root'];
  const sandbox: Sandbox = { name: `container-${pid}`, target: `pid:${pid}`, enter: inside };
  const run = (line: string): Promise<string> => mustExecIn(sandbox, '/bin/busybox', 'sh', '-c', line);
  return {
    ...sandbox,
    pid,
    netns,
    root,
    read: (path = resolvConf) => mustExecIn(sandbox, '/bin/busybox', 'cat', path),
    run,
    kill,
  };
}

/** Writes a file below a root folder, with its folders. */
export function writeBelow(root: string, path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}
