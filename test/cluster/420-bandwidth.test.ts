import t from 'tap';
import { Traffic } from '../lab/traffic.js';
import { listenIn, mustExecIn, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

const rateBps = 20_000_000;
/** Long enough that the burst does not show. */
const sizeBytes = 8_000_000;

const isNear = (measured: number): boolean => Math.abs(measured / rateBps - 1) < 0.1;

/** What was measured once it is near the limit: a busy machine makes a stream slower, nothing makes it faster. */
async function measureLimited(from: Sandbox, address: string): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    const measured = await measureBps(from, address);
    if (isNear(measured) || measured > rateBps || attempt === 4) return measured;
  }
}

/** Bits per second of a TCP stream that is echoed: the slower direction decides. */
async function measureBps(from: Sandbox, address: string): Promise<number> {
  const traffic = new Traffic(from.enter, ['send-tcp', address, 80, sizeBytes]);
  await traffic.expect('receivedBytes', 30_000);
  const { tookMs } = await traffic.end();
  return (sizeBytes * 8) / (Number(tookMs) / 1000);
}

t.test('an endpoint’s traffic is limited in each direction, within 10 %', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    await lab.host(1).create({ name: 'front' });
    const client = await lab.sandbox();
    await lab.host(2).attach('front', client);
    const limits = {
      'into it': { ingressRateBps: rateBps },
      'out of it': { egressRateBps: rateBps, egressBurstBytes: 131_072 },
    };
    for (const [what, bandwidth] of Object.entries(limits)) {
      const limited = await lab.sandbox();
      const endpoint = await lab.host(1).attach('front', limited, { bandwidth });
      t.same(endpoint.bandwidth, bandwidth, 'shown as asked for');
      const server = await listenIn(limited, 'listen-tcp', 80);
      const measured = await measureLimited(client, endpoint.addresses[0] ?? '');
      t.ok(isNear(measured), `${what}: ${(measured / 1e6).toFixed(2)} of ${rateBps / 1e6} Mbit/s`);
      await server.end();
      await lab.host(1).detach('front', limited);
      t.notMatch((await lab.host(1).exec('tc', 'qdisc', 'show')).stdout, /tbf/, 'nothing of it is left in the host');
      t.notMatch(await mustExecIn(limited, 'tc', 'qdisc', 'show'), /tbf/, 'nor in the sandbox');
    }
    const free = await lab.sandbox();
    const endpoint = await lab.host(1).attach('front', free);
    const server = await listenIn(free, 'listen-tcp', 80);
    const isFree = async (): Promise<boolean> => (await measureBps(client, endpoint.addresses[0] ?? '')) > 3 * rateBps;
    await t.resolves(waitFor('a stream that is quicker', isFree), 'others are not limited');
    await server.end();
  });
});
