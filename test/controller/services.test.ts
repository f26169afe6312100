import t from 'tap';
import type { NetworkView } from '../../core/api/network.js';
import type { ServiceView } from '../../core/api/service.js';
import { settingsOf } from '../../controller/context.js';
import { ensureSettings } from '../../controller/store/settings.js';
import type { Block, Service } from '../../core/model.js';
import { transact } from '../../lib/etcd/txn.js';
import {
  grant,
  newController,
  newEndpoint,
  newTestEtcd,
  publish,
  registerHost,
  type RunningController,
} from './running-controller.js';

t.setTimeout(120_000);

const body = { network: 'front', ports: [{ port: 80 }], selector: { app: 'web' } };

void t.test('services', async (t) => {
  const etcd = await newTestEtcd(t);
  const [one, two] = await Promise.all([1, 2].map(() => newController(t, etcd.endpoint, { livenessMs: 60_000 })));
  if (one === undefined || two === undefined) throw new Error('two controllers');
  const both: readonly RunningController[] = [one, two];
  for (const index of [1, 2]) await registerHost(one, index);
  const subnets = [{ subnet: '10.1.0.0/24' }, { subnet: 'fd00:1::/64' }];
  const network = await one.call<NetworkView>('POST', '/v1/networks', { name: 'front', subnets });
  const create = (name: string, more: object = {}, at = one): Promise<ServiceView> =>
    at.call('POST', '/v1/services', { ...body, name, ...more });
  const inBlock = (address: string, { cidr }: Block): boolean => {
    const [base = '', length = '32'] = cidr.split('/');
    const number = (text: string): number => text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
    return (
      !address.includes(':') &&
      number(address) - number(base) >= 0 &&
      number(address) - number(base) < 2 ** (32 - Number(length))
    );
  };

  await t.test('under contention no address is given twice, nor one of a host', async (t) => {
    // A network of its own: what hosts hold of it afterwards is nobody's to ask for.
    const place = [{ subnet: '10.3.0.0/24' }, { subnet: 'fd00:3::/64' }];
    const crowded = await one.call<NetworkView>('POST', '/v1/networks', { name: 'crowded', subnets: place });
    const fields = { network: 'crowded' };
    const made = Promise.all(Array.from({ length: 24 }, (_, at) => create(`many-${at}`, fields, both[at % 2])));
    const blocks = await Promise.all(Array.from({ length: 8 }, (_, at) => grant(one, `h${(at % 2) + 1}`, crowded)));
    const addresses = (await made).flatMap((service) => service.addresses);
    t.equal(new Set(addresses).size, 48, 'an address of each family for each');
    for (const { block } of blocks)
      t.notOk(
        addresses.some((address) => inBlock(address, block)),
        block.cidr,
      );
    await t.rejects(one.call('DELETE', '/v1/networks/crowded'), { code: 'ERR_NETWORK_IN_USE', message: /many-/ });
    for (let at = 0; at < 24; at++) await one.call('DELETE', `/v1/services/many-${at}`);
  });

  await t.test('a port that the cluster itself needs is not published', async (t) => {
    const { client, mirror } = one.handle.context;
    const guarded = [{ address: '198.18.0.2', port: 7420 }];
    await transact(client, (txn) => ensureSettings(txn, { ...settingsOf(one.handle.context), guarded }), {
      what: 'test',
    });
    await mirror.until(() => (settingsOf(one.handle.context).guarded ?? []).length > 0, 10_000);
    const refused = (hostPort: number, protocol: string, holder: RegExp): Promise<unknown> =>
      t.rejects(create('taker', { ports: [{ port: 80, protocol }], publish: [{ hostPort, port: 80 }] }), {
        code: 'ERR_PORT_IN_USE',
        message: holder,
      });
    await refused(7420, 'tcp', /7420\/tcp is held by a controller/);
    await refused(4789, 'udp', /4789\/udp is held by VXLAN/);
  });

  await t.test('a port of hosts goes to one of the services that publish it at the same instant', async (t) => {
    const names = ['left', 'right'];
    for (const name of names) await one.call('POST', '/v1/networks', { name });
    await create('later', { network: 'left' });
    for (let round = 0; round < 6; round++) {
      const publish = [{ hostPort: 9000 + round, port: 80 }];
      const asked = [
        ...names.flatMap((name) => both.map((at, number) => create(`p-${number}`, { network: name, publish }, at))),
        two.call<ServiceView>('PATCH', '/v1/services/later.left', { publish }),
      ];
      const outcomes = await Promise.allSettled(asked);
      const made = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
      t.same(made.length, 1, `round ${round}: ${made.map(({ name, network }) => `${name}.${network}`).join()}`);
      for (const outcome of outcomes)
        if (outcome.status === 'rejected') t.match(outcome.reason, { code: /ERR_PORT_IN_USE|ERR_SERVICE_EXISTS/ });
      for (const { name, network: of } of made)
        if (name !== 'later') await one.call('DELETE', `/v1/services/${name}.${of}`);
    }
    await one.call('DELETE', '/v1/services/later.left');
    for (const name of names) await one.call('DELETE', `/v1/networks/${name}`);
  });

  await t.test('a fixed address is that one, once, and is given back', async (t) => {
    const { addresses } = await create('fixed', { addresses: ['10.1.0.200'] });
    t.equal(addresses[0], '10.1.0.200');
    t.equal(addresses.length, 2, 'the other family is chosen');
    const held = { code: 'ERR_ADDRESS_IN_USE', message: /10\.1\.0\.200 of network "front" is held by service fixed/ };
    await t.rejects(create('other', { addresses: ['10.1.0.200'] }), held);
    await t.rejects(grant(one, 'h1', network, '10.1.0.200'), {
      code: 'ERR_ADDRESS_IN_USE',
      message: /held by a service$/,
    });
    await t.rejects(create('other', { addresses: ['10.2.0.1'] }), { code: 'ERR_ADDRESS_OUTSIDE_SUBNET' });
    await t.rejects(create('other', { addresses: ['10.1.0.1'] }), { code: 'ERR_ADDRESS_RESERVED' });
    await one.call('DELETE', '/v1/services/fixed');
    t.equal((await grant(one, 'h1', network, '10.1.0.200')).block.cidr, '10.1.0.200/32');
  });

  await t.test('a host gets an address out of a block of services, but none that is in use', async (t) => {
    const { addresses } = await create('web');
    const [used = ''] = addresses;
    await t.rejects(grant(one, 'h1', network, used), { code: 'ERR_ADDRESS_IN_USE', message: /held by service web$/ });
    const beside = used.replace(/\d+$/, (last) => String(Number(last) ^ 1));
    const { block } = await grant(two, 'h1', network, beside);
    t.equal(block.cidr, `${beside}/32`);
    for (let at = 0; at < 10; at++)
      t.notOk((await create(`next-${at}`)).addresses.includes(beside), 'which no service gets from then on');
    for (let at = 0; at < 10; at++) await one.call('DELETE', `/v1/services/next-${at}`);
    await one.call('DELETE', '/v1/services/web');
  });

  await t.test('names, ports and backends are checked', async (t) => {
    await create('web', { publish: [{ hostPort: 8080 }] });
    await t.rejects(create('web'), { code: 'ERR_SERVICE_EXISTS' });
    await t.rejects(create('shop', { publish: [{ hostPort: 8080 }] }), { code: 'ERR_PORT_IN_USE', message: /"web"/ });
    await t.rejects(create('shop', { network: 'nowhere' }), { code: 'ERR_NETWORK_UNKNOWN' });
    await t.rejects(one.call('GET', '/v1/services/shop'), { code: 'ERR_SERVICE_UNKNOWN' });
    await one.call('POST', '/v1/networks', { name: 'back' });
    await create('web', { network: 'back' });
    await t.rejects(one.call('GET', '/v1/services/web'), { code: 'ERR_SERVICE_UNKNOWN', message: /2 networks/ });
    t.equal((await one.call<ServiceView>('GET', '/v1/services/web.back')).network, 'back');
    t.equal((await one.call<ServiceView>('GET', '/v1/services/WEB.Back')).network, 'back', 'in any case');
    t.equal((await one.call<ServiceView[]>('GET', '/v1/services?network=back')).length, 1);
    const { block } = await grant(one, 'h1', network);
    const address = block.cidr.replace(/(\d+)\/.*$/, (_whole, last: string) => String(Number(last) + 2));
    const fields = { addresses: [address], name: 'web-1', labels: { app: 'web' }, state: 'attached' } as const;
    const endpoint = newEndpoint(network.id, 'h1', fields);
    t.same(await publish(one, 'h1', { endpoints: [endpoint] }), { refused: [] });
    const drained = await one.call<ServiceView>('PATCH', '/v1/services/web.front', { drain: ['Web-1'] });
    t.same(
      drained.endpoints.map(({ name, state }) => [name, state]),
      [['web-1', 'draining']],
    );
    const back = await one.call<ServiceView>('PATCH', '/v1/services/web.front', { undrain: [endpoint.id] });
    t.not(back.endpoints[0]?.state, 'draining');
    await t.rejects(one.call('PATCH', '/v1/services/web.front', { drain: ['nobody'] }), {
      code: 'ERR_ENDPOINT_UNKNOWN',
    });
  });

  await t.test('a service is changed in place, in the generation that was meant', async (t) => {
    const { addresses, generation, createdAt } = await create('changed', { publish: [{ hostPort: 8082 }] });
    const set = (change: object, at = one): Promise<ServiceView> => at.call('PATCH', '/v1/services/changed', change);
    const changed = await set({ ports: [{ port: 80, target: 81 }], backends: ['web-1'], generation });
    t.match(changed, {
      addresses,
      createdAt,
      generation: generation + 1,
      ports: [{ target: 81 }],
      backends: ['web-1'],
    });
    t.notOk('selector' in changed);
    t.same(changed.publish, [{ hostPort: 8082, port: 80, protocol: 'tcp' }], 'what is not given stays');
    const wrong: readonly (readonly [string, object])[] = [
      ['ERR_STALE_GENERATION', { affinity: 'client-ip', generation }],
      ['ERR_INVALID_SERVICE', { ports: [{ port: 81 }] }],
      ['ERR_INVALID_SERVICE', { ports: [] }],
      ['ERR_INVALID_SERVICE', { backends: [] }],
      ['ERR_INVALID_SERVICE', { selector: { a: 'b' }, backends: ['a'] }],
      ['ERR_INVALID_SERVICE', { health: { type: 'tcp', path: '/' } }],
      ['ERR_PORT_IN_USE', { publish: [{ hostPort: 8080 }] }],
      ['ERR_INVALID_REQUEST', { addresses: ['10.1.0.9'] }],
      ['ERR_INVALID_REQUEST', { mode: 'dnsrr' }],
      ['ERR_INVALID_REQUEST', { ports: [{ port: 0 }] }],
      ['ERR_INVALID_REQUEST', { drainMs: -1 }],
    ];
    for (const [code, change] of wrong) await t.rejects(set(change), { code }, JSON.stringify(change));
    t.equal((await one.call<ServiceView>('GET', '/v1/services/changed')).generation, generation + 1, 'as it was');
    const both = [set({ affinity: 'client-ip' }), set({ drainMs: 1000 }, two)];
    await Promise.all(both);
    t.match(await set({ health: { type: 'tcp' }, publish: [] }), { affinity: 'client-ip', drainMs: 1000 });
    const { health, publish } = await set({ health: null });
    t.same([health, publish], [undefined, undefined]);
    await one.call('DELETE', '/v1/services/changed');
  });

  await t.test('a service that the store lost is taken back from hosts, once and as it was', async (t) => {
    const { addresses, generation, createdAt } = await create('lost', { publish: [{ hostPort: 8081 }] });
    const lost: Service = {
      v: 1,
      generation: generation + 3,
      createdAt,
      name: 'lost',
      network: network.id,
      mode: 'vip',
      addresses,
      ports: [{ port: 80, target: 8080, protocol: 'tcp' }],
      selector: { app: 'web' },
      affinity: 'client-ip',
      publish: [{ hostPort: 8081, port: 80, protocol: 'tcp' }],
      drainMs: 5000,
      draining: ['0123456789abcdef'],
    };
    t.same(await publish(one, 'h1', { services: [lost] }), { refused: [] });
    t.equal((await one.call<ServiceView>('GET', '/v1/services/lost')).affinity, 'none', 'what is there stays');
    await one.call('DELETE', '/v1/services/lost');
    const refusal = async (change: Partial<Service>, at = one): Promise<string | undefined> =>
      (await publish(at, 'h1', { services: [{ ...lost, ...change }] })).refused[0]?.code;
    t.equal(await refusal({ network: 'ffffffff' }), 'ERR_NETWORK_UNKNOWN');
    t.equal(await refusal({ ports: [] }), 'ERR_INVALID_SERVICE');
    t.equal(await refusal({ addresses: ['10.9.0.1'] }), 'ERR_ADDRESS_OUTSIDE_SUBNET');
    t.equal(await refusal({ publish: [{ hostPort: 8080, port: 80, protocol: 'tcp' }] }), 'ERR_PORT_IN_USE');
    const { block } = await grant(two, 'h2', network);
    // Not its first: a network's very first address is nobody's.
    const theirs = block.cidr.replace(/(\d+)\/.*$/, (_whole, last: string) => String(Number(last) + 2));
    t.equal(
      await refusal({ addresses: [theirs] }),
      'ERR_ADDRESS_HELD_ELSEWHERE',
      'a host that does not answer keeps it',
    );
    t.same(await publish(one, 'h1', { services: [lost] }), { refused: [] });
    t.same(await publish(two, 'h2', { services: [lost] }), { refused: [] }, 'another host says the same');
    const back = await one.call<ServiceView>('GET', '/v1/services/lost');
    t.match(back, {
      network: 'front',
      selector: body.selector,
      addresses,
      ports: lost.ports,
      affinity: 'client-ip',
      publish: lost.publish,
      drainMs: 5000,
    });
    t.same([back.createdAt, back.generation], [createdAt, lost.generation], 'with its age and generation');
    await t.rejects(create('other', { addresses: [addresses[0] ?? ''] }), { code: 'ERR_ADDRESS_IN_USE' });
    await one.call('DELETE', '/v1/services/lost');
    const strict = await newController(t, etcd.endpoint, { livenessMs: 60_000, hostsManageNetworks: false });
    t.equal(await refusal({}, strict), 'ERR_FORBIDDEN', 'hosts that may not manage networks bring none back');
  });
});
