import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
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
  const { questions, seconds, rate } = options;
  const words = ['-s', place.address, '-p', String(place.port), '-d', questions, '-l', String(seconds), '-t', '2'];
  const load = [
    '-c',
    String(clients),
    '-q',
    String(outstanding),
    ...(rate === undefined ? [] : ['-Q', String(rate), '-v']),
  ];
  const child = spawn(...plain([...from.enter, 'dnsperf', ...words, ...load]), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const latenciesMs: number[] = [];
  const figures = new Map<string, string>();
  for await (const line of createInterface({ input: child.stdout })) {
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
