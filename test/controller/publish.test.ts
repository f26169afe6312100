import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { NetworkView } from '../../core/api/network.js';
import { EtcdClient } from '../../lib/etcd/client.js';
import { grant, newController, newEndpoint, newTestEtcd, publish, registerHost } from './running-controller.js';

void t.test('a publication asks the store as often for many records as for one', async (t) => {
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
  const forOne = await callsOf({ endpoints: endpoints.slice(0, 1) });
  t.ok(forOne > 0);
  t.equal(await callsOf({ endpoints: endpoints.slice(1) }), forOne, 'for nine');
  const gone = endpoints.map(({ id }) => ({ network: network.id, id, generation: 2 }));
  t.equal(await callsOf({ endpointsGone: gone }), forOne, 'for ten that are gone');
  t.same(await controller.call<EndpointView[]>('GET', '/v1/endpoints?network=busy'), []);
});
