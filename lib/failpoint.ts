/**
 * Named points at which a test can stop or kill the process: `TSNET_FAILPOINT=NAME[@N]=kill|stop`,
 * several separated by commas; `@N` waits for the Nth passing. Costs one map look-up when unset.
 */
const armed = parseFailpoints(process.env['TSNET_FAILPOINT'] ?? '');

interface Failpoint {
  left: number;
  readonly signal: 'SIGKILL' | 'SIGSTOP';
}

function parseFailpoints(text: string): Map<string, Failpoint> {
  const points = new Map<string, Failpoint>();
  for (const item of text.split(',')) {
    const match = /^([a-z.-]+)(?:@(\d+))?=(kill|stop)$/.exec(item);
    if (match?.[1] === undefined) continue;
    points.set(match[1], { left: Number(match[2] ?? '1'), signal: match[3] === 'stop' ? 'SIGSTOP' : 'SIGKILL' });
  }
  return points;
}

/** Passes a named point. */
export function failpoint(name: string): void {
  const point = armed.get(name);
  if (point === undefined) return;
  point.left -= 1;
  if (point.left === 0) process.kill(process.pid, point.signal);
}
