import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeMachine, formatMachine } from './machine.js';
import { median, medianInterval, quantile, type Interval } from './stats.js';

/** Samples of one round, by metric. */
export type Samples = Readonly<Record<string, readonly number[]>>;

/** Something that is measured: ours, or what it is compared with. */
export interface Subject {
  readonly name: string;
  /** Measures once; what has to be made ready first is not part of a sample. */
  readonly round: () => Promise<Samples>;
}

/** One comparison to print, and what is expected of it. */
export interface Comparison {
  readonly metric: string;
  readonly of: string;
  readonly to: string;
  /** What the ratio of the medians has to keep to. */
  readonly atMost?: number;
  readonly atLeast?: number;
}

/** What a subject's figure itself has to keep to. */
export interface Limit {
  readonly metric: string;
  readonly of: string;
  readonly atMost: number;
}

export interface Benchmark {
  readonly title: string;
  /** Of several parts in one run: which. */
  readonly part?: string;
  readonly units: Readonly<Record<string, string>>;
  readonly subjects: readonly Subject[];
  readonly comparisons: readonly Comparison[];
  readonly limits?: readonly Limit[];
  readonly rounds: number;
  /** Rounds that are not counted, first; default 1. Daemons run for months: what is measured is compiled code. */
  readonly warmups?: number;
}

interface Ratio extends Comparison, Interval {
  readonly kept: boolean | null;
}

/**
 * Runs the subjects in turns, each round in another order, so that what drifts (temperature, other work) drifts for
 * all. Prints medians, p99s, and ratios: the median of the ratios round by round, with its 95 % bootstrap interval.
 */
export async function runBenchmark(name: string, benchmark: Benchmark, outputFolder: string): Promise<boolean> {
  const { title, subjects, rounds, units, comparisons } = benchmark;
  const machine = describeMachine();
  print(`${title}\n${formatMachine(machine)}\n${rounds} rounds, subjects in turns\n`);
  const results = new Map<string, Samples[]>(subjects.map((subject) => [subject.name, []]));
  for (let warmup = 0; warmup < (benchmark.warmups ?? 1); warmup += 1) {
    for (const subject of subjects) await subject.round();
  }
  for (let round = 0; round < rounds; round += 1) {
    for (let turn = 0; turn < subjects.length; turn += 1) {
      const subject = subjects[(round + turn) % subjects.length];
      if (subject !== undefined) results.get(subject.name)?.push(await subject.round());
    }
    process.stderr.write(`\r${round + 1}/${rounds}`);
  }
  process.stderr.write('\r\x1b[K');
  const summary = [...results].map(([subject, perRound]) => summarise(subject, perRound));
  printSummary(summary, units);
  const ratios = comparisons.map((comparison) => compare(comparison, results));
  for (const ratio of ratios) printRatio(ratio);
  const limits = (benchmark.limits ?? []).map((limit) => checkLimit(limit, results));
  for (const limit of limits) printLimit(limit, units);
  mkdirSync(outputFolder, { recursive: true });
  const path = join(outputFolder, `${benchmark.part === undefined ? name : `${name}-${benchmark.part}`}.json`);
  const rows = Object.fromEntries(results);
  writeFileSync(
    path,
    `${JSON.stringify({ name, title, machine, units, summary, ratios, limits, rounds: rows }, null, 2)}\n`,
  );
  print(`\nwritten to ${path}`);
  return [...ratios, ...limits].every(({ kept }) => kept !== false);
}

interface Summary {
  readonly subject: string;
  readonly metrics: Readonly<
    Record<string, { readonly median: number; readonly p99: number; readonly samples: number }>
  >;
}

function summarise(subject: string, perRound: readonly Samples[]): Summary {
  const metrics = Object.keys(perRound[0] ?? {}).map((metric) => {
    const samples = perRound.flatMap((round) => round[metric] ?? []);
    return [metric, { median: median(samples), p99: quantile(samples, 0.99), samples: samples.length }] as const;
  });
  return { subject, metrics: Object.fromEntries(metrics) };
}

function compare(comparison: Comparison, results: ReadonlyMap<string, readonly Samples[]>): Ratio {
  const medians = (subject: string): number[] =>
    (results.get(subject) ?? []).map((round) => median(round[comparison.metric] ?? []));
  const [ours, theirs] = [medians(comparison.of), medians(comparison.to)];
  const interval = medianInterval(ours.map((value, round) => value / (theirs[round] ?? NaN)));
  const { atMost, atLeast } = comparison;
  const kept =
    atMost === undefined && atLeast === undefined
      ? null
      : interval.middle <= (atMost ?? Infinity) && interval.middle >= (atLeast ?? -Infinity);
  return { ...comparison, ...interval, kept };
}

interface CheckedLimit extends Limit, Interval {
  readonly kept: boolean;
}

function checkLimit(limit: Limit, results: ReadonlyMap<string, readonly Samples[]>): CheckedLimit {
  const interval = medianInterval((results.get(limit.of) ?? []).map((round) => median(round[limit.metric] ?? [])));
  return { ...limit, ...interval, kept: interval.middle <= limit.atMost };
}

function printLimit(limit: CheckedLimit, units: Readonly<Record<string, string>>): void {
  const { metric, of, middle, low, high, atMost, kept } = limit;
  const figures = `${format(middle).trim()}  [${format(low).trim()}, ${format(high).trim()}] ${units[metric] ?? ''}`;
  print(`${metric}: ${of} = ${figures}, wanted at most ${atMost}: ${kept ? 'kept' : 'MISSED'}`);
}

function printSummary(summary: readonly Summary[], units: Readonly<Record<string, string>>): void {
  const width = Math.max(...summary.map(({ subject }) => subject.length));
  for (const metric of Object.keys(units)) {
    print(`${metric} (${units[metric] ?? ''})`);
    for (const { subject, metrics } of summary) {
      const figures = metrics[metric];
      if (figures === undefined) continue;
      const { median: middle, p99, samples } = figures;
      print(`  ${subject.padEnd(width)}  median ${format(middle)}  p99 ${format(p99)}  of ${samples}`);
    }
  }
  print('');
}

function printRatio({ metric, of, to, middle, low, high, atMost, atLeast, kept }: Ratio): void {
  const bound = atMost === undefined ? (atLeast === undefined ? '' : `at least ${atLeast}`) : `at most ${atMost}`;
  const verdict = kept === null ? '' : `, wanted ${bound}: ${kept ? 'kept' : 'MISSED'}`;
  print(
    `${metric}: ${of} / ${to} = ${format(middle).trim()}  [${format(low).trim()}, ${format(high).trim()}]${verdict}`,
  );
}

function format(value: number): string {
  return value.toPrecision(4).padStart(9);
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
