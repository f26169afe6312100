import { readFileSync } from 'node:fs';
import type { PolicyBody } from '../core/api/policy.js';
import type { Lab } from '../test/lab/lab.js';
import { waitFor } from '../test/lab/wait.js';
import { inLab } from './bench-lab.js';
import type { Benchmark, Samples, Subject } from './harness.js';

const endpoints = 1000;
const parallel = 8;
const bar = 50;
const role = (value: string): PolicyBody['selects'] => ({ matchLabels: { role: value } });

interface InForce {
  readonly msg: string;
  readonly tookMs: number;
}

/** What the agent says of each change of policies: how long from hearing of it until it was in the kernel. */
function inForce(lab: Lab): InForce[] {
  return readFileSync(lab.host(1).options.logPath, 'utf8')
    .split('\n')
    .filter((line) => line.includes('policies are in force'))
    .map((line) => JSON.parse(line) as InForce);
}

/** Changes of policies that select 1000 endpoints of one host: the host's own part, and all from the request on. */
export function withPolicy(run: (benchmark: Benchmark) => Promise<boolean>): Promise<boolean> {
  return inLab({ hosts: 1 }, async (lab) => {
    const host = lab.host(1);
    await host.create({ name: 'red', subnets: [{ subnet: '10.64.0.0/16' }, { subnet: 'fd00:64::/64' }] });
    let made = 0;
    const reserve = async (): Promise<void> => {
      while (made < endpoints) {
        made += 1;
        const body = { network: 'red', id: `e${made}`, labels: { role: made % 2 === 0 ? 'web' : 'front' } };
        await host.api.call('POST', '/v1/agent/reserve', { body });
      }
    };
    await Promise.all(Array.from({ length: parallel }, reserve));

    const change = async (policy: PolicyBody | null): Promise<[hostMs: number, wholeMs: number]> => {
      const before = inForce(lab).length;
      const startedMs = performance.now();
      if (policy === null) await host.api.call('DELETE', '/v1/policies/p');
      else await host.api.call('PUT', `/v1/policies/${policy.name}`, { body: policy });
      const found = await waitFor('the policies to be in force', () => inForce(lab)[before]);
      return [found.tookMs, performance.now() - startedMs];
    };
    const subject = (
      name: string,
      body: Omit<PolicyBody, 'name'>,
      other: Omit<PolicyBody, 'name'> | null,
    ): Subject => ({
      name,
      round: async (): Promise<Samples> => {
        if (other !== null) await change({ name: 'p', ...other });
        const [hostMs, wholeMs] = await change({ name: 'p', ...body });
        await change(null);
        return { 'on the host': [hostMs], 'from the request on': [wholeMs] };
      },
    });
    const fronts = { selects: {}, ingress: [{ peers: [{ endpoints: role('front') }], ports: [{ port: 80 }] }] };
    const webs = { selects: {}, ingress: [{ peers: [{ endpoints: role('web') }], ports: [{ port: 80 }] }] };
    const subjects = [
      subject('first policy', fronts, null),
      subject('other peers', fronts, webs),
      subject('other ports', fronts, { ...fronts, ingress: [{ peers: [{ endpoints: role('front') }] }] }),
    ];
    return run({
      title: `policy: a change that touches ${endpoints} endpoints of a host`,
      units: { 'on the host': 'ms', 'from the request on': 'ms' },
      subjects,
      rounds: Number(process.env['TSNET_BENCH_ROUNDS'] ?? 12),
      warmups: 3,
      comparisons: [],
      limits: subjects.map(({ name }) => ({ metric: 'on the host', of: name, atMost: bar })),
    });
  });
}
