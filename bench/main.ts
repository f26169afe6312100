import { fileURLToPath } from 'node:url';
import { withAttach } from './attach.js';
import { withCli } from './cli.js';
import { withCni } from './cni.js';
import { withDns } from './dns.js';
import { runBenchmark, type Benchmark } from './harness.js';
import { withOverlay } from './overlay.js';
import { withPolicy } from './policy.js';
import { withPorts } from './ports.js';
import { withServices } from './services.js';

type WithBenchmark = (
  run: (benchmark: Benchmark) => Promise<boolean>,
  isWanted: (part: string) => boolean,
) => Promise<boolean>;

const benchmarks: Readonly<Record<string, WithBenchmark>> = {
  attach: withAttach,
  cli: withCli,
  cni: withCni,
  dns: withDns,
  overlay: withOverlay,
  policy: withPolicy,
  ports: withPorts,
  services: withServices,
};
const outputFolder = fileURLToPath(new URL('../../bench', import.meta.url));

const [name = '', ...parts] = process.argv.slice(2);
const isWanted = (part: string): boolean => parts.length === 0 || parts.includes(part);
const withBenchmark = Object.hasOwn(benchmarks, name) ? benchmarks[name] : undefined;
if (withBenchmark === undefined) {
  process.stderr.write(`error: "${name}" is no benchmark\nhint: Known are: ${Object.keys(benchmarks).join(', ')}.\n`);
  process.exitCode = 2;
} else {
  const run = (benchmark: Benchmark): Promise<boolean> =>
    benchmark.part === undefined || isWanted(benchmark.part)
      ? runBenchmark(name, benchmark, outputFolder)
      : Promise.resolve(true);
  const kept = await withBenchmark(run, isWanted);
  process.exitCode = kept ? 0 : 1;
}
