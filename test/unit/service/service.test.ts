import t from 'tap';
import type { ServiceCreate } from '../../../core/api/service.js';
import type { Block, Network, Service } from '../../../core/model.js';
import { nextAddress, serviceBlocks, serviceOwner, servicePlaces } from '../../../core/service/address.js';
import { backendState, isSelectedBy, mostExact, slotsOf, type BackendEndpoint } from '../../../core/service/backend.js';
import { serviceElements } from '../../../core/service/compile.js';
import { parseService } from '../../../core/service/parse.js';
import { serviceTable } from '../../../core/service/table.js';
import { newGrid } from '../../../core/grid.js';
import { Membership } from '../../../agent/services/membership.js';

const network = { id: '0123abcd', name: 'front', driver: 'overlay', internal: false } as const;
const request: ServiceCreate = { name: 'Web', network: 'front', ports: [{ port: 80 }], selector: { app: 'web' } };

function newEndpoint(number: number, more: Partial<BackendEndpoint> = {}): BackendEndpoint {
  return {
    id: number.toString(16).padStart(16, '0'),
    network: network.id,
    host: 'h1',
    addresses: [`10.1.0.${number}`, `fd00::${number}`],
    name: `web-${number}`,
    aliases: [],
    labels: { app: 'web' },
    callerId: `c${number}`,
    state: 'attached',
    ...more,
  };
}

function newService(more: Partial<Service> = {}, body: Partial<ServiceCreate> = {}): Service {
  return {
    v: 1,
    generation: 1,
    ...parseService({ ...request, ...body }, network),
    addresses: ['10.1.9.9', 'fd00::99'],
    draining: [],
    createdAt: '2026-01-01T00:00:00.000Z',
    ...more,
  };
}

t.test('what a service is asked for is checked, with the field named', async (t) => {
  const made = parseService(request, network);
  t.same(
    [made.name, made.mode, made.affinity, made.ports],
    ['web', 'vip', 'none', [{ port: 80, target: 80, protocol: 'tcp' }]],
  );
  const wrong: readonly (readonly [string, Partial<ServiceCreate>])[] = [
    ['ports', { ports: [] }],
    ['ports', { ports: [{ port: 80 }, { port: 80, target: 81 }] }],
    ['ports', { mode: 'dnsrr', ports: [{ port: 80, target: 8080 }] }],
    ['selector', { selector: {} }],
    ['backends', { backends: ['a'] }],
    ['affinity', { mode: 'dnsrr', affinity: 'client-ip' }],
    ['addresses', { mode: 'dnsrr', addresses: ['10.1.0.9'] }],
    ['publish', { publish: [{ hostPort: 8080, port: 81 }] }],
    ['publish', { publish: [{ hostPort: 8080 }, { hostPort: 8080 }] }],
    ['publish', { mode: 'dnsrr', publish: [{ hostPort: 80 }] }],
    ['health', { ports: [{ port: 53, protocol: 'udp' }], health: { type: 'tcp' } }],
    ['health', { health: { type: 'http', path: 'x y' } }],
    ['health', { health: { type: 'tcp', path: '/' } }],
  ];
  for (const [field, change] of wrong)
    t.throws(
      () => parseService({ ...request, ...change }, network),
      { code: 'ERR_INVALID_SERVICE', details: { field } },
      JSON.stringify(change),
    );
  const twoProtocols = [{ port: 80 }, { port: 80, protocol: 'udp' }] as const;
  t.same(
    parseService({ ...request, ports: twoProtocols, publish: [{ hostPort: 8080 }] }, network).publish,
    ['tcp', 'udp'].map((protocol) => ({ hostPort: 8080, port: 80, protocol })),
    'the one number that it has, for each of its protocols',
  );
  t.throws(() => parseService(request, { ...network, driver: 'macvlan' }), { code: 'ERR_DRIVER_UNSUPPORTED' });
  t.throws(() => parseService({ ...request, publish: [{ hostPort: 80 }] }, { ...network, internal: true }), {
    code: 'ERR_PORT_INTERNAL',
  });
  t.equal(parseService({ ...request, mode: 'dnsrr' }, { ...network, driver: 'macvlan' }).mode, 'dnsrr');
});

t.test('backends are those selected, attached, alive, passing and not draining', async (t) => {
  const service = newService();
  const one = newEndpoint(1);
  t.ok(isSelectedBy(service, one));
  t.notOk(isSelectedBy(service, { ...one, labels: {} }));
  t.notOk(isSelectedBy(service, { ...one, network: 'ffffffff' }));
  const byName = newService({}, { selector: {}, backends: ['none'] });
  for (const ref of ['web-1', 'WEB-1', one.id, 'c1', 'www', 'Www'])
    t.ok(isSelectedBy({ ...byName, backends: [ref] }, { ...one, aliases: ['www'] }), ref);
  const none = new Set<string>();
  t.equal(backendState(service, one, none), 'ready');
  t.equal(backendState(service, { ...one, state: 'detaching' }, none), 'down');
  t.equal(backendState(service, one, new Set(['h1'])), 'down');
  t.equal(backendState({ ...service, draining: [one.id] }, one, none), 'draining');
  const checked = { ...service, health: { type: 'tcp' } } as const;
  t.equal(backendState(checked, one, none), 'failing');
  t.equal(backendState(checked, { ...one, passing: ['web'] }, none), 'ready');
});

t.test('slots are even, and with affinity move only with the backend that goes', async (t) => {
  for (const count of [1, 2, 3, mostExact, mostExact + 1, 100]) {
    const backends = Array.from({ length: count }, (_, at) => newEndpoint(at + 1));
    const slots = slotsOf(newService(), backends);
    const shares = backends.map(({ id }) => slots.filter((slot) => slot.id === id).length);
    t.ok(Math.max(...shares) - Math.min(...shares) <= (count > mostExact ? 1 : 0), `${count} backends share evenly`);
  }
  const sticky = newService({ affinity: 'client-ip' });
  const backends = [1, 2, 3, 4].map((number) => newEndpoint(number));
  const before = slotsOf(sticky, backends);
  const after = slotsOf(sticky, backends.slice(1));
  const moved = before.filter((slot, at) => slot.id !== after[at]?.id);
  t.ok(
    moved.every(({ id }) => id === backends[0]?.id),
    'slots of others stay',
  );
  for (const { id } of backends) t.ok(before.filter((slot) => slot.id === id).length > 30, 'and each has a fair part');
  t.same(slotsOf(sticky, []), []);
});

t.test('a service is a few elements whose chains are there', async (t) => {
  const chains = new Set(serviceTable.chains.map(({ name }) => name));
  const sets = new Set(serviceTable.sets.map(({ name }) => name));
  for (const affinity of ['none', 'client-ip'] as const) {
    for (const count of [1, 5, 40]) {
      const ready = Array.from({ length: count }, (_, at) => newEndpoint(at + 1, { host: at % 2 === 0 ? 'h1' : 'h2' }));
      const publish = [{ hostPort: 8080, port: 80, protocol: 'tcp' }] as const;
      const elements = serviceElements(newService({ affinity, publish }), ready, 'h1');
      t.same(
        elements.filter(({ set }) => !sets.has(set)),
        [],
        'all of known sets',
      );
      const jumps = elements.flatMap(({ value }) => (value?.startsWith('jump ') === true ? [value.slice(5)] : []));
      t.ok(jumps.length > 0 && jumps.every((name) => chains.has(name)), 'to chains that are there');
      t.equal(new Set(elements.map(({ set, key }) => `${set} ${key}`)).size, elements.length, 'each once');
    }
  }
  const empty = serviceElements(newService(), [], 'h1').map(({ set }) => set);
  t.same(empty, ['vips4', 'home4', 'vips6', 'home6'], 'without backends only its addresses are known');
  t.same(serviceElements(newService({ mode: 'dnsrr' }), [newEndpoint(1)], 'h1'), []);
});

t.test('addresses come from blocks of services, each the next one', async (t) => {
  const subnets = [
    { subnet: '10.1.0.0/24', gateway: '10.1.0.1' },
    { subnet: 'fd00::/64', gateway: 'fd00::1' },
  ];
  const whole = { id: network.id, name: 'front', subnets } as unknown as Network;
  t.same(
    servicePlaces(whole, []).map(({ subnet }) => subnet),
    ['10.1.0.0/24', 'fd00::/64'],
  );
  t.same(
    servicePlaces(whole, ['10.1.0.9']).map(({ address }) => address),
    ['10.1.0.9', undefined],
  );
  t.throws(() => servicePlaces(whole, ['10.2.0.9']), { code: 'ERR_ADDRESS_OUTSIDE_SUBNET' });
  t.throws(() => servicePlaces(whole, ['10.1.0.9', '10.1.0.8']), { code: 'ERR_INVALID_SERVICE' });
  const grid = newGrid({ subnet: '10.1.0.0/24', gateway: '10.1.0.1' });
  const newBlock = (cidr: string, host: string): Block => ({
    v: 1,
    generation: 1,
    network: network.id,
    cidr,
    host,
    carved: ['10.1.0.9'],
  });
  const block = newBlock('10.1.0.8/29', serviceOwner);
  const blocks = [newBlock('10.1.0.0/29', 'h1'), block, newBlock('10.1.0.77/32', serviceOwner)];
  t.same(serviceBlocks(grid, blocks), [block], 'neither those of hosts nor single ones');
  const taken = new Set<string>(['10.1.0.10']);
  t.equal(
    nextAddress(grid, block, (one) => taken.has(one)),
    '10.1.0.8',
  );
  t.equal(
    nextAddress(grid, block, (one) => taken.has(one), '10.1.0.8'),
    '10.1.0.11',
    'carved and taken ones are passed',
  );
  t.equal(
    nextAddress(grid, block, (one) => taken.has(one), '10.1.0.15'),
    '10.1.0.8',
    'and round again',
  );
  t.equal(
    nextAddress(grid, block, () => true),
    null,
  );
});

t.test('a change of an endpoint touches the services that are for it, before or after', async (t) => {
  const membership = new Membership();
  const service = newService();
  const named = newService({}, { name: 'named', selector: {}, backends: ['Web-2'] });
  membership.putEndpoint(newEndpoint(1));
  const [web, other] = [membership.putService(service), membership.putService(named)];
  t.same(
    membership.membersOf(web).map(({ name }) => name),
    ['web-1'],
  );
  t.same([...membership.putEndpoint(newEndpoint(2))].sort(), [web, other].sort());
  t.same([...membership.putEndpoint(newEndpoint(2, { labels: {} }))].sort(), [web, other].sort(), 'also the one left');
  t.same(membership.membersOf(web).length, 1);
  t.same([...membership.putEndpoint(newEndpoint(3, { labels: {} }))], []);
  t.same([...membership.removeEndpoint(newEndpoint(1).id)], [web]);
  t.same(membership.drop(network.id).length, 2);
  t.same([...membership.ids()], []);
});
