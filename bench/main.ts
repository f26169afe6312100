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

type WithBenchmark = (run: (benchmark: Benchmark) => Promise<boolean>) => Promise<boolean>;

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

const [name = ''] = process.argv.slice(2);
const withBenchmark = Object.hasOwn(benchmarks, name) ? benchmarks[name] : undefined;
if (withBenchmark === undefined) {
  process.stderr.write(`error: "${name}" is no benchmark\nhint: Known are: ${Object.keys(benchmarks).join(', ')}.\n`);
  process.exitCode = 2;
} else {
  const kept = await withBenchmark((benchmark) => runBenchmark(name, benchmark, outputFolder));
  process.exitCode = kept ? 0 : 1;
}
