import Fastify from 'fastify';
import t from 'tap';
import type { Endpoint, Host, Network } from '../../../core/model.js';
import * as attachSchemas from '../../../core/schema/attach.js';
import * as dnsSchemas from '../../../core/schema/dns.js';
import * as endpointSchemas from '../../../core/schema/endpoint.js';
import * as errorSchemas from '../../../core/schema/error.js';
import * as hostSchemas from '../../../core/schema/host.js';
import * as networkSchemas from '../../../core/schema/network.js';
import * as policySchemas from '../../../core/schema/policy.js';
import * as policyRecordSchemas from '../../../core/schema/policy-record.js';
import * as portSchemas from '../../../core/schema/port.js';
import * as publicationSchemas from '../../../core/schema/publication.js';
import * as recordSchemas from '../../../core/schema/record.js';
import * as serviceSchemas from '../../../core/schema/service.js';
import * as serviceRecordSchemas from '../../../core/schema/service-record.js';
import * as statusSchemas from '../../../core/schema/status.js';
import * as watchSchemas from '../../../core/schema/watch.js';
import { endpointView, hostView, networkView } from '../../../core/view.js';

const network: Network = {
  v: 1,
  generation: 3,
  id: '0123abcd',
  name: 'frontend',
  driver: 'overlay',
  subnets: [{ subnet: '10.1.0.0/24', gateway: '10.1.0.1' }],
  vni: 2 ** 23,
  mtu: 1450,
  internal: false,
  labels: { tier: 'front' },
  options: {},
  createdAt: '2026-01-01T00:00:00.000Z',
};

const endpoint: Endpoint = {
  v: 1,
  generation: 2,
  id: '0123456789abcdef',
  network: '0123abcd',
  host: 'node-1',
  addresses: ['10.1.0.5', 'fd00::5'],
  mac: '02:00:0a:01:00:05',
  ifname: 'eth0',
  name: null,
  aliases: ['www'],
  labels: {},
  state: 'attached',
  callerId: 'web-1',
  sandbox: 'pid:42',
  createdAt: '2026-01-01T00:00:00.000Z',
};

const host: Host = {
  v: 1,
  generation: 1,
  name: 'node-1',
  vtep: '198.18.0.1',
  underlayMtu: 1500,
  bootId: '5bc1c5a2-9a4c-4a53-a0b5-6b0e2f4d8f10',
  instance: '0123456789abcdef',
  version: '0.1.0',
  leaseId: '7587869134522368001',
  lastSeen: '2026-01-01T00:00:00.000Z',
};

const schemas = new Map(
  Object.entries({
    ...attachSchemas,
    ...dnsSchemas,
    ...endpointSchemas,
    ...errorSchemas,
    ...hostSchemas,
    ...networkSchemas,
    ...policySchemas,
    ...portSchemas,
    ...publicationSchemas,
    ...serviceSchemas,
    ...statusSchemas,
    ...watchSchemas,
    ...policyRecordSchemas,
    ...recordSchemas,
    ...serviceRecordSchemas,
  }),
);

/** A server with one route a schema, which sends back what it takes. */
const server = Fastify({
  ajv: { customOptions: { removeAdditional: false, coerceTypes: false, strict: true } },
});
for (const [name, schema] of schemas) {
  server.post(`/${name}`, { schema: { body: schema, response: { 200: schema } } }, (request) =>
    Promise.resolve(request.body),
  );
}

const send = async (name: string, payload: object): Promise<{ status: number; body: unknown }> => {
  const answer = await server.inject({ method: 'POST', url: `/${name}`, payload });
  return { status: answer.statusCode, body: answer.json() };
};

const samples: readonly (readonly [string, object])[] = [
  ['networkSchema', network],
  ['endpointSchema', endpoint],
  ['hostSchema', host],
  ['networkViewSchema', networkView(network, () => undefined)],
  ['endpointViewSchema', endpointView(endpoint, 'frontend')],
  ['hostViewSchema', hostView(host, 'unknown')],
  ['subnetSchema', { subnet: '10.1.0.0/24', gateway: null }],
  ['networkCreateSchema', { name: 'frontend', subnets: [{ subnet: '10.1.0.0/24', range: '10.1.0.0/25' }], ipv6: true }],
  ['networkUpdateSchema', { labels: { a: null, b: 'c' } }],
  ['networkUpdateSchema', { labels: { a: '\ud83d\ude00\n' } }],
  ['blockRequestSchema', { network: '0123abcd', subnet: '10.1.0.0/24', ahead: true }],
  ['publicationSchema', { endpoints: [endpoint], carriersGone: [{ network: '0123abcd', generation: 1 }] }],
  ['attachRequestSchema', { network: 'frontend', target: 'pid:42', addresses: ['10.1.0.5'] }],
  ['watchLineSchema', { type: 'put', revision: 7, kind: 'endpoint', value: endpoint }],
  ['watchLineSchema', { type: 'beat', revision: 7 }],
  ['entrySchema', { kind: 'network', value: network }],
  ['errorBodySchema', { code: 'ERR_USAGE', message: 'm', hint: 'h', details: { field: 'x', list: ['a'], count: 1 } }],
];

t.test('every schema is one that the server can check and write with', async (t) => {
  await server.ready();
  t.ok(schemas.size > 30, `${schemas.size} schemas`);
});

t.test('records, requests and views pass and come out unchanged', async (t) => {
  for (const [name, payload] of samples) t.same(await send(name, payload), { status: 200, body: payload }, name);
});

t.test('an unknown property is refused everywhere', async (t) => {
  for (const [name, payload] of samples) t.equal((await send(name, { ...payload, bogus: 1 })).status, 400, name);
});

t.test('wrong types, lengths and numbers are refused', async (t) => {
  const wrong: readonly (readonly [string, object])[] = [
    ['networkCreateSchema', {}],
    ['networkCreateSchema', { name: 5 }],
    ['networkCreateSchema', { name: 'x'.repeat(1000) }],
    ['networkCreateSchema', { name: 'a', driver: 'weave' }],
    ['networkCreateSchema', { name: 'a', mtu: '1450' }],
    ['networkCreateSchema', { name: 'a', subnets: Array.from({ length: 100 }, () => ({ subnet: '10.1.0.0/24' })) }],
    ['networkCreateSchema', { name: 'a', labels: { x: 1 } }],
    ['networkCreateSchema', { name: 'a', labels: { x: '\ud83d' } }],
    ['endpointSchema', { ...endpoint, labels: { x: '\ude00\ud83d' } }],
    ['networkSchema', { ...network, id: '0123ABCD' }],
    ['networkSchema', { ...network, v: 2 }],
    ['endpointSchema', { ...endpoint, generation: -1 }],
    ['endpointSchema', { ...endpoint, state: 'gone' }],
    ['publicationSchema', { endpoints: Array.from({ length: 101 }, () => endpoint) }],
    ['watchLineSchema', { type: 'put', revision: 7, kind: 'network', value: endpoint }],
    ['reserveRequestSchema', { network: 'frontend' }],
    ['errorBodySchema', { code: 'ERR_NO_SUCH', message: 'm', hint: 'h', details: {} }],
  ];
  for (const [name, payload] of wrong)
    t.equal((await send(name, payload)).status, 400, JSON.stringify(payload).slice(0, 60));
});

t.test('views begin with the keys that users rely on, in that order', (t) => {
  t.same(Object.keys(networkView(network, () => undefined)).slice(0, 8), [
    'id',
    'name',
    'driver',
    'subnets',
    'vni',
    'mtu',
    'internal',
    'labels',
  ]);
  const keys = ['id', 'name', 'aliases', 'network', 'host', 'addresses', 'mac', 'ifname', 'sandbox', 'generation'];
  t.same(Object.keys(endpointView(endpoint, 'frontend')).slice(0, 10), keys);
  t.same(Object.keys(hostView(host, 'up')).slice(0, 4), ['name', 'vtep', 'state', 'lastSeen']);
  t.equal(endpointView(endpoint, 'frontend').network, 'frontend');
  t.end();
});
