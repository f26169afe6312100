import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';

/** What a figure is worth nothing without. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly kernel: string;
  readonly system: string;
  readonly node: string;
  /** Load of the last minute when the run began: other work spoils figures. */
  readonly load: number;
  /** One dependent read from 16 MiB, ns: on a virtual machine, what its neighbours leave of the cache shows here only. */
  readonly readNs: number;
}

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGib: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    system: /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'Linux',
    node: process.version,
    load: loadavg()[0] ?? 0,
    readNs: measureReadNs(),
  };
}

/** Follows a random cycle through memory, one place a cache line: no read can begin before the one before it has ended. */
function measureReadNs(): number {
  const stride = 16;
  const lines = (16 * 2 ** 20) / (4 * stride);
  const order = Array.from({ length: lines }, (_none, index) => index);
  for (let index = lines - 1; index > 0; index -= 1) {
    const other = randomInt(index + 1);
    [order[index], order[other]] = [order[other] ?? 0, order[index] ?? 0];
  }
  const next = new Int32Array(lines * stride);
  order.forEach((line, index) => (next[line * stride] = (order[(index + 1) % lines] ?? 0) * stride));
  let place = 0;
  const follow = (reads: number): number => {
    const startedMs = performance.now();
    for (let read = 0; read < reads; read += 1) place = next[place] ?? 0;
    return ((performance.now() - startedMs) * 1e6) / reads;
  };
  follow(lines);
  return Math.round(follow(4 * lines));
}

export function formatMachine(machine: Machine): string {
  const { cpu, cores, memoryGib, kernel, system, node, load, readNs } = machine;
  return `${cpu}, ${cores} cores, ${memoryGib} GiB; ${system}, Linux ${kernel}, Node ${node}; load ${load.toFixed(2)}, a read from 16 MiB ${readNs} ns`;
}
