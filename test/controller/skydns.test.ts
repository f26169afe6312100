import t, { type Test } from 'tap';
import type { NetworkView } from '../../core/api/network.js';
import {
  grant,
  newController,
  newEndpoint,
  newTestEtcd,
  openStream,
  publish,
  registerHost,
  type RunningController,
} from './running-controller.js';
import { openStore, settlesTo, theirs } from './skydns-store.js';

t.setTimeout(120_000);

const skyDns = { prefix: '/skydns', domain: 'tsnet.internal' };
const front = '/skydns/internal/tsnet/front';

async function joinHost(t: Test, one: RunningController, index: number): Promise<() => void> {
  await registerHost(one, index);
  const stream = await openStream(t, one, `h${index}`, { instance: `instance-${index}`, interest: [] });
  return () => stream.close();
}

void t.test('names are written for CoreDNS, and go with what they stand for', async (t) => {
  const etcd = await newTestEtcd(t);
  const store = openStore(t, etcd.endpoint);
  for (const [key, value] of Object.entries(theirs))
    await store.client.txn([], [{ request_put: { key: Buffer.from(key), value: Buffer.from(value) } }]);
  const options = { livenessMs: 3000, skyDns };
  const [one, two] = [await newController(t, etcd.endpoint, options), await newController(t, etcd.endpoint, options)];
  await joinHost(t, one, 1);
  const leave = await joinHost(t, one, 2);
  const network = await one.call<NetworkView>('POST', '/v1/networks', {
    name: 'front',
    subnets: [{ subnet: '10.1.0.0/24' }],
  });
  for (const [host, address] of [
    ['h1', '10.1.0.50'],
    ['h2', '10.1.0.150'],
  ] as const)
    await grant(one, host, network, address);
  const labels = { 'tsnet.port/http': '8080' };
  const web = newEndpoint(network.id, 'h1', { name: 'Web', aliases: ['www'], addresses: ['10.1.0.50'], labels });
  const other = newEndpoint(network.id, 'h2', { name: 'web', addresses: ['10.1.0.150'] });
  t.same((await publish(one, 'h1', { endpoints: [web] })).refused, []);
  t.same((await publish(one, 'h2', { endpoints: [other] })).refused, []);
  const ofWeb = {
    [`${front}/web/${web.id}`]: '10.1.0.50:8080',
    [`${front}/www/${web.id}`]: '10.1.0.50:8080',
    [`${front}/${web.id}/${web.id}`]: '10.1.0.50:8080',
    [`${front}/${web.callerId}/${web.id}`]: '10.1.0.50:8080',
    '/skydns/arpa/in-addr/10/1/0/50': 'web.front.tsnet.internal.',
  };
  const ofOther = {
    [`${front}/web/${other.id}`]: '10.1.0.150',
    [`${front}/${other.id}/${other.id}`]: '10.1.0.150',
    [`${front}/${other.callerId}/${other.id}`]: '10.1.0.150',
    '/skydns/arpa/in-addr/10/1/0/150': 'web.front.tsnet.internal.',
  };
  await settlesTo(t, store, { ...ofWeb, ...ofOther }, 'both endpoints');

  leave();
  await settlesTo(t, store, ofWeb, 'a host that died is left out');
  await joinHost(t, one, 2);
  await settlesTo(t, store, { ...ofWeb, ...ofOther }, 'and is back');

  await publish(one, 'h2', { endpointsGone: [{ network: network.id, id: other.id, generation: 2 }] });
  await settlesTo(t, store, ofWeb, 'an endpoint that was removed');

  await Promise.all([one.close(), two.close()]);
  const stale = { key: Buffer.from(`${front}/gone/x`), value: Buffer.from('{"host":"10.1.0.9","ttl":5,"tsnet":"x"}') };
  await store.client.txn([], [{ request_put: stale }]);
  const three = await newController(t, etcd.endpoint, options);
  await settlesTo(t, store, ofWeb, 'what was left of before is removed at the start');
  await three.close();

  await newController(t, etcd.endpoint, { livenessMs: 3000 });
  await settlesTo(t, store, {}, 'all is removed by a controller that has it off');
  for (const [key, value] of Object.entries(theirs))
    t.equal((await store.client.get(key))?.value.toString(), value, `${key}, somebody else's, stays`);
});
