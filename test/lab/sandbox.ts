import { runProgram, mustRun, type ProgramResult } from './program.js';
import { Traffic, type TrafficLine } from './traffic.js';
import { waitFor } from './wait.js';

export interface PingOptions {
  /** Bytes of the whole IP packet, sent with "do not fragment"; default 84. */
  readonly packetBytes?: number;
  /** How long to wait for the one answer; default 5000 ms: what is to be answered may take its time on a busy machine. */
  readonly timeoutMs?: number;
}

const headerBytes = { 4: 20 + 8, 6: 40 + 8 };

/** A network namespace that stands for a container. */
export interface Sandbox {
  readonly name: string;
  /** What `tsnet connect NETWORK` takes. */
  readonly target: string;
  /** What runs a command inside. */
  readonly enter: readonly string[];
}

/** Runs a program inside a sandbox. */
export function execIn(sandbox: Sandbox, ...argv: string[]): Promise<ProgramResult> {
  const [program = '', ...args] = [...sandbox.enter, ...argv];
  return runProgram(program, args);
}

/** The same, for a program that has to succeed; its standard output. */
export function mustExecIn(sandbox: Sandbox, ...argv: string[]): Promise<string> {
  const [program = '', ...args] = [...sandbox.enter, ...argv];
  return mustRun(program, args);
}

/** Reports whether one ping is answered. */
export async function canPing(sandbox: Sandbox, address: string, options: PingOptions = {}): Promise<boolean> {
  const family = address.includes(':') ? 6 : 4;
  const payloadBytes = (options.packetBytes ?? 84) - headerBytes[family];
  const waitSec = String((options.timeoutMs ?? 5000) / 1000);
  const args = ['-n', '-q', '-c', '1', '-W', waitSec, '-M', 'do', '-s', String(payloadBytes), address];
  return (await execIn(sandbox, 'ping', `-${family}`, ...args)).status === 0;
}

/** Waits until a ping is answered. How long it took, ms. */
export async function reaches(sandbox: Sandbox, address: string, deadlineMs = 20_000): Promise<number> {
  const startedMs = performance.now();
  const ask = (): Promise<boolean> => canPing(sandbox, address, { timeoutMs: 200 });
  await waitFor(`${sandbox.name} to reach ${address}`, ask, deadlineMs);
  return performance.now() - startedMs;
}

/** Starts a listener inside a sandbox; resolves when it listens. */
export async function listenIn(sandbox: Sandbox, ...words: (string | number)[]): Promise<Traffic> {
  const traffic = new Traffic(sandbox.enter, words);
  await traffic.expect('ready');
  return traffic;
}

/** Sends so many bytes to an echo inside another sandbox and counts what comes back. */
export async function echoBytes(
  sandbox: Sandbox,
  protocol: 'tcp' | 'udp',
  to: { readonly address: string; readonly port: number; readonly sizeBytes: number; readonly fromPort?: number },
): Promise<TrafficLine> {
  const traffic = new Traffic(sandbox.enter, [`send-${protocol}`, to.address, to.port, to.sizeBytes, to.fromPort ?? 0]);
  await traffic.expect('receivedBytes');
  return traffic.end();
}
