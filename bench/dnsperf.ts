import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { plain } from '../test/lab/plain.js';
import type { Sandbox } from '../test/lab/sandbox.js';

/** Where a name server answers, as a sandbox reaches it. */
export interface ServerPlace {
  readonly address: string;
  readonly port: number;
}

export interface PerfOptions {
  /** Names to ask for, one after another: a file of lines `NAME TYPE`. */
  readonly questions: string;
  readonly seconds: number;
  /** Queries a second; without a limit where absent. */
  readonly rate?: number;
  /** Whether the client never waits for the processor: else its own waits would be counted as the server's. */
  readonly onTime?: boolean;
}

export interface Perf {
  readonly perSecond: number;
  /** Empty where there is no limit: writing each down costs the client. */
  readonly latenciesMs: readonly number[];
}

const clients = 8;
const outstanding = 100;
/** Of all queries so many may get lost, where the bench itself holds them up. */
const mostLost = 0.001;

/** Asks with dnsperf from inside a sandbox. Errors: answers that are none, or too many that are missing. */
export async function dnsperf(from: Sandbox, place: ServerPlace, options: PerfOptions): Promise<Perf> {
  const { questions, seconds, rate, onTime = false } = options;
  const words = ['-s', place.address, '-p', String(place.port), '-d', questions, '-l', String(seconds), '-t', '2'];
  const load = [
    '-c',
    String(clients),
    '-q',
    String(outstanding),
    ...(rate === undefined ? [] : ['-Q', String(rate), '-v']),
  ];
  const precedence = onTime ? ['chrt', '--rr', '20'] : [];
  const latenciesMs: number[] = [];
  const figures = new Map<string, string>();
  for (const line of (await outputOf([...from.enter, ...precedence, 'dnsperf', ...words, ...load])).split('\n')) {
    const [, seconds] = /^> NOERROR .* ([\d.]+)$/.exec(line) ?? [];
    if (seconds !== undefined) latenciesMs.push(Number(seconds) * 1000);
    const [, key, value] = /^ {2}([A-Z][A-Za-z ]+): +(.*)$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) figures.set(key, value);
  }
  const count = (key: string): number => Number.parseFloat(figures.get(key) ?? 'NaN');
  const [codes = '', lost] = [figures.get('Response codes'), count('Queries lost') / count('Queries sent')];
  if (!/^NOERROR \d+ \(100\.00%\)$/.test(codes) || !(lost <= mostLost)) {
    throw new Error(`dnsperf at ${place.address} port ${place.port}: ${JSON.stringify(Object.fromEntries(figures))}`);
  }
  return { perSecond: count('Queries per second'), latenciesMs };
}

/** What a program wrote, read when it has ended: reading along would take the processor from what is measured. */
async function outputOf(argv: readonly string[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tsnet-bench-'));
  const path = join(folder, 'output');
  try {
    const file = await open(path, 'w');
    const child = spawn(...plain(argv), { stdio: ['ignore', file.fd, 'inherit'] });
    await once(child, 'close').finally(() => file.close());
    return await readFile(path, 'utf8');
  } finally {
    await rm(folder, { recursive: true });
  }
}
