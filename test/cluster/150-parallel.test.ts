import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { canPing, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

const perHost = 100;

t.test('200 attaches at once on two hosts give 200 addresses', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    await lab.host(1).create({ name: 'crowd', ipv6: true });
    const sandboxes: Sandbox[][] = [];
    while (sandboxes.length < lab.hosts.length) sandboxes.push(await inTurns(perHost, () => lab.sandbox()));
    const attached = await Promise.all(
      lab.hosts.flatMap((host, index) => (sandboxes[index] ?? []).map((sandbox) => host.attach('crowd', sandbox))),
    );
    t.equal(attached.length, 2 * perHost);
    for (const key of ['id', 'mac'] as const) {
      t.equal(new Set(attached.map((endpoint) => endpoint[key])).size, attached.length, `no ${key} twice`);
    }
    t.equal(new Set(attached.flatMap(({ addresses }) => addresses)).size, 2 * attached.length, 'no address twice');

    for (const host of lab.hosts) await host.published(20_000);
    const listed = await lab.host(2).api.call<EndpointView[]>('GET', '/v1/endpoints?network=crowd');
    t.same(
      listed.map(({ addresses }) => addresses.join()).sort(),
      attached.map(({ addresses }) => addresses.join()).sort(),
      'the cluster knows each of them',
    );
    const [first, last] = [sandboxes[0]?.[0], attached.at(-1)];
    if (first === undefined || last === undefined) throw new Error('nothing was attached');
    for (const address of last.addresses) t.ok(await canPing(first, address), 'the first reaches the last');

    await Promise.all(
      lab.hosts.flatMap((host, index) => (sandboxes[index] ?? []).map((sandbox) => host.detach('crowd', sandbox))),
    );
    await waitFor('the cluster to know that all have gone', async () => {
      const left = await lab.host(1).api.call<EndpointView[]>('GET', '/v1/endpoints?network=crowd');
      return left.length === 0;
    });
  });
});

/** Makes them a few at a time: each starts programs of its own. */
async function inTurns<T>(count: number, make: () => Promise<T>): Promise<T[]> {
  const made: T[] = [];
  while (made.length < count) {
    made.push(...(await Promise.all(Array.from({ length: Math.min(10, count - made.length) }, make))));
  }
  return made;
}
