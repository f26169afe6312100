import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The program that runtimes start. */
export const shimPath = fileURLToPath(new URL('../../../cni/tsnet', import.meta.url));
export const referenceDir = '/usr/lib/cni';

export interface PluginResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Standard output as JSON; undefined where it is empty. */
  readonly json: unknown;
}

export interface PluginCall {
  readonly env: Readonly<Record<string, string>>;
  readonly stdin?: string | Buffer;
  /** What to put before the program, to run it in a namespace. */
  readonly enter?: readonly string[];
  readonly program?: string;
  readonly args?: readonly string[];
}

/** Starts a plugin as a runtime does, with nothing in its environment that is not given. */
export function startPlugin({ env, stdin = '', enter = [], program = shimPath, args: more = [] }: PluginCall) {
  const [command = '', ...args] = [...enter, program, ...more];
  const child = spawn(command, args, {
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(stdin);
  const chunks = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => (chunks.stdout += chunk.toString('utf8')));
  child.stderr.on('data', (chunk: Buffer) => (chunks.stderr += chunk.toString('utf8')));
  const ended = new Promise<PluginResult>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => {
      resolve({ status, ...chunks, json: chunks.stdout === '' ? undefined : JSON.parse(chunks.stdout) });
    });
  });
  return { child, ended };
}

export function runPlugin(call: PluginCall): Promise<PluginResult> {
  return startPlugin(call).ended;
}

/** The variables of a call for a container. */
export function cniEnv(
  command: string,
  container: { id: string; netns?: string; ifname?: string; args?: string },
): Record<string, string> {
  return {
    CNI_COMMAND: command,
    CNI_CONTAINERID: container.id,
    CNI_NETNS: container.netns ?? '',
    CNI_IFNAME: container.ifname ?? 'eth0',
    CNI_ARGS: container.args ?? '',
    CNI_PATH: referenceDir,
  };
}

/** Code, message and details of an error, without what the reference library leaves out. */
export function errorOf(result: PluginResult): { code: unknown; msg: unknown; details: unknown } {
  const { code, msg, details } = (result.json ?? {}) as Record<string, unknown>;
  return { code, msg, details };
}
