import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { WatchLine } from '../../core/api/watch.js';
import {
  endpointId,
  fullSet,
  hello,
  networkId,
  newBlock,
  newCarrier,
  newEndpoint,
  newNetwork,
  put,
} from '../unit/agent/records.js';
import { newRig, startRig } from './rig.js';
import { StubController, until } from './stub-controller.js';

const carrier = { network: networkId, host: 'a', vtep: '198.18.0.1', addresses: [], mac: '02:00:00:00:00:01' };
const standard = (): readonly WatchLine[] => [
  hello(),
  ...fullSet('*', 10, [newNetwork(), newCarrier(), newEndpoint()]),
];

t.test('a host registers as itself, follows the stream, and goes on at its position after a cut', async (t) => {
  const { stub, state, sync, journal } = await startRig(t, {
    before: (rig, stub) => {
      rig.journal.putCarrier(carrier);
      stub.opening = (request) =>
        request.cursor === undefined ? standard() : [hello({ revision: 30, resumed: true })];
    },
  });
  await until('the full set', () => sync.isConnected && state.isLoaded(networkId));
  stub.cut();
  await until('the second stream', () => stub.streams[0]?.request.cursor?.revision === 10 && sync.isConnected);
  stub.send(put(newEndpoint({ id: endpointId(2) }), 21), { type: 'beat', revision: 25 });
  await until(
    'the change',
    () => state.endpoint(networkId, endpointId(2)) !== undefined && state.cursor?.revision === 25,
  );
  stub.cut();
  await until('the third stream', () => stub.streams[0]?.request.cursor?.revision === 25);
  t.strictSame(stub.streams[0]?.request, {
    instance: journal.instance,
    interest: [networkId],
    cursor: { epoch: 'e1', revision: 25 },
  });
  t.strictSame(
    [...state.endpointsOf(networkId)].map(({ id }) => id),
    [endpointId(1), endpointId(2)],
  );
  const register = stub.calls[0];
  t.match(register, {
    method: 'PUT',
    path: '/v1/hosts/a',
    headers: { 'x-tsnet-host': 'a' },
    body: { vtep: '198.18.0.1', instance: journal.instance },
  });
  await until('its first line', () => sync.status().controller === stub.url);
});

t.test('a network carried in mid-stream is asked for on that stream; one dropped is forgotten', async (t) => {
  const { stub, state, sync, journal } = await startRig(t, {
    before: (_rig, stub) => {
      stub.opening = () => [hello(), ...fullSet('*', 10, [newNetwork()])];
    },
  });
  await until('connected', () => sync.isConnected && state.network(networkId) !== undefined);
  journal.putCarrier(carrier);
  await until('the interest', () => stub.interests.length === 1);
  t.strictSame(stub.interests[0], { stream: '00000000000000aa', add: [networkId], remove: [] });
  stub.send(...fullSet(networkId, 12, [newCarrier(), newEndpoint()]));
  await until('the set', () => state.isLoaded(networkId));
  t.equal(state.carriersOf(networkId).length, 1);
  journal.removeCarrier(networkId);
  await until('the end of the interest', () => stub.interests.length === 2);
  t.strictSame(stub.interests[1], { stream: '00000000000000aa', add: [], remove: [networkId] });
  stub.send(put(newEndpoint({ id: endpointId(3) }), 14), { type: 'beat', revision: 15 });
  await until('the late line', () => state.cursor?.revision === 15);
  t.strictSame([...state.endpointsOf(networkId)], []);
});

t.test('a network taken up while no stream was there is loaded as a whole after a resumed start', async (t) => {
  const { stub, state, sync, journal } = await startRig(t);
  await until('a position', () => sync.isConnected && state.cursor?.revision === 10);
  await stub.stop();
  await until('away', () => !sync.isConnected);
  journal.putCarrier(carrier);
  stub.opening = () => [hello({ resumed: true })];
  await stub.start();
  await until('the interest', () => stub.interests.length === 1);
  t.strictSame(stub.streams[0]?.request.interest, [], 'changes alone would leave out what was there before');
  t.strictSame(stub.interests[0]?.add, [networkId]);
});

t.test('each heartbeat is answered on the same stream', async (t) => {
  const { stub, sync } = await startRig(t);
  await until('connected', () => sync.isConnected);
  stub.send({ type: 'beat', revision: 11 });
  await until('the answer', () => stub.interests.length === 1);
  stub.send({ type: 'beat', revision: 12 });
  await until('the next', () => stub.interests.length === 2);
  t.strictSame(stub.interests, [{ stream: '00000000000000aa' }, { stream: '00000000000000aa' }]);
});

t.test('a stream that falls silent is left after three beats', async (t) => {
  const { stub, sync } = await startRig(t, {
    before: (_rig, stub) => {
      stub.opening = () => [hello({ beatMs: 30 }), ...fullSet('*', 10, [])];
    },
  });
  await until('connected', () => sync.isConnected);
  await until('a second try', () => stub.streams.length >= 2);
  t.pass();
});

t.test('with the first controller gone the next is used, and stuck to', async (t) => {
  const first = await new StubController().start();
  const second = await new StubController().start();
  const { sync, stop, client } = newRig({ urls: [first.url, second.url], dir: t.testdir() });
  t.teardown(async () => {
    await stop();
    await first.stop();
    await second.stop();
  });
  sync.start();
  await until('the first', () => sync.status().controller === first.url);
  await first.stop();
  await until('the second', () => sync.status().controller === second.url);
  await first.start();
  const before = first.calls.length;
  await client.call('GET', '/v1/endpoints');
  t.equal(client.url, second.url);
  t.equal(first.calls.length, before);
});

t.test('a token file is read again when it changes, and its loss is a warning', async (t) => {
  const dir = t.testdir();
  const tokenFile = join(dir, 'token');
  writeFileSync(tokenFile, 'one\n');
  const stub = await new StubController().start();
  const { client, stop, sync } = newRig({ urls: [stub.url], dir, tokenFile });
  t.teardown(async () => {
    await stop();
    await stub.stop();
  });
  await client.call('GET', '/v1/endpoints');
  writeFileSync(tokenFile, 'second\n');
  await client.call('GET', '/v1/endpoints');
  t.strictSame(
    stub.calls.map(({ headers }) => headers.authorization),
    ['Bearer one', 'Bearer second'],
  );
  const missing = newRig({ urls: [stub.url], dir: t.testdir(), tokenFile: '/nonexistent/token' });
  await missing.client.call('GET', '/v1/endpoints');
  t.match(missing.sync.status().warnings, [{ code: 'ERR_UNAUTHENTICATED', message: /nonexistent/ }]);
  t.strictSame(sync.status().warnings, []);
  await missing.stop();
});

t.test(
  'blocks and carves go to their listener; the end of a carve waits for all changes of its revision',
  async (t) => {
    const carve = {
      v: 1,
      generation: 1,
      id: endpointId(5),
      network: networkId,
      cidr: '10.64.0.8/29',
      address: null,
      owner: 'a',
      requester: 'b',
    } as const;
    const { stub, heard, sync } = await startRig(t, {
      before: (_rig, stub) => {
        stub.opening = () => [
          hello(),
          { type: 'begin', scope: '*', revision: 10 },
          { type: 'put', revision: 10, kind: 'block', value: newBlock() },
          { type: 'put', revision: 10, kind: 'carve', value: carve },
          { type: 'end', scope: '*', revision: 10 },
        ];
      },
    });
    await until('the set', () => sync.isConnected && heard.length === 4);
    t.strictSame(heard, ['put 10.64.0.8/29 1', `carve ${carve.id}`, 'set 10.64.0.8/29', `carves ${carve.id}`]);
    heard.length = 0;
    stub.send({ type: 'gone', revision: 11, kind: 'carve', network: networkId, id: carve.id, generation: 1 });
    stub.send({ type: 'put', revision: 11, kind: 'block', value: newBlock({ generation: 2, carved: ['10.64.0.9'] }) });
    await until('the block', () => heard.length === 1);
    stub.send({ type: 'beat', revision: 11 });
    await until('the carve', () => heard.length === 2);
    t.strictSame(heard, ['put 10.64.0.8/29 2', `carve gone ${carve.id}`]);
  },
);

t.test('bulk changes leave the event loop to others', async (t) => {
  const { stub, state, sync } = await startRig(t, {
    before: ({ journal }) => {
      journal.putCarrier(carrier);
    },
  });
  await until('connected', () => sync.isConnected);
  const count = 20_000;
  let turns = 0;
  const timer = setInterval(() => (turns += 1), 1);
  const before = turns;
  stub.send(
    ...fullSet(
      networkId,
      12,
      Array.from({ length: count }, (_, index) => newEndpoint({ id: endpointId(index + 1) })),
    ),
  );
  await until('all of them', () => state.endpoint(networkId, endpointId(count)) !== undefined, 30_000);
  clearInterval(timer);
  t.equal([...state.endpointsOf(networkId)].length, count);
  t.ok(turns - before > 20, `${turns - before} turns`);
});
