import { spawn } from 'node:child_process';
import { TsnetError } from '../../core/errors.js';
import { pluginConfig, type ConflistOptions } from './conflist.js';

/**
 * Asks the plugin, as a runtime would, whether it can attach.
 * Errors: ERR_AGENT_UNREACHABLE, ERR_NETWORK_UNKNOWN.
 */
export async function askStatus(program: string, options: ConflistOptions): Promise<void> {
  const config = JSON.stringify({ ...pluginConfig(options), cniVersion: '1.1.0', name: options.name });
  const { status, stdout } = await run(program, config);
  if (status === 0) return;
  const { msg, details } = parse(stdout);
  const text = details === '' ? msg : `${msg}: ${details}`;
  if (msg.includes('agent')) {
    throw new TsnetError('ERR_AGENT_UNREACHABLE', text, {
      hint: 'Start the agent (`tsnet agent`) and run this again.',
    });
  }
  throw new TsnetError('ERR_NETWORK_UNKNOWN', text, {
    hint: `Make it with \`tsnet create ${options.network}\` and run this again.`,
  });
}

function run(program: string, input: string): Promise<{ status: number | null; stdout: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [], {
      env: { CNI_COMMAND: 'STATUS', CNI_PATH: '/' },
      stdio: ['pipe', 'pipe', 'inherit'],
      timeout: 10_000,
    });
    let stdout = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString('utf8')));
    child.stdin.on('error', () => undefined);
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, stdout }));
    child.stdin.end(input);
  });
}

function parse(stdout: string): { readonly msg: string; readonly details: string } {
  try {
    const { msg, details } = JSON.parse(stdout) as { readonly msg?: unknown; readonly details?: unknown };
    return { msg: typeof msg === 'string' ? msg : stdout, details: typeof details === 'string' ? details : '' };
  } catch {
    return { msg: stdout.trim() === '' ? 'the plugin said nothing' : stdout.trim(), details: '' };
  }
}
