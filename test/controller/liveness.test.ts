import t from 'tap';
import type { HostView } from '../../core/api/host.js';
import { until } from '../store/real-etcd.js';
import {
  newController,
  newTestEtcd,
  openStream,
  registerHost,
  type RunningController,
  type TestStream,
} from './running-controller.js';

t.setTimeout(120_000);

async function stateOf(controller: RunningController, host: string): Promise<string | undefined> {
  return (await controller.call<HostView[]>('GET', '/v1/hosts')).find(({ name }) => name === host)?.state;
}

async function answerBeats(controller: RunningController, host: string, stream: TestStream): Promise<void> {
  await controller.call('POST', `/v1/hosts/${host}/interest`, { stream: stream.hello().stream });
}

void t.test('liveness', async (t) => {
  const etcd = await newTestEtcd(t);
  const one = await newController(t, etcd.endpoint, { livenessMs: 3000 });
  for (const index of [1, 2, 3]) await registerHost(one, index);

  await t.test(
    'an absent host is unknown until controller and store have been up for one liveness bound, then down',
    async (t) => {
      t.equal(await stateOf(one, 'h1'), 'unknown');
      await t.rejects(one.call('DELETE', '/v1/hosts/h1'), { code: 'ERR_HOST_ALIVE', message: /may be alive/ });
      await until(async () => (await stateOf(one, 'h1')) === 'down', 30_000, 'down');
      t.ok(one.handle.context.mirror.connectedMs >= 3000);
    },
  );

  await t.test('a host is up while its stream lives, and down one bound after it ended', async (t) => {
    const stream = await openStream(t, one, 'h1', { instance: 'instance-1', interest: [] });
    t.equal(await stateOf(one, 'h1'), 'up');
    const since = performance.now();
    await until(() => performance.now() - since > 5000, 30_000, 'longer than the bound');
    t.equal(await stateOf(one, 'h1'), 'up', 'kept alive');
    await t.rejects(one.call('DELETE', '/v1/hosts/h1'), { code: 'ERR_HOST_ALIVE', message: /is alive/ });
    const seen = (await one.call<HostView[]>('GET', '/v1/hosts'))[0]?.lastSeen ?? '';
    stream.close();
    await until(async () => (await stateOf(one, 'h1')) === 'down', 30_000, 'down');
    const later = (await one.call<HostView[]>('GET', '/v1/hosts'))[0]?.lastSeen ?? '';
    t.ok(later > seen, 'the end of the stream was noted');
    t.same(await one.call('DELETE', '/v1/hosts/h1'), { name: 'h1', blocks: 0, endpoints: 0 });
    await t.rejects(one.call('DELETE', '/v1/hosts/h1'), { code: 'ERR_HOST_UNKNOWN' });
  });

  await t.test('an agent that answers heartbeats and stops is down although its stream is open', async (t) => {
    const stream = await openStream(t, one, 'h2', { instance: 'instance-2', interest: [] });
    await answerBeats(one, 'h2', stream);
    t.equal(await stateOf(one, 'h2'), 'up');
    await until(async () => (await stateOf(one, 'h2')) === 'down', 30_000, 'down');
    await answerBeats(one, 'h2', stream);
    await until(async () => (await stateOf(one, 'h2')) === 'up', 30_000, 'up again with a new lease');
    stream.close();
  });

  await t.test('a revoked lease is replaced while the stream lives', async (t) => {
    const stream = await openStream(t, one, 'h3', { instance: 'instance-3', interest: [] });
    const lease = one.handle.context.mirror.tables.host.get('', 'h3')?.value.leaseId ?? '';
    await one.handle.context.client.leaseRevoke(lease);
    await until(
      async () => {
        const host = one.handle.context.mirror.tables.host.get('', 'h3')?.value;
        return host !== undefined && host.leaseId !== lease && (await stateOf(one, 'h3')) === 'up';
      },
      30_000,
      'a new lease',
    );
    stream.close();
  });

  await t.test(
    'a second agent under the same host name is refused while the first lives; a restarted one takes over',
    async (t) => {
      const two = await newController(t, etcd.endpoint, { livenessMs: 3000 });
      const stream = await openStream(t, one, 'h3', { instance: 'instance-3', interest: [] });
      await t.rejects(openStream(t, one, 'h3', { instance: 'impostor', interest: [] }), {
        code: 'ERR_HOST_NAME_IN_USE',
      });
      await t.rejects(openStream(t, two, 'h3', { instance: 'impostor', interest: [] }), {
        code: 'ERR_HOST_NAME_IN_USE',
      });
      await t.rejects(
        two.call('PUT', '/v1/hosts/h3', {
          vtep: '198.18.0.3',
          underlayMtu: 1500,
          bootId: 'b',
          instance: 'impostor',
          version: '0.1.0',
        }),
        { code: 'ERR_HOST_NAME_IN_USE' },
      );
      const lease = one.handle.context.mirror.tables.host.get('', 'h3')?.value.leaseId;
      const second = await openStream(t, one, 'h3', { instance: 'instance-3', interest: [] });
      await stream.ended;
      t.match(stream.lines.at(-1), { type: 'bye', code: 'ERR_HOST_NAME_IN_USE' });
      second.close();
      const moved = await openStream(t, two, 'h3', { instance: 'instance-3', interest: [] });
      t.equal(
        two.handle.context.mirror.tables.host.get('', 'h3')?.value.leaseId,
        lease,
        'any controller takes the same lease over',
      );
      moved.close();
      await t.rejects(openStream(t, one, 'h9', { instance: 'i', interest: [] }), { code: 'ERR_HOST_UNKNOWN' });
    },
  );
});
