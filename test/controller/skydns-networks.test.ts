import t, { type Test } from 'tap';
import type { NetworkView } from '../../core/api/network.js';
import { networkKey } from '../../core/keys.js';
import {
  newController,
  newEndpoint,
  newTestEtcd,
  openStream,
  publish,
  grant,
  registerHost,
} from './running-controller.js';
import { openStore, settlesTo, type SkyDnsStore } from './skydns-store.js';

t.setTimeout(120_000);

const livenessMs = 20_000;
const skyDns = { prefix: '/skydns', domain: 'tsnet.internal' };
/** Where the name of an address is, digit by digit from the left. */
const reverseOf = (address: string): string => {
  const [head = '', tail = ''] = address.split('::').map((half) =>
    half
      .split(':')
      .map((group) => group.padStart(4, '0'))
      .join(''),
  );
  return `/skydns/arpa/ip6/${[...head, ...tail.padStart(32 - head.length, '0')].join('/')}`;
};

interface Cluster {
  readonly one: Awaited<ReturnType<typeof newController>>;
  readonly store: SkyDnsStore;
}

async function newCluster(t: Test): Promise<Cluster> {
  const etcd = await newTestEtcd(t);
  const store = openStore(t, etcd.endpoint);
  const one = await newController(t, etcd.endpoint, { livenessMs, skyDns });
  await registerHost(one, 1);
  await openStream(t, one, 'h1', { instance: 'instance-1', interest: [] });
  return { one, store };
}

function newNetwork({ one }: Cluster, name: string, ...subnets: readonly string[]): Promise<NetworkView> {
  return one.call<NetworkView>('POST', '/v1/networks', { name, subnets: subnets.map((subnet) => ({ subnet })) });
}

/** Makes an address the host's to give. */
async function own({ one }: Cluster, network: NetworkView, address: string): Promise<void> {
  const isSix = address.includes(':');
  const subnets = network.subnets.filter(({ subnet }) => subnet.includes(':') === isSix);
  await grant(one, 'h1', { ...network, subnets }, address);
}

void t.test('an endpoint with IPv6 addresses has AAAA, SRV and PTR for each of them', async (t) => {
  const cluster = await newCluster(t);
  const { one, store } = cluster;
  const network = await newNetwork(cluster, 'six', '10.77.0.0/24', 'fd00:77::/64');
  const addresses = ['10.77.0.50', 'fd00:77::50', 'fd00:77::51'];
  const last = 'fd00:77::5:1';
  for (const address of [...addresses, last]) await own(cluster, network, address);
  const labels = { 'tsnet.port/http': '8080' };
  const web = newEndpoint(network.id, 'h1', { name: 'web', addresses, labels });
  const only = newEndpoint(network.id, 'h1', { name: 'only', addresses: [last] });
  t.same((await publish(one, 'h1', { endpoints: [web, only] })).refused, []);
  const zone = '/skydns/internal/tsnet/six';
  const leaves = (name: string): [string, string][] => [
    [`${zone}/${name}/${web.id}`, '10.77.0.50:8080'],
    [`${zone}/${name}/${web.id}-2`, 'fd00:77::50:8080'],
    [`${zone}/${name}/${web.id}-3`, 'fd00:77::51:8080'],
  ];
  const ofOnly = Object.fromEntries([
    ...['only', only.id, only.callerId].map((name) => [`${zone}/${name}/${only.id}`, last]),
    [reverseOf(last), 'only.six.tsnet.internal.'],
  ]) as Record<string, string>;
  const ofWeb = Object.fromEntries([
    ...['web', web.id, web.callerId].flatMap(leaves),
    ['/skydns/arpa/in-addr/10/77/0/50', 'web.six.tsnet.internal.'],
    [reverseOf('fd00:77::50'), 'web.six.tsnet.internal.'],
    [reverseOf('fd00:77::51'), 'web.six.tsnet.internal.'],
  ]);
  await settlesTo(t, store, { ...ofWeb, ...ofOnly }, 'both families');
  await publish(one, 'h1', { endpointsGone: [{ network: network.id, id: web.id, generation: 2 }] });
  await settlesTo(t, store, ofOnly, 'of both families nothing is left');
});

void t.test('with a network all of its records go, and no others', async (t) => {
  const cluster = await newCluster(t);
  const { one, store } = cluster;
  const [front, back] = [
    await newNetwork(cluster, 'front', '10.78.0.0/24', 'fd00:78::/64'),
    await newNetwork(cluster, 'back', '10.79.0.0/24'),
  ];
  for (const address of ['10.78.0.50', 'fd00:78::50']) await own(cluster, front, address);
  await own(cluster, back, '10.79.0.50');
  const web = newEndpoint(front.id, 'h1', { name: 'web', addresses: ['10.78.0.50', 'fd00:78::50'] });
  const other = newEndpoint(back.id, 'h1', { name: 'web', addresses: ['10.79.0.50'] });
  t.same((await publish(one, 'h1', { endpoints: [web, other] })).refused, []);
  const shop = await one.call<{ readonly addresses: readonly string[] }>('POST', '/v1/services', {
    network: 'front',
    name: 'shop',
    mode: 'vip',
    backends: ['web'],
    ports: [{ port: 80 }],
  });
  const ofOther = Object.fromEntries([
    ...['web', other.id, other.callerId].map((name) => [
      `/skydns/internal/tsnet/back/${name}/${other.id}`,
      '10.79.0.50',
    ]),
    ['/skydns/arpa/in-addr/10/79/0/50', 'web.back.tsnet.internal.'],
  ]) as Record<string, string>;
  const zone = '/skydns/internal/tsnet/front';
  const ofService = Object.fromEntries(
    shop.addresses.map((address, index) => [`${zone}/shop/vip${index === 0 ? '' : `-${index + 1}`}`, `${address}:80`]),
  );
  const ofWeb = Object.fromEntries([
    ...['web', web.id, web.callerId].flatMap((name) => [
      [`${zone}/${name}/${web.id}`, '10.78.0.50'],
      [`${zone}/${name}/${web.id}-2`, 'fd00:78::50'],
    ]),
    ['/skydns/arpa/in-addr/10/78/0/50', 'web.front.tsnet.internal.'],
    [reverseOf('fd00:78::50'), 'web.front.tsnet.internal.'],
  ]) as Record<string, string>;
  await settlesTo(t, store, { ...ofOther, ...ofService, ...ofWeb }, 'two networks');

  await t.rejects(one.call('DELETE', '/v1/networks/front'), { code: 'ERR_NETWORK_IN_USE' });
  await publish(one, 'h1', { endpointsGone: [{ network: front.id, id: web.id, generation: 2 }] });
  await one.call('DELETE', '/v1/services/shop');
  await one.call('DELETE', '/v1/networks/front');
  await settlesTo(t, store, ofOther, 'the other network is as it was');

  await store.client.txn([], [{ request_delete_range: { key: Buffer.from(networkKey(back.id)) } }]);
  await settlesTo(t, store, {}, 'endpoints of a network that is gone have no records');
});
