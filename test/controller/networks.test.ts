import t from 'tap';
import { formatPrefix } from '../../core/addr.js';
import type { NetworkView } from '../../core/api/network.js';
import { readHostRoutes } from '../../controller/host-routes.js';
import { grant, newController, newEndpoint, newTestEtcd, publish, registerHost } from './running-controller.js';

t.setTimeout(120_000);

void t.test('networks', async (t) => {
  const etcd = await newTestEtcd(t);
  const controller = await newController(t, etcd.endpoint);
  const { call } = controller;
  const create = (body: object): Promise<NetworkView> => call('POST', '/v1/networks', body);

  await t.test('are made with defaults, listed by name, found by name and id, and removed', async (t) => {
    const made = await create({ name: 'frontend' });
    t.match(made, { name: 'frontend', driver: 'overlay', mtu: 1450, internal: false, labels: {}, generation: 1 });
    t.match(made.id, /^[0-9a-f]{8}$/);
    t.ok(made.vni !== null && made.vni >= 2 ** 23);
    t.equal(made.subnets.length, 1);
    t.match(made.subnets[0]?.subnet, /^10\.\d+\.\d+\.0\/20$/);
    t.same(await call('GET', '/v1/networks/frontend'), made);
    t.same(await call('GET', `/v1/networks/${made.id}`), made);
    t.same(
      (await call<NetworkView[]>('GET', '/v1/networks')).map(({ name }) => name),
      ['frontend'],
    );
    await call('DELETE', '/v1/networks/frontend');
    t.same(await call('GET', '/v1/networks'), []);
    await t.rejects(call('GET', '/v1/networks/frontend'), { code: 'ERR_NETWORK_UNKNOWN' });
    await t.rejects(call('DELETE', '/v1/networks/frontend'), { code: 'ERR_NETWORK_UNKNOWN' });
    const again = await create({ name: 'frontend' });
    t.not(again.id, made.id);
    await call('DELETE', '/v1/networks/frontend');
  });

  await t.test('are all made and removed when many are asked for at once', async (t) => {
    const names = Array.from({ length: 100 }, (_, number) => `n${number}`);
    const made = await Promise.all(names.map((name) => create({ name })));
    t.equal(new Set(made.flatMap(({ subnets }) => subnets.map(({ subnet }) => subnet))).size, names.length);
    // By halves: each call has a deadline, and a machine that is busy with other tests makes ten of these a second.
    for (const half of [names.slice(0, 50), names.slice(50)])
      await Promise.all(half.map((name) => call('DELETE', `/v1/networks/${name}`)));
    t.same(await call('GET', '/v1/networks'), []);
  });

  await t.test('have the families asked for', async (t) => {
    const both = await create({ name: 'both', ipv6: true });
    t.same(
      both.subnets.map(({ subnet }) => subnet.includes(':')),
      [false, true],
    );
    const six = await create({ name: 'six', subnets: [{ subnet: 'fd00:6::/64' }] });
    t.same(six.subnets, [{ subnet: 'fd00:6::/64', gateway: 'fd00:6::1' }]);
    await call('DELETE', '/v1/networks/both');
    await call('DELETE', '/v1/networks/six');
  });

  await t.test('change labels and gain subnets', async (t) => {
    await create({ name: 'changing', subnets: [{ subnet: '10.3.0.0/24' }], labels: { keep: '1', drop: '2' } });
    const changed = await call<NetworkView>('PATCH', '/v1/networks/changing', {
      labels: { drop: null, more: '3' },
      addSubnets: [{ subnet: 'fd00:3::/64' }],
    });
    t.same(changed.labels, { keep: '1', more: '3' });
    t.same(
      changed.subnets.map(({ subnet }) => subnet),
      ['10.3.0.0/24', 'fd00:3::/64'],
    );
    t.equal(changed.generation, 2);
    t.same(await call('GET', '/v1/networks/changing'), changed);
    await t.rejects(call('PATCH', '/v1/networks/changing', { addSubnets: [{ subnet: '10.3.0.128/25' }] }), {
      code: 'ERR_SUBNET_OVERLAP',
    });
    await t.rejects(call('PATCH', '/v1/networks/nothing', { labels: {} }), { code: 'ERR_NETWORK_UNKNOWN' });
    await call('DELETE', '/v1/networks/changing');
  });

  await t.test('are refused with an error that names field and value', async (t) => {
    const taken = await create({ name: 'taken', subnets: [{ subnet: '10.4.0.0/16' }] });
    const cases: readonly (readonly [object, string, RegExp])[] = [
      [{ name: 'taken' }, 'ERR_NETWORK_NAME_IN_USE', /taken/],
      [{ name: 'Taken' }, 'ERR_NETWORK_NAME_IN_USE', /Taken/],
      [{ name: '-x' }, 'ERR_INVALID_NAME', /-x/],
      [{}, 'ERR_INVALID_REQUEST', /name: is missing/],
      [{ name: 5 }, 'ERR_INVALID_REQUEST', /name: 5 must be string/],
      [{ name: 'x', colour: 'red' }, 'ERR_INVALID_REQUEST', /colour: there is no such field/],
      [
        { name: 'x', driver: 'routed' },
        'ERR_INVALID_REQUEST',
        /driver: "routed" must be one of overlay, bridge, macvlan/,
      ],
      [{ name: 'x', subnets: [{ subnet: 5000 }] }, 'ERR_INVALID_REQUEST', /subnets\[0\]\.subnet: 5000/],
      [{ name: 'x', subnets: [{ subnet: '10.5.0.0/33' }] }, 'ERR_INVALID_CIDR', /10\.5\.0\.0\/33/],
      [
        { name: 'x', subnets: [{ subnet: '10.4.8.0/24' }] },
        'ERR_SUBNET_OVERLAP',
        /10\.4\.8\.0\/24.*10\.4\.0\.0\/16.*taken/,
      ],
      [
        { name: 'x', subnets: [{ subnet: '10.5.0.0/24' }, { subnet: '10.5.0.0/25' }] },
        'ERR_SUBNET_OVERLAP',
        /10\.5\.0\.0\/25/,
      ],
      [{ name: 'x', subnets: [{ subnet: '10.5.0.0/32' }] }, 'ERR_SUBNET_TOO_SMALL', /10\.5\.0\.0\/32/],
      [
        { name: 'x', subnets: [{ subnet: '10.5.0.0/24', gateway: '10.6.0.1' }] },
        'ERR_GATEWAY_OUTSIDE_SUBNET',
        /10\.6\.0\.1/,
      ],
      [
        { name: 'x', subnets: [{ subnet: '10.5.0.0/24', range: '10.6.0.0/25' }] },
        'ERR_ADDRESS_OUTSIDE_SUBNET',
        /10\.6\.0\.0\/25/,
      ],
      [{ name: 'x', mtu: 100 }, 'ERR_INVALID_MTU', /100/],
      [{ name: 'x', mtu: 1279, ipv6: true }, 'ERR_INVALID_MTU', /1279/],
      [{ name: 'x', labels: { tier: 'half \ud83d' } }, 'ERR_INVALID_REQUEST', /tier/],
      [{ name: 'x', options: { parent: 'eth0' } }, 'ERR_INVALID_OPTION', /options\.parent/],
      [{ name: 'x', driver: 'macvlan' }, 'ERR_INVALID_OPTION', /options\.parent: driver macvlan needs it/],
      [
        { name: 'x', driver: 'macvlan', options: { parent: 'eth0', colour: 'red' } },
        'ERR_INVALID_OPTION',
        /options\.colour.*parent, mode, host-shim/,
      ],
      [
        { name: 'x', driver: 'macvlan', options: { parent: 'eth0', mode: 'passthru' } },
        'ERR_INVALID_OPTION',
        /options\.mode: "passthru"/,
      ],
      [{ name: 'x', driver: 'macvlan', options: { parent: 'a/b' } }, 'ERR_INVALID_IFNAME', /a\/b/],
    ];
    for (const [body, code, message] of cases) {
      const error = await create(body).then(
        () => ({ code: 'none', message: '', hint: '' }),
        (thrown: unknown) => thrown,
      );
      t.match(error, { code, message, hint: /./ }, JSON.stringify(body));
    }
    t.same(
      (await call<NetworkView[]>('GET', '/v1/networks')).map(({ id }) => id),
      [taken.id],
      'nothing half made remains',
    );
    await call('DELETE', '/v1/networks/taken');
  });

  await t.test("keep clear of this machine's own routes", async (t) => {
    const route = (await readHostRoutes()).find(({ length }) => length < 30);
    if (route === undefined) {
      t.pass('this machine has no route to keep clear of');
      return;
    }
    const subnet = formatPrefix(route);
    await t.rejects(create({ name: 'own', subnets: [{ subnet }] }), {
      code: 'ERR_SUBNET_OVERLAP',
      message: /own routes/,
    });
    const lan = await create({ name: 'lan', driver: 'macvlan', subnets: [{ subnet }], options: { parent: 'eth0' } });
    t.equal(lan.subnets[0]?.subnet, subnet, 'a macvlan network lies in the LAN');
    await call('DELETE', '/v1/networks/lan');
    const other = await newController(t, etcd.endpoint, { subnetPools: [`${subnet}:${route.length + 1}`] });
    await t.rejects(other.call('POST', '/v1/networks', { name: 'pooled' }), { code: 'ERR_SUBNET_POOL_EXHAUSTED' });
  });

  await t.test('take the MTU of the smallest underlay less the encapsulation', async (t) => {
    await controller.call('PUT', '/v1/hosts/small', {
      vtep: '198.18.0.9',
      underlayMtu: 1400,
      bootId: 'b',
      instance: 'i',
      version: '0.1.0',
    });
    t.equal((await create({ name: 'm4' })).mtu, 1350);
    t.equal((await create({ name: 'mb', driver: 'bridge' })).mtu, 1500);
    t.equal((await create({ name: 'mm', driver: 'macvlan', options: { parent: 'eth0' } })).mtu, 1500);
    await controller.call('PUT', '/v1/hosts/six', {
      vtep: 'fd00:99::1',
      underlayMtu: 9000,
      bootId: 'b',
      instance: 'j',
      version: '0.1.0',
    });
    t.equal((await create({ name: 'm6' })).mtu, 1330);
    t.equal((await create({ name: 'asked', mtu: 1300 })).mtu, 1300);
    const wide = await create({ name: 'wide', mtu: 8930 });
    t.equal(wide.mtu, 8930, 'what one host carries can be had');
    await t.rejects(create({ name: 'wider', mtu: 8931 }), { code: 'ERR_MTU_UNDERLAY', message: /8931.*8930/ });
    t.equal(
      (await create({ name: 'free', driver: 'bridge', mtu: 65_535 })).mtu,
      65_535,
      'where nothing is encapsulated',
    );
    for (const name of ['m4', 'mb', 'mm', 'm6', 'asked', 'wide', 'free']) await call('DELETE', `/v1/networks/${name}`);
    for (const name of ['small', 'six']) await call('DELETE', `/v1/hosts/${name}?force=true`);
  });

  await t.test('with endpoints are not removed, and the endpoints are named', async (t) => {
    const network = await create({ name: 'busy' });
    await registerHost(controller, 1);
    const { block } = await grant(controller, 'h1', network);
    const address = block.cidr.replace(/(\d+)\/\d+$/, (_all, last: string) => String(Number(last) + 5));
    const endpoint = newEndpoint(network.id, 'h1', { addresses: [address], name: 'web' });
    t.same(await publish(controller, 'h1', { endpoints: [endpoint] }), { refused: [] });
    await t.rejects(call('DELETE', '/v1/networks/busy'), { code: 'ERR_NETWORK_IN_USE', message: /web on h1/ });
    t.same(
      await publish(controller, 'h1', { endpointsGone: [{ network: network.id, id: endpoint.id, generation: 2 }] }),
      { refused: [] },
    );
    await call('DELETE', '/v1/networks/busy');
    const left = await controller.handle.context.client.list('/tsnet/v1/');
    const stale = left.kvs
      .map(({ key }) => key)
      .filter((key) => key.includes(network.id) && !key.includes('/removed/'));
    t.same(stale, [], 'no key of it is left');
    t.same(
      await publish(controller, 'h1', { networks: [{ v: 1, ...network }] }),
      {
        refused: [
          {
            key: `network/${network.id}/${network.id}`,
            code: 'ERR_NETWORK_UNKNOWN',
            message: 'network: "busy" does not exist',
          },
        ],
      },
      'and no journal brings it back',
    );
    await call('DELETE', '/v1/hosts/h1?force=true');
  });
});

void t.test('two controllers that create at the same time', async (t) => {
  const etcd = await newTestEtcd(t);
  const [one, two] = await Promise.all([newController(t, etcd.endpoint), newController(t, etcd.endpoint)]);
  const both = [one, two];

  await t.test('give one name to one network', async (t) => {
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, (_none, index) =>
        both[index % 2]?.call<NetworkView>('POST', '/v1/networks', { name: 'same' }),
      ),
    );
    t.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
    for (const result of results)
      if (result.status === 'rejected') t.match(result.reason, { code: 'ERR_NETWORK_NAME_IN_USE' });
  });

  await t.test('never give out one VNI or overlapping subnets twice', async (t) => {
    const made = await Promise.all(
      Array.from({ length: 16 }, (_none, index) =>
        both[index % 2]?.call<NetworkView>('POST', '/v1/networks', { name: `n${index}` }),
      ),
    );
    t.equal(new Set(made.map((network) => network?.vni)).size, 16);
    t.equal(new Set(made.map((network) => network?.subnets[0]?.subnet)).size, 16);
  });

  await t.test('refuse all but one of those who ask for one subnet', async (t) => {
    const results = await Promise.allSettled(
      Array.from({ length: 6 }, (_none, index) =>
        both[index % 2]?.call('POST', '/v1/networks', { name: `s${index}`, subnets: [{ subnet: '10.9.0.0/24' }] }),
      ),
    );
    t.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
    for (const result of results)
      if (result.status === 'rejected') t.match(result.reason, { code: 'ERR_SUBNET_OVERLAP' });
  });

  await t.test("see each other's networks", async (t) => {
    await one.call('POST', '/v1/networks', { name: 'shared' });
    t.match(await two.call('GET', '/v1/networks/shared'), { name: 'shared' });
  });
});
