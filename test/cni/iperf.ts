import { mustExecIn, type Sandbox } from '../lab/sandbox.js';

/** What a server of one stream measures with its first second left out, bits per second: the median of three streams. */
export async function measureIperfBps(from: Sandbox, address: string, ...more: string[]): Promise<number> {
  const measured: number[] = [];
  for (let run = 0; run < 3; run += 1) {
    const text = await mustExecIn(from, 'iperf3', '-c', address, '-t', '2', '-O', '1', '-J', ...more);
    const { end } = JSON.parse(text) as { end: { sum_received: { bits_per_second: number } } };
    measured.push(end.sum_received.bits_per_second);
  }
  return measured.sort((a, b) => a - b)[1] ?? NaN;
}
