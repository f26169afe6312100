import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { HostRecords, HostView } from '../../core/api/host.js';
import type { NetworkView } from '../../core/api/network.js';
import type { Block } from '../../core/model.js';
import { isWithin, until } from '../store/real-etcd.js';
import {
  grant,
  newCarrier,
  newController,
  newEndpoint,
  newTestEtcd,
  openStream,
  publish,
  registerHost,
  type RunningController,
} from './running-controller.js';

const addressIn = (block: Block, offset: number): string => {
  const [base = '', length = ''] = block.cidr.split('/');
  if (length === '32') return base;
  const bytes = base.split('.').map(Number);
  return [...bytes.slice(0, 3), (bytes[3] ?? 0) + offset].join('.');
};

t.setTimeout(120_000);

void t.test('blocks and records of hosts', async (t) => {
  const etcd = await newTestEtcd(t);
  const [one, two] = await Promise.all([newController(t, etcd.endpoint), newController(t, etcd.endpoint)]);
  const both: readonly RunningController[] = [one, two];
  for (const index of [1, 2, 3]) await registerHost(one, index);
  const create = (body: object): Promise<NetworkView> => one.call('POST', '/v1/networks', body);

  await t.test('under contention no block is granted twice', async (t) => {
    const network = await create({ name: 'contended', subnets: [{ subnet: '10.1.0.0/24' }] });
    const grants = await Promise.all(
      Array.from({ length: 24 }, (_none, index) => grant(both[index % 2] ?? one, `h${(index % 3) + 1}`, network)),
    );
    const cidrs = grants.map(({ block }) => block.cidr);
    t.equal(new Set(cidrs).size, 24);
    t.equal(new Set(grants.map(({ block }) => block.generation)).size, 24, 'each with a generation of its own');
    await until(async () => (await two.call<HostView[]>('GET', '/v1/hosts')).length === 3, 30_000, 'hosts');
    await one.call('DELETE', '/v1/networks/contended');
  });

  await t.test('errors name what is wrong', async (t) => {
    const network = await create({ name: 'errors', subnets: [{ subnet: '10.2.0.0/24' }] });
    await t.rejects(grant(one, 'nobody', network), { code: 'ERR_HOST_UNKNOWN' });
    await t.rejects(one.call('POST', '/v1/hosts/h1/blocks', { network: 'ffffffff', subnet: '10.2.0.0/24' }), {
      code: 'ERR_NETWORK_UNKNOWN',
    });
    await t.rejects(one.call('POST', '/v1/hosts/h1/blocks', { network: network.id, subnet: '10.3.0.0/24' }), {
      code: 'ERR_INVALID_REQUEST',
      message: /10\.3\.0\.0\/24/,
    });
    await t.rejects(grant(one, 'h1', network, '10.3.0.5'), { code: 'ERR_ADDRESS_OUTSIDE_SUBNET' });
    await t.rejects(grant(one, 'h1', network, '10.2.0.1'), { code: 'ERR_ADDRESS_RESERVED' });
    await one.call('DELETE', '/v1/networks/errors');
  });

  await t.test(
    'a returned block is granted again with a larger generation, and a late return does not take it away',
    async (t) => {
      const network = await create({ name: 'returned', subnets: [{ subnet: '10.2.0.0/29' }] });
      const { block } = await grant(one, 'h1', network, '10.2.0.2');
      const release = { network: network.id, cidr: block.cidr, generation: block.generation };
      await one.call('POST', '/v1/hosts/h1/blocks/release', release);
      await one.call('POST', '/v1/hosts/h1/blocks/release', release);
      const again = await grant(two, 'h1', network, '10.2.0.2');
      t.equal(again.block.cidr, block.cidr);
      t.ok(again.block.generation > block.generation);
      await t.rejects(one.call('POST', '/v1/hosts/h1/blocks/release', release), { code: 'ERR_STALE_GENERATION' });
      await one.call('DELETE', '/v1/networks/returned');
    },
  );

  await t.test(
    "an address in another host's block moves when its owner agrees, through another controller",
    async (t) => {
      const network = await create({ name: 'carved', subnets: [{ subnet: '10.5.0.0/24' }] });
      const { block } = await grant(one, 'h1', network);
      const wanted = addressIn(block, 5);
      const stream = await openStream(t, two, 'h1', { instance: 'instance-1', interest: [network.id] });
      const asking = grant(one, 'h2', network, wanted);
      const line = await stream.line('the carve', (one) => one.type === 'put' && one.kind === 'carve');
      const carve = line.type === 'put' && line.kind === 'carve' ? line.value : undefined;
      t.match(carve, { network: network.id, cidr: block.cidr, address: wanted, owner: 'h1', requester: 'h2' });
      await two.call('POST', `/v1/hosts/h1/carves/${carve?.id ?? ''}`, { address: wanted });
      const granted = await asking;
      t.match(granted.block, { cidr: `${wanted}/32`, host: 'h2' });
      const told = await stream.line(
        'the owner hears of the carving',
        (one) => one.type === 'put' && one.kind === 'block' && one.value.carved.length > 0,
      );
      t.match(told, { value: { cidr: block.cidr, host: 'h1', carved: [wanted] } });
      await stream.line('the carve is over', (one) => one.type === 'gone' && one.kind === 'carve');
      t.match(await publish(one, 'h1', { endpoints: [newEndpoint(network.id, 'h1', { addresses: [wanted] })] }), {
        refused: [{ code: 'ERR_BLOCK_FENCED' }],
      });
      const endpoint = newEndpoint(network.id, 'h2', { addresses: [wanted] });
      t.same(await publish(one, 'h2', { endpoints: [endpoint] }), { refused: [] });
      await t.rejects(
        two.call('POST', `/v1/hosts/h1/carves/${carve?.id ?? ''}`, { address: wanted }),
        { code: 'ERR_NOT_FOUND' },
        'a late answer is told that nobody waits',
      );
      const other = addressIn(block, 6);
      const refused = grant(one, 'h2', network, other);
      const second = await stream.line(
        'the second carve',
        (one) => one.type === 'put' && one.kind === 'carve' && one.value.address === other,
      );
      const id = second.type === 'put' && second.kind === 'carve' ? second.value.id : '';
      await two.call('POST', `/v1/hosts/h1/carves/${id}`, { address: null, holder: 'endpoint db' });
      await t.rejects(refused, { code: 'ERR_ADDRESS_IN_USE', message: /10\.5\.0\.\d+.*endpoint db/ });
      const unanswered = grant(one, 'h2', network, other).catch((thrown: unknown) => thrown);
      t.ok(await isWithin(5000, unanswered), 'an owner that does not answer is not waited for for long');
      t.match(await unanswered, { code: 'ERR_ADDRESS_HELD_ELSEWHERE', message: /host h1/ }, 'and is named');
      await until(() => one.handle.context.mirror.tables.carve.size === 0, 30_000, 'no carve is left over');
      stream.close();
      await publish(one, 'h2', { endpointsGone: [{ network: network.id, id: endpoint.id, generation: 2 }] });
      await one.call('DELETE', '/v1/networks/carved');
    },
  );

  await t.test('an answer of a host that was removed meanwhile gives nothing away', async (t) => {
    await registerHost(one, 4);
    const network = await create({ name: 'forsaken', subnets: [{ subnet: '10.7.0.0/24' }] });
    const { block } = await grant(one, 'h4', network);
    const stream = await openStream(t, one, 'h4', { instance: 'instance-4', interest: [] });
    const wanted = addressIn(block, 5);
    const asked = grant(one, 'h2', network, wanted);
    const line = await stream.line('the carve', (each) => each.type === 'put' && each.kind === 'carve');
    const id = line.type === 'put' && line.kind === 'carve' ? line.value.id : '';
    stream.close();
    await one.call('DELETE', '/v1/hosts/h4?force=true');
    await registerHost(one, 4);
    await t.rejects(two.call('POST', `/v1/hosts/h4/carves/${id}`, { address: wanted }), { code: 'ERR_NOT_FOUND' });
    await t.rejects(asked, { code: 'ERR_ADDRESS_HELD_ELSEWHERE' });
    t.equal(
      (await grant(one, 'h2', network, wanted)).block.host,
      'h2',
      "it is nobody's, and given when asked for again",
    );
    await one.call('DELETE', '/v1/networks/forsaken');
    await one.call('DELETE', '/v1/hosts/h4?force=true');
  });

  await t.test("a host is told all of its records, and nobody else's", async (t) => {
    const network = await create({ name: 'told', subnets: [{ subnet: '10.8.0.0/24' }] });
    await create({ name: 'foreign', subnets: [{ subnet: '10.9.0.0/24' }] });
    const [mine, theirs] = [(await grant(one, 'h1', network)).block, (await grant(one, 'h2', network)).block];
    const web = newEndpoint(network.id, 'h1', { addresses: [addressIn(mine, 4)] });
    const carrier = newCarrier(network.id, 'h1', [addressIn(mine, 3)]);
    t.same(await publish(one, 'h1', { carriers: [carrier], endpoints: [web] }), { refused: [] });
    const other = newEndpoint(network.id, 'h2', { addresses: [addressIn(theirs, 4)] });
    t.same(await publish(one, 'h2', { endpoints: [other] }), { refused: [] });
    const records = await one.call<HostRecords>('GET', '/v1/hosts/h1/records');
    t.match(records, { host: { name: 'h1' }, endpoints: [web], carriers: [carrier], networks: [{ id: network.id }] });
    t.same([records.endpoints.length, records.carriers.length, records.networks.length], [1, 1, 1]);
    t.ok(records.blocks.some(({ cidr }) => cidr === mine.cidr));
    t.ok(records.blocks.every(({ host }) => host === 'h1'));
    await t.rejects(one.call('GET', '/v1/hosts/nobody/records'), { code: 'ERR_HOST_UNKNOWN' });
    const gone = (id: string): object => ({ endpointsGone: [{ network: network.id, id, generation: 9 }] });
    await publish(one, 'h1', { ...gone(web.id), carriersGone: [{ network: network.id, generation: 9 }] });
    await publish(one, 'h2', gone(other.id));
    for (const name of ['told', 'foreign']) await one.call('DELETE', `/v1/networks/${name}`);
  });

  await t.test("a publication takes what is the host's own and refuses the rest, record by record", async (t) => {
    const network = await create({ name: 'published', subnets: [{ subnet: '10.6.0.0/24' }] });
    const mine = (await grant(one, 'h1', network)).block;
    const theirs = (await grant(one, 'h2', network)).block;
    const web = newEndpoint(network.id, 'h1', { addresses: [addressIn(mine, 4)] });
    t.same(
      await publish(one, 'h1', { carriers: [newCarrier(network.id, 'h1', [addressIn(mine, 3)])], endpoints: [web] }),
      { refused: [] },
    );
    t.same(await publish(two, 'h1', { endpoints: [web] }), { refused: [] }, 'again: nothing changes');
    const cases: readonly (readonly [string, string, object])[] = [
      ["another host's name", 'ERR_FORBIDDEN', newEndpoint(network.id, 'h2', { addresses: [addressIn(mine, 6)] })],
      [
        "another host's block",
        'ERR_BLOCK_FENCED',
        newEndpoint(network.id, 'h1', { addresses: [addressIn(theirs, 5)] }),
      ],
      [
        'no subnet of the network',
        'ERR_ADDRESS_OUTSIDE_SUBNET',
        newEndpoint(network.id, 'h1', { addresses: ['10.7.0.5'] }),
      ],
      [
        'an address that an endpoint has',
        'ERR_ADDRESS_IN_USE',
        newEndpoint(network.id, 'h1', { addresses: [addressIn(mine, 4)] }),
      ],
      [
        'an address that the host has',
        'ERR_ADDRESS_IN_USE',
        newEndpoint(network.id, 'h1', { addresses: [addressIn(mine, 3)] }),
      ],
      [
        'a MAC that an endpoint has',
        'ERR_MAC_IN_USE',
        newEndpoint(network.id, 'h1', { addresses: [addressIn(mine, 6)], mac: web.mac }),
      ],
      ['an unknown network', 'ERR_NETWORK_UNKNOWN', newEndpoint('ffffffff', 'h1', { addresses: ['10.7.0.5'] })],
      ['an older generation', 'ERR_STALE_GENERATION', { ...web, generation: 0 }],
      ['another record of the same generation', 'ERR_STALE_GENERATION', { ...web, ifname: 'eth9' }],
    ];
    const result = await publish(one, 'h1', { endpoints: cases.map(([, , endpoint]) => endpoint) });
    t.same(
      result.refused.map(({ code }) => code),
      cases.map(([, code]) => code),
    );
    t.same(
      (await one.call<EndpointView[]>('GET', `/v1/endpoints?network=published`)).map(({ id }) => id),
      [web.id],
      'nothing refused got in',
    );
    const moved = { ...web, generation: 2, addresses: [addressIn(mine, 6)] };
    t.same(await publish(one, 'h1', { endpoints: [moved] }), { refused: [] });
    const next = newEndpoint(network.id, 'h1', { addresses: [addressIn(mine, 4)] });
    t.same(await publish(one, 'h1', { endpoints: [next] }), { refused: [] }, 'the address it left is free');
    t.match(await publish(one, 'h2', { endpointsGone: [{ network: network.id, id: web.id, generation: 9 }] }), {
      refused: [{ code: 'ERR_FORBIDDEN' }],
    });
    t.match(await publish(one, 'h1', { endpointsGone: [{ network: network.id, id: web.id, generation: 1 }] }), {
      refused: [{ code: 'ERR_STALE_GENERATION' }],
    });
    await until(
      async () => (await two.call<EndpointView[]>('GET', '/v1/endpoints?host=h1')).length === 2,
      30_000,
      'the other controller knows too',
    );
    const removal = await one.call('DELETE', '/v1/hosts/h1?force=true');
    t.same(removal, { name: 'h1', blocks: 1, endpoints: 2 });
    t.same(await one.call('GET', '/v1/endpoints?network=published'), []);
    const freed = await grant(one, 'h2', network, addressIn(mine, 4));
    t.equal(freed.block.cidr, `${addressIn(mine, 4)}/32`, 'its addresses are free again');
    await registerHost(one, 1);
    t.match(
      await publish(one, 'h1', { blocks: [mine], endpoints: [next] }),
      { refused: [{ code: 'ERR_BLOCK_FENCED' }, { code: 'ERR_BLOCK_FENCED' }] },
      'a host that comes back with its old block is fenced',
    );
    await one.call('DELETE', '/v1/networks/published');
  });

  await t.test('a hundred records go in one publication, more do not', async (t) => {
    const network = await create({ name: 'hundred', subnets: [{ subnet: '10.64.0.0/16' }] });
    const blocks = [(await grant(one, 'h3', network)).block, (await grant(one, 'h3', network)).block];
    const addresses = blocks.flatMap((block) =>
      Array.from({ length: 50 }, (_none, index) => addressIn(block, index + 3)),
    );
    const endpoints = addresses.map((address) => newEndpoint(network.id, 'h3', { addresses: [address] }));
    t.same(await publish(one, 'h3', { endpoints }), { refused: [] });
    t.equal((await one.call<EndpointView[]>('GET', '/v1/endpoints?network=hundred')).length, 100);
    const gone = endpoints.map(({ id }) => ({ network: network.id, id, generation: 2 }));
    await t.rejects(publish(one, 'h3', { endpoints: endpoints.slice(0, 1), endpointsGone: gone }), {
      code: 'ERR_TOO_LARGE',
    });
    t.same(await publish(one, 'h3', { endpointsGone: gone }), { refused: [] });
    await until(
      async () => (await one.call<EndpointView[]>('GET', '/v1/endpoints?network=hundred')).length === 0,
      30_000,
      'all gone',
    );
    await one.call('DELETE', '/v1/networks/hundred');
  });
});

void t.test('a store that lost its data is filled again by its hosts', async (t) => {
  const etcd = await newTestEtcd(t);
  const controller = await newController(t, etcd.endpoint);
  const network = await controller.call<NetworkView>('POST', '/v1/networks', {
    name: 'kept',
    subnets: [{ subnet: '10.1.0.0/24' }],
  });
  await registerHost(controller, 1);
  const { block } = await grant(controller, 'h1', network);
  const endpoint = newEndpoint(network.id, 'h1', { addresses: [addressIn(block, 4)] });
  await publish(controller, 'h1', { endpoints: [endpoint] });
  const stream = await openStream(t, controller, 'h1', { instance: 'instance-1', interest: [network.id] });
  const { epoch } = stream.hello();
  await etcd.kill();
  await etcd.wipe();
  await etcd.start();
  await stream.ended;
  t.match(stream.lines.at(-1), { type: 'bye' }, 'streams of the old store are ended');
  await until(
    () => controller.handle.context.mirror.isConnected && controller.handle.context.mirror.epoch !== epoch,
    30_000,
    'a new epoch',
  );
  t.same(await controller.call('GET', '/v1/networks'), []);
  await registerHost(controller, 1);
  await registerHost(controller, 2);
  t.same(
    await publish(controller, 'h1', { networks: [{ v: 1, ...network }], blocks: [block], endpoints: [endpoint] }),
    { refused: [] },
  );
  t.same(await controller.call('GET', '/v1/networks/kept'), network);
  t.match(await controller.call('GET', '/v1/endpoints'), [{ id: endpoint.id, addresses: endpoint.addresses }]);
  const second = await grant(controller, 'h2', network);
  t.not(second.block.cidr, block.cidr);
  t.ok(second.block.generation > block.generation);
  const claimed = await publish(controller, 'h2', { blocks: [{ ...block, host: 'h2' }] });
  t.match(claimed, { refused: [{ key: `block/${network.id}/${block.cidr}`, code: 'ERR_BLOCK_FENCED' }] });
  const foreign = { v: 1, ...network, id: '99999999', name: 'other', vni: 8_400_000 };
  t.match(await publish(controller, 'h2', { networks: [foreign] }), { refused: [{ code: 'ERR_SUBNET_OVERLAP' }] });
  const back = await openStream(t, controller, 'h1', {
    instance: 'instance-1',
    interest: [network.id],
    cursor: { epoch, revision: 5 },
  });
  t.equal(back.hello().resumed, false, 'a cursor of the old store means full sets');
});
