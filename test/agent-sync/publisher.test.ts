import { scheduler } from 'node:timers/promises';
import t from 'tap';
import type { Publication } from '../../core/api/publication.js';
import {
  endpointId,
  fullSet,
  hello,
  networkId,
  newBlock,
  newEndpoint,
  newNetwork,
  newOwn,
  newService,
} from '../unit/agent/records.js';
import { endpointView } from '../../core/view.js';
import type { Journal } from '../../agent/journal/journal.js';
import { newRig, startRig } from './rig.js';
import { until } from './stub-controller.js';

const carrier = { network: networkId, host: 'a', vtep: '198.18.0.1', addresses: [], mac: '02:00:00:00:00:01' };

function addEndpoint(journal: Journal, number: number): void {
  journal.putEndpoint(newOwn({ id: endpointId(number), generation: journal.nextGeneration() }));
}

const sizeOf = (publication: Publication): number =>
  Object.values(publication).reduce((sum: number, list: readonly unknown[]) => sum + list.length, 0);

t.test('records go out in batches of a hundred at most, one on its way at a time, and are acknowledged', async (t) => {
  let onTheirWay = 0;
  let most = 0;
  const { stub, sync, journal } = await startRig(t, {
    before: ({ journal }, stub) => {
      for (let number = 1; number <= 250; number += 1) addEndpoint(journal, number);
      stub.publish = async () => {
        most = Math.max(most, (onTheirWay += 1));
        await new Promise((resolve) => setTimeout(resolve, 5));
        onTheirWay -= 1;
        return { refused: [] };
      };
    },
  });
  await until('all', () => sync.isConnected && sync.status().unpublished === 0);
  t.strictSame(stub.publications.map(sizeOf), [100, 100, 50]);
  t.equal(most, 1);
  t.ok([...journal.endpoints()].every(({ record, publishedGeneration }) => record.generation === publishedGeneration));
});

t.test('only the latest state of a record is sent', async (t) => {
  const { stub, sync, journal } = await startRig(t);
  await until('connected', () => sync.isConnected && sync.status().unpublished === 0);
  addEndpoint(journal, 1);
  addEndpoint(journal, 1);
  addEndpoint(journal, 1);
  addEndpoint(journal, 2);
  journal.removeEndpoint(endpointId(2));
  await until('published', () => sync.status().unpublished === 0);
  t.equal(stub.publications.length, 1);
  t.equal(stub.publications[0]?.endpoints?.length, 1);
  t.equal(stub.publications[0]?.endpoints?.[0]?.generation, journal.endpoint(endpointId(1))?.record.generation);
  t.equal(stub.publications[0]?.endpointsGone?.[0]?.id, endpointId(2));
  t.strictSame([...journal.tombstones()], []);
});

t.test('a refused record is a warning, tried again later, and holds up nothing', async (t) => {
  const { stub, sync, journal } = await startRig(t, {
    before: (_rig, stub) => {
      stub.publish = ({ endpoints = [] }) => ({
        refused: endpoints
          .filter(({ id }) => id === endpointId(2))
          .map(({ id }) => ({ key: `endpoint/${networkId}/${id}`, code: 'ERR_MAC_IN_USE', message: 'taken' })),
      });
    },
  });
  await until('connected', () => sync.isConnected && sync.status().unpublished === 0);
  for (let number = 1; number <= 3; number += 1) addEndpoint(journal, number);
  await until('two of three', () => sync.status().warnings.length === 1);
  t.match(sync.status(), {
    unpublished: 1,
    warnings: [{ code: 'ERR_MAC_IN_USE', message: new RegExp(endpointId(2)) }],
  });
  t.equal(journal.endpoint(endpointId(2))?.publishedGeneration, 0);
  t.equal(journal.endpoint(endpointId(3))?.publishedGeneration, journal.endpoint(endpointId(3))?.record.generation);
  stub.publish = () => ({ refused: [] });
  await until('a later try', () => sync.status().unpublished === 0);
  t.strictSame(sync.status().warnings, []);
});

t.test('the end of a carrier that is refused is a warning too', async (t) => {
  const { stub, sync, journal } = await startRig(t, {
    before: (_rig, stub) => {
      stub.publish = ({ carriersGone = [] }) => ({
        refused: carriersGone.map(({ network }) => ({
          key: `carrier/${network}/a`,
          code: 'ERR_STALE_GENERATION',
          message: 'newer',
        })),
      });
    },
  });
  await until('connected', () => sync.isConnected && sync.status().unpublished === 0);
  journal.putCarrier(carrier);
  journal.removeCarrier(networkId);
  await until('refused', () => sync.status().warnings.length === 1);
  t.ok(journal.tombstone(networkId, null));
  t.equal(stub.publications.length, 1);
});

t.test('one record that spoils its batch is found and set aside', async (t) => {
  const { stub, sync, journal } = await startRig(t, {
    before: (_rig, stub) => {
      stub.publish = ({ endpoints = [] }) =>
        endpoints.some(({ id }) => id === endpointId(30)) ? 'ERR_INVALID_REQUEST' : { refused: [] };
    },
  });
  await until('connected', () => sync.isConnected && sync.status().unpublished === 0);
  for (let number = 1; number <= 80; number += 1) addEndpoint(journal, number);
  await until('all but one', () => sync.status().unpublished === 1 && sync.status().warnings.length === 1);
  t.match(sync.status().warnings, [{ code: 'ERR_INVALID_REQUEST', message: new RegExp(endpointId(30)) }]);
  t.ok(stub.publications.length < 40, `${stub.publications.length} calls`);
});

t.test('what happened while no controller was there is published on return, and nothing else', async (t) => {
  const { stub, sync, journal } = await startRig(t);
  await until('connected', () => sync.isConnected);
  addEndpoint(journal, 1);
  addEndpoint(journal, 2);
  await until('published', () => sync.status().unpublished === 0);
  await stub.stop();
  await until('away', () => !sync.isConnected);
  addEndpoint(journal, 3);
  journal.removeEndpoint(endpointId(2));
  t.equal(await sync.announceCarrier(networkId), 'acknowledged', 'of a network not carried there is nothing to say');
  journal.putCarrier(carrier);
  const announced = await Promise.race([sync.announceCarrier(networkId), scheduler.wait(100)]);
  t.equal(announced, 'away', 'at once');
  t.equal(sync.status().unpublished, 3);
  t.match(sync.status(), { controller: null, warnings: [{ code: 'ERR_CONTROLLER_UNREACHABLE' }] });
  stub.publications.length = 0;
  stub.opening = () => [hello({ resumed: true })];
  await stub.start();
  await until('published', () => sync.isConnected && sync.status().unpublished === 0);
  t.match(stub.publications, [
    { carriers: [{ network: networkId }], endpoints: [{ id: endpointId(3) }], endpointsGone: [{ id: endpointId(2) }] },
  ]);
  t.equal(
    stub.publications.reduce((sum, publication) => sum + sizeOf(publication), 0),
    3,
  );
});

t.test(
  'a store that was lost is filled again: networks first, then services, blocks and all own records',
  async (t) => {
    const { stub, sync, journal, state } = await startRig(t, {
      before: ({ journal }, stub) => {
        journal.putCarrier(carrier);
        stub.opening = () => [
          hello(),
          ...fullSet('*', 10, [newNetwork()]),
          { type: 'put', revision: 10, kind: 'service', value: newService() },
        ];
      },
    });
    await until('connected', () => state.network(networkId) !== undefined && sync.status().unpublished === 0);
    journal.addresses.putBlock(newBlock());
    addEndpoint(journal, 1);
    await until('published', () => sync.status().unpublished === 0);
    stub.publications.length = 0;
    stub.opening = () => [hello({ epoch: 'e2', revision: 2 }), ...fullSet('*', 2, [])];
    stub.cut();
    await until(
      'filled',
      () =>
        journal.epoch === 'e2' && sync.isConnected && sync.status().unpublished === 0 && stub.publications.length > 0,
    );
    const all = stub.publications;
    t.equal(all[0]?.networks?.[0]?.name, 'frontend');
    t.strictSame(all[0]?.services, [newService()]);
    t.strictSame(
      all.flatMap(({ blocks = [] }) => blocks.map(({ cidr }) => cidr)),
      ['10.64.0.8/29'],
    );
    t.strictSame(
      all.flatMap(({ carriers = [] }) => carriers.map(({ network }) => network)),
      [networkId],
    );
    t.strictSame(
      all.flatMap(({ endpoints = [] }) => endpoints.map(({ id }) => id)),
      [endpointId(1)],
    );
    t.ok(state.network(networkId), 'and nothing here was withdrawn');
  },
);

t.test('other hosts hear of the removal of a backend when it begins, of others when it is done', async (t) => {
  const { stub, sync, journal, state } = await startRig(t, {
    before: ({ journal }, stub) => {
      journal.putCarrier(carrier);
      stub.opening = () => [
        hello(),
        ...fullSet('*', 10, [newNetwork()]),
        { type: 'put', revision: 10, kind: 'service', value: newService() },
      ];
    },
  });
  await until('connected', () => state.service(networkId, 'web') !== undefined && sync.status().unpublished === 0);
  for (const labels of [{ app: 'web' }, { app: 'other' }]) {
    const id = endpointId(labels.app === 'web' ? 1 : 2);
    const own = newOwn({ id, labels, generation: journal.nextGeneration() });
    journal.putEndpoint(own);
    await until('published', () => sync.status().unpublished === 0);
    stub.publications.length = 0;
    const record = { ...own.record, state: 'detaching', generation: journal.nextGeneration() } as const;
    journal.putEndpoint({ ...own, record, step: 'detach' });
    const states = (): string =>
      stub.publications.flatMap(({ endpoints = [] }) => endpoints.map((one) => one.state)).join();
    if (labels.app === 'web') await until('it to be heard of', () => states() === 'detaching');
    journal.removeEndpoint(id);
    await until('its end', () => stub.publications.some((sent) => sent.endpointsGone?.[0]?.id === id));
    t.equal(states(), labels.app === 'web' ? 'detaching' : '');
  }
});

t.test('a block that another host holds by now is reported as fenced', async (t) => {
  const { sync, heard } = await startRig(t, {
    missing: () => [newBlock()],
    before: ({ journal }, stub) => {
      journal.addresses.putBlock(newBlock());
      stub.publish = ({ blocks = [] }) => ({
        refused: blocks.map(({ cidr }) => ({
          key: `block/${networkId}/${cidr}`,
          code: 'ERR_BLOCK_FENCED',
          message: 'host b',
        })),
      });
    },
  });
  await until('fenced', () => sync.isConnected && heard.includes('fenced 10.64.0.8/29'));
  t.equal(sync.status().unpublished, 0);
});

t.test('an announcement overtakes what waits and is answered within its time, or let go', async (t) => {
  let release = (): void => undefined;
  const { stub, sync, journal } = await startRig(t);
  await until('connected', () => sync.isConnected && sync.status().unpublished === 0);
  stub.publish = ({ carriers }) => {
    if (carriers !== undefined) return { refused: [] };
    return new Promise((resolve) => {
      release = () => resolve({ refused: [] });
    });
  };
  addEndpoint(journal, 1);
  await until('a batch on its way', () => stub.publications.length === 1);
  journal.putCarrier(carrier);
  t.equal(await sync.announceCarrier(networkId), 'acknowledged');
  t.equal(await sync.announceCarrier(networkId), 'acknowledged');
  t.equal(stub.publications.length, 2);
  release();

  stub.publish = () => new Promise(() => undefined);
  journal.removeCarrier(networkId);
  journal.putCarrier(carrier);
  const startMs = performance.now();
  t.equal(await sync.announceCarrier(networkId), 'late');
  const tookMs = performance.now() - startMs;
  t.ok(tookMs >= 190, `${tookMs} ms`);
});

t.test('endpoints that the store has of this host and the journal has not are withdrawn', async (t) => {
  const { stub, sync } = await startRig(t, {
    before: (_rig, stub) => {
      stub.opening = () => [hello(), ...fullSet('*', 10, [newNetwork()])];
      stub.endpoints = [endpointView(newEndpoint({ host: 'a', generation: 40 }), 'frontend')];
    },
  });
  await until(
    'withdrawn',
    () => sync.isConnected && stub.publications.some(({ endpointsGone }) => endpointsGone !== undefined),
  );
  const gone = stub.publications.flatMap(({ endpointsGone = [] }) => endpointsGone);
  t.equal(gone[0]?.id, endpointId(1));
  t.ok((gone[0]?.generation ?? 0) > 40);
});

t.test('an agent started while everything is away publishes what its predecessor could not', async (t) => {
  const { stub, sync, dir, stop } = await startRig(t);
  await until('connected', () => sync.isConnected && sync.status().unpublished === 0);
  await stub.stop();
  await stop();
  const second = newRig({ urls: [stub.url], dir });
  t.teardown(second.stop);
  second.sync.start();
  addEndpoint(second.journal, 1);
  second.journal.removeEndpoint(endpointId(1));
  addEndpoint(second.journal, 2);
  await second.stop();
  const third = newRig({ urls: [stub.url], dir });
  t.teardown(third.stop);
  third.sync.start();
  t.equal(third.sync.status().unpublished, 2);
  stub.publications.length = 0;
  await stub.start();
  await until('published', () => third.sync.isConnected && third.sync.status().unpublished === 0);
  t.match(stub.publications, [{ endpoints: [{ id: endpointId(2) }], endpointsGone: [{ id: endpointId(1) }] }]);
});
