import t from 'tap';
import type { WatchLine } from '../../../core/api/watch.js';
import type { Policy, Service } from '../../../core/model.js';
import { ClusterState, type ClusterStateOptions, type OwnSighting } from '../../../agent/state/cluster-state.js';
import type { StateChange } from '../../../agent/state/state-change.js';
import {
  endpointId,
  fullSet,
  hello,
  networkId,
  newCarrier,
  newEndpoint,
  newNetwork,
  newService,
  put,
  settings,
} from './records.js';

const other = '0000000b';

interface Watched {
  readonly state: ClusterState;
  readonly changes: string[];
  readonly apply: (...lines: WatchLine[]) => void;
}

function watched(dataDir: string, options: Partial<ClusterStateOptions> = {}): Watched {
  const state = new ClusterState({ dataDir, host: 'a', intervalMs: 1, ...options });
  const changes: string[] = [];
  state.onChange((change: StateChange) => changes.push(`${change.op} ${change.key}`));
  return { state, changes, apply: (...lines) => lines.forEach((line) => state.apply(line)) };
}

const keys = (state: ClusterState, network: string): string[] => [
  ...state.carriersOf(network).map(({ host }) => host),
  ...[...state.endpointsOf(network)].map(({ id }) => id),
];

t.test('a full set says what there is: what it does not name is gone', async (t) => {
  const { state, changes, apply } = watched(t.testdir());
  state.setInterest(new Set([networkId]), new Set([networkId]));
  apply(hello(), ...fullSet('*', 10, [newNetwork(), newCarrier(), newEndpoint()]), {
    type: 'put',
    revision: 11,
    kind: 'settings',
    value: settings,
  });
  t.strictSame(changes, [
    `put network/${networkId}`,
    `put carrier/${networkId}/b`,
    `put endpoint/${networkId}/${endpointId(1)}`,
    'put settings',
  ]);
  t.equal(state.networkByRef('frontend')?.id, networkId);
  t.equal(state.networkByRef(networkId)?.name, 'frontend');
  t.ok(state.isLoaded(networkId));
  t.equal(state.settings?.vxlanPort, 4790);

  changes.length = 0;
  apply(hello({ revision: 20 }), ...fullSet('*', 20, [newNetwork(), newEndpoint({ id: endpointId(2) })]));
  t.strictSame(changes, [
    `put endpoint/${networkId}/${endpointId(2)}`,
    `gone carrier/${networkId}/b`,
    `gone endpoint/${networkId}/${endpointId(1)}`,
  ]);
  t.equal(state.settings?.vxlanPort, 4790, 'settings are never gone');
  await state.close();
});

t.test('the set of one network concerns that network alone', async (t) => {
  const { state, apply } = watched(t.testdir());
  apply(
    hello(),
    ...fullSet('*', 10, [
      newNetwork(),
      newNetwork({ id: other, name: 'back' }),
      newEndpoint(),
      newEndpoint({ id: endpointId(2), network: other }),
    ]),
    ...fullSet(other, 12, [newCarrier({ network: other, host: 'c' })]),
  );
  t.strictSame(keys(state, networkId), [endpointId(1)]);
  t.strictSame(keys(state, other), ['c']);
  t.ok(state.isLoaded(other));
  t.equal(state.cursor?.revision, 10, 'it does not move the position of the stream');
  await state.close();
});

t.test('a set that breaks off removes nothing', async (t) => {
  const { state, apply } = watched(t.testdir());
  apply(hello(), ...fullSet('*', 10, [newNetwork(), newEndpoint()]), hello({ revision: 20 }), {
    type: 'begin',
    scope: '*',
    revision: 20,
  });
  state.abandonSet();
  apply({ type: 'beat', revision: 30 });
  t.strictSame(keys(state, networkId), [endpointId(1)]);
  t.equal(state.cursor?.revision, 10, 'and the position stays before it');
  await state.close();
});

t.test('an older generation never overwrites a newer one', async (t) => {
  const { state, changes, apply } = watched(t.testdir());
  apply(hello(), ...fullSet('*', 10, [newNetwork()]), put(newEndpoint({ generation: 5, name: 'new' }), 11));
  apply(put(newEndpoint({ generation: 4, name: 'old' }), 12), put(newEndpoint({ generation: 5, name: 'same' }), 13));
  t.equal(state.endpoint(networkId, endpointId(1))?.name, 'new');
  t.equal(changes.length, 2);
  apply({ type: 'gone', revision: 14, kind: 'endpoint', network: networkId, id: endpointId(1), generation: 6 });
  t.equal(state.endpoint(networkId, endpointId(1)), undefined);
  t.equal(changes.at(-1), `gone endpoint/${networkId}/${endpointId(1)}`);
  await state.close();
});

t.test('a record made anew with a lower generation is taken from a full set of the same store', async (t) => {
  const { state, apply } = watched(t.testdir());
  apply(hello(), ...fullSet('*', 10, [newNetwork(), newCarrier({ generation: 9 })]));
  apply(hello({ revision: 20 }), { type: 'begin', scope: '*', revision: 20 });
  apply(put(newNetwork(), 4), put(newCarrier({ generation: 2 }), 7), { type: 'end', scope: '*', revision: 20 });
  t.equal(state.carrier(networkId, 'b')?.generation, 2);
  await state.close();
});

t.test('the position stays below a revision until all its changes have come', async (t) => {
  const { state, apply } = watched(t.testdir());
  apply(
    hello(),
    ...fullSet('*', 10, [newNetwork()]),
    put(newEndpoint(), 11),
    put(newEndpoint({ id: endpointId(2) }), 11),
  );
  t.equal(state.cursor?.revision, 10);
  apply(put(newEndpoint({ id: endpointId(3) }), 12));
  t.equal(state.cursor?.revision, 11);
  apply({ type: 'beat', revision: 15 });
  t.strictSame(state.cursor, { epoch: 'e1', revision: 15 });
  await state.close();
});

t.test('own records go to the journal and are not kept; networks not wanted are left out', async (t) => {
  const sightings: OwnSighting[] = [];
  const { state, apply } = watched(t.testdir(), { onOwn: (sighting) => sightings.push(sighting) });
  state.setInterest(new Set([networkId]), new Set([networkId]));
  apply(
    hello(),
    ...fullSet('*', 10, [newNetwork(), newEndpoint({ host: 'a', generation: 3 }), newCarrier({ host: 'a' })]),
  );
  apply(put(newEndpoint({ id: endpointId(7), network: other }), 11));
  t.strictSame(keys(state, networkId), []);
  t.strictSame(keys(state, other), []);
  t.strictSame(sightings, [
    { network: networkId, id: endpointId(1), generation: 3 },
    { network: networkId, id: null, generation: 1 },
  ]);
  await state.close();
});

t.test('a store that was lost takes nothing away until its hosts had time to fill it again', async (t) => {
  const { state, changes, apply } = watched(t.testdir(), { graceMs: 30 });
  apply(hello(), ...fullSet('*', 10, [newNetwork(), newCarrier(), newEndpoint(), newEndpoint({ id: endpointId(2) })]));
  changes.length = 0;
  apply(hello({ epoch: 'e2', revision: 3 }), { type: 'begin', scope: '*', revision: 3 });
  t.equal(state.cursor, null);
  t.ok(state.isRebasing);
  state.abandonSet();
  apply(hello({ epoch: 'e2', revision: 4 }), ...fullSet('*', 4, []));
  t.strictSame(changes, [], 'also when the first stream of the new store broke');
  t.notOk(state.isRebasing);
  t.strictSame(
    [...state.unconfirmedNetworks()].map(({ name }) => name),
    ['frontend'],
  );
  t.strictSame(state.cursor, { epoch: 'e2', revision: 4 });
  apply(put(newNetwork(), 5), put(newEndpoint(), 6));
  const deadlineMs = performance.now() + 5000;
  while (changes.length < 2 && performance.now() < deadlineMs) await new Promise((resolve) => setImmediate(resolve));
  t.strictSame(changes.sort(), [`gone carrier/${networkId}/b`, `gone endpoint/${networkId}/${endpointId(2)}`]);
  await state.close();
});

t.test('a store set back to an older revision is treated like one that was lost', async (t) => {
  const { state, changes, apply } = watched(t.testdir());
  apply(hello({ revision: 100 }), ...fullSet('*', 100, [newNetwork(), newEndpoint({ generation: 9 })]));
  changes.length = 0;
  apply(hello({ revision: 50 }));
  t.ok(state.isRebasing);
  apply(...fullSet('*', 50, [newNetwork(), newEndpoint({ generation: 2 })]));
  t.strictSame(changes, []);
  t.equal(state.endpoint(networkId, endpointId(1))?.generation, 9);
  await state.close();
});

t.test('what controllers decide is as a store has it that was set back, and what it lacks is to be given back', (t) => {
  const { state, apply } = watched(t.testdir());
  const service = { ...newService(), generation: 7, affinity: 'client-ip' } as const;
  const lost = { ...newService(), name: 'lost' };
  const putOf = (value: Service): WatchLine => ({ type: 'put', revision: 50, kind: 'service', value });
  apply(hello({ revision: 100 }), ...fullSet('*', 100, [newNetwork()]), putOf(service), putOf(lost));
  t.same(state.unconfirmedServices(), []);
  apply(hello({ revision: 50 }), { type: 'begin', scope: '*', revision: 50 }, putOf(newService()));
  apply({ type: 'end', scope: '*', revision: 50 });
  t.equal(state.service(networkId, 'web')?.affinity, 'none', 'set back');
  t.same(state.unconfirmedServices(), [lost]);
  t.same(state.unconfirmedService(networkId, 'lost'), lost);
  t.equal(state.unconfirmedService(networkId, 'web'), undefined);
  apply(putOf(lost));
  t.same(state.unconfirmedServices(), [], 'the store has it again');
  t.end();
});

t.test('a policy that a store lost is as it has it again, also where the clock of its generation was set back', (t) => {
  const { state, apply } = watched(t.testdir());
  const policy = (generation: number, networks: readonly string[]): Policy => ({
    v: 1,
    generation,
    name: 'front',
    networks,
    selects: {},
    ingress: [],
    createdAt: '2026-11-21T12:00:00.000Z',
  });
  const putOf = (value: Policy, revision: number): WatchLine => ({ type: 'put', revision, kind: 'policy', value });
  const dayMs = 86_400_000;
  apply(hello({ revision: 100 }), ...fullSet('*', 100, [newNetwork()]), putOf(policy(10 * dayMs, []), 101));
  apply(hello({ epoch: 'e2', revision: 50 }), ...fullSet('*', 50, [newNetwork()]));
  t.equal(state.unconfirmedPolicies().length, 1, 'kept while the store does not have it');
  apply(putOf(policy(9 * dayMs, ['frontend']), 51));
  t.same(state.policies[0]?.networks, ['frontend']);
  apply(putOf(policy(9 * dayMs + 1, ['backend']), 52));
  t.same(state.policies[0]?.networks, ['backend'], 'and later changes are taken');
  t.end();
});

t.test('all of it is there after a restart, without any controller', async (t) => {
  const dir = t.testdir();
  const first = watched(dir);
  first.state.setInterest(new Set([networkId]), new Set([networkId]));
  first.apply(hello(), { type: 'put', revision: 10, kind: 'settings', value: settings });
  first.apply(...fullSet('*', 10, [newNetwork(), newCarrier(), newEndpoint(), newEndpoint({ id: endpointId(2) })]));
  first.apply(
    { type: 'gone', revision: 11, kind: 'endpoint', network: networkId, id: endpointId(2), generation: 2 },
    { type: 'beat', revision: 12 },
  );
  await first.state.close();
  const { state } = watched(dir);
  t.strictSame(state.warnings, []);
  t.strictSame(keys(state, networkId), ['b', endpointId(1)]);
  t.strictSame(state.endpoint(networkId, endpointId(1)), newEndpoint());
  t.equal(state.networkByRef('frontend')?.vni, 8388608);
  t.strictSame(state.settings, settings);
  t.strictSame(state.cursor, { epoch: 'e1', revision: 12 });
  t.ok(state.isLoaded(networkId));
  await state.close();
});

t.test('a network that is no longer carried is forgotten, and its records are loaded anew later', async (t) => {
  const dir = t.testdir();
  const { state, apply, changes } = watched(dir);
  state.setInterest(new Set([networkId]), new Set([networkId]));
  apply(hello(), ...fullSet('*', 10, [newNetwork(), newCarrier(), newEndpoint()]));
  changes.length = 0;
  state.forget(networkId);
  t.strictSame(changes, [`gone carrier/${networkId}/b`, `gone endpoint/${networkId}/${endpointId(1)}`]);
  t.notOk(state.isLoaded(networkId));
  t.ok(state.network(networkId), 'its definition stays');
  await state.close();
  const again = watched(dir).state;
  t.notOk(again.isLoaded(networkId));
  t.strictSame(keys(again, networkId), []);
  await again.close();
});

t.test('a record that is none is refused and the stream goes on; unknown properties are let through', async (t) => {
  const { state, apply } = watched(t.testdir());
  apply(hello(), ...fullSet('*', 10, [newNetwork()]));
  const broken = JSON.parse('{"type":"put","revision":11,"kind":"endpoint","value":{"id":4}}') as WatchLine;
  t.throws(() => apply(broken), { code: 'ERR_INVALID_REQUEST' });
  const extended = { ...newEndpoint(), weight: 3 };
  apply(put(extended, 12));
  t.strictSame(keys(state, networkId), [endpointId(1)]);
  await state.close();
});
