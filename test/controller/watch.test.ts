import { request as httpRequest } from 'node:http';
import t from 'tap';
import type { HostView } from '../../core/api/host.js';
import type { NetworkView } from '../../core/api/network.js';
import type { WatchLine } from '../../core/api/watch.js';
import { newCuttingProxy } from '../store/cutting-proxy.js';
import { until } from '../store/real-etcd.js';
import {
  grant,
  newCarrier,
  newController,
  newEndpoint,
  newTestEtcd,
  openStream,
  publish,
  registerHost,
} from './running-controller.js';

const addressIn = (cidr: string, offset: number): string =>
  cidr.replace(/(\d+)\/\d+$/, (_all, last: string) => String(Number(last) + offset));

/** What a receiver holds after these lines, by kind and id. */
function replay(lines: readonly WatchLine[]): Map<string, number> {
  const held = new Map<string, number>();
  for (const line of lines) {
    if (line.type === 'put') held.set(`${line.kind}/${idOf(line)}`, line.value.generation);
    if (line.type === 'gone')
      held.delete(`${line.kind}/${line.kind === 'network' ? line.id : `${line.network}/${line.id}`}`);
  }
  return held;
}

function idOf(line: Extract<WatchLine, { type: 'put' }>): string {
  switch (line.kind) {
    case 'network':
      return line.value.id;
    case 'settings':
      return '';
    case 'carrier':
      return `${line.value.network}/${line.value.host}`;
    case 'block':
      return `${line.value.network}/${line.value.cidr}`;
    case 'policy':
      return line.value.name;
    case 'service':
      return `${line.value.network}/${line.value.name}`;
    default:
      return `${line.value.network}/${line.value.id}`;
  }
}

const isPut =
  (kind: string, id: string) =>
  (line: WatchLine): boolean =>
    line.type === 'put' && line.kind === kind && idOf(line).endsWith(id);

t.setTimeout(120_000);

void t.test('the watch stream', async (t) => {
  const etcd = await newTestEtcd(t);
  const one = await newController(t, etcd.endpoint);
  for (const index of [1, 2, 3]) await registerHost(one, index);
  const network = await one.call<NetworkView>('POST', '/v1/networks', {
    name: 'frontend',
    subnets: [{ subnet: '10.64.0.0/16' }],
  });
  const other = await one.call<NetworkView>('POST', '/v1/networks', {
    name: 'backend',
    subnets: [{ subnet: '10.65.0.0/16' }],
  });
  const { block } = await grant(one, 'h1', network);
  const otherBlock = (await grant(one, 'h1', other)).block;
  const web = newEndpoint(network.id, 'h1', { addresses: [addressIn(block.cidr, 4)] });
  const db = newEndpoint(other.id, 'h1', { addresses: [addressIn(otherBlock.cidr, 4)] });
  await publish(one, 'h1', {
    carriers: [newCarrier(network.id, 'h1', [addressIn(block.cidr, 3)])],
    endpoints: [web, db],
  });
  await until(() => one.handle.context.mirror.tables.endpoint.size === 2, 30_000, 'published');

  await t.test('begins with a full set of what concerns the host, and no more', async (t) => {
    const stream = await openStream(t, one, 'h2', { instance: 'instance-2', interest: [network.id] });
    const end = await stream.line('the end of the set', (line) => line.type === 'end');
    t.equal(stream.hello().resumed, false);
    t.equal(stream.hello().beatMs, 1000);
    t.match(stream.lines[1], { type: 'begin', scope: '*', revision: stream.hello().revision });
    t.match(end, { scope: '*', revision: stream.hello().revision });
    const held = [...replay(stream.lines).keys()].sort();
    t.same(
      held,
      [
        `carrier/${network.id}/h1`,
        `endpoint/${network.id}/${web.id}`,
        `network/${network.id}`,
        `network/${other.id}`,
        'settings/',
      ].sort(),
    );
    stream.close();
    const own = await openStream(t, one, 'h1', { instance: 'instance-1', interest: [] });
    await own.line('the end of the set', (line) => line.type === 'end');
    t.same(
      [...replay(own.lines).keys()].filter((key) => key.startsWith('block/')).sort(),
      [`block/${network.id}/${block.cidr}`, `block/${other.id}/${otherBlock.cidr}`].sort(),
    );
    own.close();
  });

  await t.test('brings changes after it, and heartbeats in between', async (t) => {
    const stream = await openStream(t, one, 'h2', { instance: 'instance-2', interest: [network.id] });
    await stream.line('the end of the set', (line) => line.type === 'end');
    await one.call('PATCH', '/v1/networks/frontend', { labels: { tier: 'front' } });
    const put = await stream.line(
      'the change',
      (line) => isPut('network', network.id)(line) && line.type === 'put' && line.value.generation === 2,
    );
    t.ok(put.type === 'put' && put.revision > stream.hello().revision);
    const gone = newEndpoint(network.id, 'h1', { addresses: [addressIn(block.cidr, 9)] });
    await publish(one, 'h1', { endpoints: [gone] });
    await publish(one, 'h1', { endpointsGone: [{ network: network.id, id: gone.id, generation: 1 }] });
    t.match(await stream.line('the end of an endpoint', (line) => line.type === 'gone'), {
      kind: 'endpoint',
      network: network.id,
      id: gone.id,
    });
    const beat = await stream.line('a heartbeat', (line) => line.type === 'beat');
    t.ok(beat.type === 'beat' && beat.revision >= (put.type === 'put' ? put.revision : Infinity));
    stream.close();
  });

  await t.test('goes on at a cursor without a full set, at another controller too', async (t) => {
    const two = await newController(t, etcd.endpoint);
    const first = await openStream(t, one, 'h2', { instance: 'instance-2', interest: [network.id] });
    await first.line('the end of the set', (line) => line.type === 'end');
    const temporary = await one.call<NetworkView>('POST', '/v1/networks', { name: 'temporary' });
    const last = await first.line('a change', isPut('network', temporary.id));
    first.close();
    await first.ended;
    const cursor = { epoch: first.hello().epoch, revision: last.type === 'put' ? last.revision : 0 };
    await publish(one, 'h1', {
      endpoints: [
        { ...web, generation: 2, ifname: 'eth1' },
        { ...db, generation: 2, ifname: 'eth1' },
      ],
    });
    await one.call('DELETE', '/v1/networks/temporary');
    await until(() => two.handle.context.mirror.tables.network.size === 2, 30_000, 'the other controller knows');
    for (const controller of [one, two]) {
      const stream = await openStream(t, controller, 'h2', { instance: 'instance-2', interest: [network.id], cursor });
      t.equal(stream.hello().resumed, true);
      await stream.line('a heartbeat', (line) => line.type === 'beat');
      const said = stream.lines.filter((line) => line.type === 'put' || line.type === 'gone');
      t.match(said, [
        { type: 'put', kind: 'endpoint', value: { id: web.id, generation: 2 } },
        { type: 'gone', kind: 'network', id: temporary.id },
      ]);
      t.equal(said.length, 2, 'only what was missed, and only of the interest');
      t.notOk(stream.lines.some((line) => line.type === 'begin'));
      stream.close();
    }
  });

  await t.test('begins anew for a cursor of another store, or too old', async (t) => {
    const { epoch, revision } = one.handle.context.mirror;
    for (const cursor of [
      { epoch: 'f'.repeat(32), revision },
      { epoch, revision: 1 },
    ]) {
      const stream = await openStream(t, one, 'h2', { instance: 'instance-2', interest: [], cursor });
      t.equal(stream.hello().resumed, false);
      await stream.line('the full set', (line) => line.type === 'end' && line.scope === '*');
      stream.close();
      await stream.ended;
    }
  });

  await t.test(
    'brings a full set of an interest added in mid-stream, then changes, without gap or repetition',
    async (t) => {
      const stream = await openStream(t, one, 'h2', { instance: 'instance-2', interest: [] });
      await stream.line('the end of the set', (line) => line.type === 'end');
      const addresses = Array.from({ length: 40 }, (_none, index) => addressIn(block.cidr, index + 10));
      const endpoints = addresses.map((address) => newEndpoint(network.id, 'h1', { addresses: [address] }));
      const publishing = (async (): Promise<void> => {
        for (const endpoint of endpoints) await publish(one, 'h1', { endpoints: [endpoint] });
      })();
      await until(() => one.handle.context.mirror.tables.endpoint.size > 15, 30_000, 'some are there');
      await one.call('POST', '/v1/hosts/h2/interest', { stream: stream.hello().stream, add: [network.id] });
      await publishing;
      await stream.line('the last endpoint', isPut('endpoint', endpoints.at(-1)?.id ?? ''));
      const begin = stream.lines.findIndex((line) => line.type === 'begin' && line.scope === network.id);
      const end = stream.lines.findIndex((line) => line.type === 'end' && line.scope === network.id);
      t.ok(begin > 0 && end > begin);
      const puts = stream.lines.flatMap((line) =>
        line.type === 'put' && line.kind === 'endpoint' ? [line.value.id] : [],
      );
      t.equal(new Set(puts).size, puts.length, 'no repetition');
      for (const endpoint of endpoints) t.ok(puts.includes(endpoint.id), 'no gap');
      const setRevision = stream.lines[end]?.type === 'end' ? (stream.lines[end] as { revision: number }).revision : 0;
      for (const line of stream.lines.slice(end + 1))
        if (line.type === 'put') t.ok(line.revision > setRevision, 'changes come after the set');
      await one.call('POST', '/v1/hosts/h2/interest', { stream: stream.hello().stream, remove: [network.id] });
      const before = stream.lines.length;
      await publish(one, 'h1', { endpoints: [{ ...web, generation: 3, ifname: 'eth2' }] });
      await one.call('PATCH', '/v1/networks/backend', { labels: { x: 'y' } });
      await stream.line(
        'a later change',
        (line) => isPut('network', other.id)(line) && line.type === 'put' && line.value.generation === 2,
      );
      t.notOk(
        stream.lines.slice(before).some((line) => line.type === 'put' && line.kind === 'endpoint'),
        'a dropped interest is silent',
      );
      await t.rejects(one.call('POST', '/v1/hosts/h2/interest', { stream: '0'.repeat(16), add: [] }), {
        code: 'ERR_NOT_FOUND',
      });
      stream.close();
      await publish(one, 'h1', {
        endpointsGone: endpoints.map(({ id }) => ({ network: network.id, id, generation: 2 })),
      });
    },
  );

  await t.test('survives a compaction and a restart of etcd without missing a change', async (t) => {
    const stream = await openStream(t, one, 'h2', { instance: 'instance-2', interest: [network.id] });
    await stream.line('the end of the set', (line) => line.type === 'end');
    await etcd.kill();
    await until(() => !one.handle.context.mirror.isConnected, 30_000, 'the break is noticed');
    t.match(await one.call('GET', '/v1/status'), { store: 'unreachable' });
    t.equal((await one.call<NetworkView[]>('GET', '/v1/networks')).length, 2, 'reading goes on');
    await t.rejects(one.call('POST', '/v1/networks', { name: 'nowhere' }), { code: 'ERR_STORE_UNREACHABLE' });
    t.ok(
      (await one.call<HostView[]>('GET', '/v1/hosts')).every(({ state }) => state === 'unknown'),
      'nobody is declared dead',
    );
    await etcd.start();
    const client = one.handle.context.client;
    await until(
      () =>
        client.revision().then(
          () => true,
          () => false,
        ),
      30_000,
      'etcd is back',
    );
    await until(() => one.handle.context.mirror.isConnected, 30_000, 'the mirror is back');
    const late = newEndpoint(network.id, 'h1', { addresses: [addressIn(block.cidr, 7)] });
    await publish(one, 'h1', { endpoints: [late] });
    await client.compact(await client.revision());
    await stream.line('the change after it', isPut('endpoint', late.id));
    t.notOk(
      stream.lines.some((line) => line.type === 'bye'),
      'the stream lived on',
    );
    stream.close();
  });

  await t.test('catches up by listing when history was compacted while its controller was cut off', async (t) => {
    const proxy = await newCuttingProxy(etcd.port);
    t.teardown(() => proxy.remove());
    const far = await newController(t, `http://127.0.0.1:${proxy.port}`);
    const stream = await openStream(t, far, 'h2', { instance: 'instance-2', interest: [network.id] });
    await stream.line('the end of the set', (line) => line.type === 'end');
    const old = { epoch: stream.hello().epoch, revision: stream.hello().revision };
    proxy.isClosed = true;
    proxy.cutNow();
    await until(() => !far.handle.context.mirror.isConnected, 30_000, 'cut off');
    const fresh = newEndpoint(network.id, 'h1', { addresses: [addressIn(block.cidr, 8)] });
    const passing = newEndpoint(network.id, 'h1', { addresses: [addressIn(block.cidr, 9)] });
    await publish(one, 'h1', { endpoints: [fresh, passing] });
    await publish(one, 'h1', {
      endpointsGone: [
        { network: network.id, id: passing.id, generation: 1 },
        { network: network.id, id: web.id, generation: 9 },
      ],
    });
    const { client } = one.handle.context;
    await client.compact(await client.revision());
    proxy.isClosed = false;
    await stream.line('what is new', isPut('endpoint', fresh.id));
    const gone = await stream.line('what is gone', (line) => line.type === 'gone');
    t.match(gone, { kind: 'endpoint', network: network.id, id: web.id });
    t.notOk(stream.lines.some(isPut('endpoint', passing.id)), 'what came and went is not mentioned');
    t.notOk(
      stream.lines.some((line) => line.type === 'bye'),
      'the stream lived on',
    );
    stream.close();
    await stream.ended;
    const again = await openStream(t, far, 'h2', { instance: 'instance-2', interest: [network.id], cursor: old });
    t.equal(again.hello().resumed, false, 'a cursor from before the gap means full sets');
    again.close();
  });

  await t.test('gives a store that went back in time a new epoch, and everybody full sets', async (t) => {
    const { epoch, revision } = one.handle.context.mirror;
    const witness = await openStream(t, one, 'h3', { instance: 'instance-3', interest: [] });
    const cursor = { epoch, revision: revision + 100_000 };
    const stream = await openStream(t, one, 'h2', { instance: 'instance-2', interest: [], cursor });
    t.equal(stream.hello().resumed, false);
    t.not(stream.hello().epoch, epoch);
    await witness.ended;
    t.match(witness.lines.at(-1), { type: 'bye' }, 'other streams begin anew too');
    stream.close();
  });

  await t.test('a reader that does not read is dropped, and others are not held up', async (t) => {
    const lively = await openStream(t, one, 'h3', { instance: 'instance-3', interest: [network.id] });
    const request = httpRequest(`${one.url}/v1/hosts/h2/watch`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
    });
    t.teardown(() => request.destroy());
    let isClosed = false;
    request.on('error', () => (isClosed = true));
    request.on('response', (response) => {
      response.pause();
      response.on('close', () => (isClosed = true));
      response.on('error', () => (isClosed = true));
    });
    request.end(JSON.stringify({ instance: 'instance-2', interest: [network.id] }));
    await until(() => one.handle.context.hub.stream('h2') !== undefined, 30_000, 'the slow stream');
    const labels = Object.fromEntries(
      Array.from({ length: 60 }, (_none, index) => [`label-${index}`, 'x'.repeat(250)]),
    );
    const more = (await grant(one, 'h1', network)).block;
    const endpoints = [block, more].flatMap(({ cidr }) =>
      Array.from({ length: 40 }, (_none, index) =>
        newEndpoint(network.id, 'h1', { addresses: [addressIn(cidr, index + 12)], labels }),
      ),
    );
    let generation = 1;
    await until(
      async () => {
        generation += 1;
        const published = await publish(one, 'h1', {
          endpoints: endpoints.map((endpoint) => ({ ...endpoint, generation })),
        });
        t.same(published, { refused: [] });
        return one.handle.context.hub.stream('h2') === undefined || isClosed;
      },
      60_000,
      'the slow reader is dropped',
    );
    t.ok(generation > 5, 'not before it was far behind');
    await lively.line(
      'the newest change',
      (line) =>
        isPut('endpoint', endpoints.at(-1)?.id ?? '')(line) &&
        line.type === 'put' &&
        line.value.generation === generation,
    );
    lively.close();
  });
});
