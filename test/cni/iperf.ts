import { mustExecIn, type Sandbox } from '../lab/sandbox.js';

const streams = 3;

/** What was measured once it is near a limit: a busy machine makes a stream slower, nothing makes it faster. */
export async function measureLimitedBps(
  limitBps: number,
  ...[from, address, ...more]: Parameters<typeof measureIperfBps>
): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    const measured = await measureIperfBps(from, address, ...more);
    if (measured > 0.9 * limitBps || attempt === 4) return measured;
  }
}

/** What a server of one stream measures with its first second left out, bits per second: the median of three streams. */
export async function measureIperfBps(from: Sandbox, address: string, ...more: string[]): Promise<number> {
  const measured: number[] = [];
  for (let run = 0; run < 3 * streams && measured.length < streams; run += 1) {
    const text = await mustExecIn(from, 'iperf3', '-c', address, '-t', '2', '-O', '1', '-J', ...more);
    const { end } = JSON.parse(text) as { end: { sum_received?: { bits_per_second: number } } };
    // On a busy machine it may end before it has heard what the other side measured.
    if (end.sum_received !== undefined) measured.push(end.sum_received.bits_per_second);
  }
  return measured.sort((a, b) => a - b)[1] ?? NaN;
}
