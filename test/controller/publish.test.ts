import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { NetworkView } from '../../core/api/network.js';
import { addressesPrefix, addressKey } from '../../core/keys.js';
import { EtcdClient } from '../../lib/etcd/client.js';
import { grant, newController, newEndpoint, newTestEtcd, publish, registerHost } from './running-controller.js';

void t.test('a publication asks the store only where the mirror does not know better', async (t) => {
  const etcd = await newTestEtcd(t);
  const controller = await newController(t, etcd.endpoint);
  await registerHost(controller, 1);
  const network = await controller.call<NetworkView>('POST', '/v1/networks', {
    name: 'busy',
    subnets: [{ subnet: '10.7.0.0/16' }],
  });
  const { block } = await grant(controller, 'h1', network);
  const base = block.cidr.slice(0, block.cidr.lastIndexOf('.') + 1);
  const first = Number(block.cidr.slice(base.length).split('/')[0]) + 2;
  const endpoints = Array.from({ length: 10 }, (_none, index) =>
    newEndpoint(network.id, 'h1', { addresses: [`${base}${first + index}`] }),
  );
  const { getMany } = EtcdClient.prototype;
  let calls = 0;
  EtcdClient.prototype.getMany = function (...args) {
    calls += 1;
    return getMany.apply(this, args);
  };
  t.teardown(() => {
    EtcdClient.prototype.getMany = getMany;
  });
  const callsOf = async (body: object): Promise<number> => {
    calls = 0;
    t.same(await publish(controller, 'h1', body), { refused: [] });
    return calls;
  };
  t.equal(await callsOf({ endpoints }), 0, 'for what is new');
  t.equal(await callsOf({ endpoints: endpoints.map((one) => ({ ...one, generation: 2, name: 'web' })) }), 0, 'changed');
  const moved = endpoints.map((one, index) => ({
    ...one,
    generation: 3,
    addresses: [`${base}${first + 10 + index}`],
  }));
  t.equal(await callsOf({ endpoints: moved }), 0, 'with other addresses');
  t.equal(await callsOf({ endpoints: moved }), 1, 'published again: a record in place is read');
  const client = new EtcdClient({ endpoints: [etcd.endpoint] });
  t.teardown(() => client.close());
  const taken = addressKey(network.id, `${base}${first}`);
  await client.txn([], [{ request_put: { key: Buffer.from(taken), value: Buffer.from('host:h9') } }]);
  const back = endpoints.slice(0, 2).map((one) => ({ ...one, generation: 4 }));
  calls = 0;
  const { refused } = await publish(controller, 'h1', { endpoints: back });
  t.match(
    refused,
    [{ code: 'ERR_ADDRESS_IN_USE', message: /h9/ }],
    'nothing is taken that the mirror does not know of',
  );
  t.equal(calls, 1, 'for what the mirror is wrong about');
  const gone = endpoints.map(({ id }) => ({ network: network.id, id, generation: 5 }));
  t.equal(await callsOf({ endpointsGone: gone }), 0, 'for ten that are gone');
  t.same(await controller.call<EndpointView[]>('GET', '/v1/endpoints?network=busy'), []);
  const left = await client.list(addressesPrefix(network.id));
  t.same(
    left.kvs.map(({ key }) => key),
    [taken],
    'no claim stays behind',
  );
});
