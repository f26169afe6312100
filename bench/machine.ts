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
  };
}

export function formatMachine(machine: Machine): string {
  const { cpu, cores, memoryGib, kernel, system, node, load } = machine;
  return `${cpu}, ${cores} cores, ${memoryGib} GiB; ${system}, Linux ${kernel}, Node ${node}; load ${load.toFixed(2)}`;
}
