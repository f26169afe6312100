import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { Environment } from './environment.js';
import { cniCode, CniError } from './error.js';
import { filledOf, fieldOf, isObject } from './json.js';
import type { NetConfig } from './config.js';

/** Runs another IPAM plugin; resolves with what it printed. */
export type Delegate = (command: string, config: NetConfig, environment: Environment) => Promise<string>;

/** The caller's own deadline is 4.5 s, and undoing takes some of it. */
const timeoutMs = 3000;
const maxOutputBytes = 1024 * 1024;

/**
 * Runs the IPAM plugin that a configuration names, found in CNI_PATH, with the caller's variables and its whole
 * configuration.
 *
 * Source: CNI spec 1.1.0 §4 "Plugin Delegation".
 * Errors: the delegate's own; 4 without CNI_PATH; 7 where there is none of that name; 11 when it takes longer than 3 s.
 */
export const runDelegate: Delegate = async (command, config, environment) => {
  const type = config.delegate ?? '';
  const program = await findProgram(type, environment.path);
  const variables = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: environment.containerId,
    CNI_NETNS: environment.netns,
    CNI_IFNAME: environment.ifname,
    CNI_ARGS: environment.args,
    CNI_PATH: environment.path,
    PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
  };
  return new Promise((resolve, reject) => {
    const options = {
      env: variables,
      cwd: '/',
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      maxBuffer: maxOutputBytes,
    } as const;
    const child = execFile(program, [], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(delegateError(type, { error, stdout, stderr }));
    });
    // One that does not read its configuration says so by its status.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(config.text);
  });
};

async function findProgram(type: string, path: string): Promise<string> {
  if (path === '') throw new CniError(cniCode.invalidEnvironment, 'required env variables [CNI_PATH] missing');
  for (const folder of path.split(':')) {
    if (!folder.startsWith('/')) continue;
    const program = join(folder, type);
    const isThere = await access(program, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return program;
  }
  throw new CniError(cniCode.invalidConfig, `failed to find plugin ${JSON.stringify(type)} in path [${path}]`);
}

interface Failure {
  readonly error: Error & { readonly killed?: boolean; readonly code?: unknown };
  readonly stdout: string;
  readonly stderr: string;
}

/** A failing plugin explains itself on standard output, or at least on standard error. */
function delegateError(type: string, { error, stdout, stderr }: Failure): CniError {
  if (error.killed === true && typeof error.code !== 'string')
    return new CniError(cniCode.tryAgainLater, `IPAM plugin ${type} took longer than ${timeoutMs} ms`);
  let answer: unknown;
  try {
    answer = JSON.parse(stdout);
  } catch {
    answer = undefined;
  }
  if (isObject(answer)) {
    const [code, msg] = [fieldOf(answer, 'code'), fieldOf(answer, 'msg')];
    if (typeof code === 'number' && typeof msg === 'string')
      return new CniError(code, msg, filledOf(answer, 'details') ?? '');
  }
  const said = stderr.trim().slice(0, 1000);
  return new CniError(cniCode.internal, `IPAM plugin ${type} failed: ${said === '' ? error.message : said}`);
}
