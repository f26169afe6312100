import t from 'tap';
import { addressOfReverse, endpointNames, reverseOf, servicePorts } from '../../core/dns/names.js';
import type { ZoneEndpoint } from '../../core/dns/zone-endpoint.js';
import { Zone } from '../../core/dns/zone.js';

const domain = 'tsnet.internal';

function endpoint(part: Partial<ZoneEndpoint> & { readonly id: string }): ZoneEndpoint {
  return {
    network: 'aaaaaaaa',
    host: 'h1',
    addresses: ['10.1.0.2'],
    name: null,
    aliases: [],
    labels: {},
    state: 'attached',
    callerId: `caller_${part.id}`,
    generation: 1,
    ...part,
  };
}

function newZone(): Zone {
  const zone = new Zone({ domain, ttl: 2 });
  zone.putNetwork({ id: 'aaaaaaaa', name: 'Frontend', subnets: ['10.1.0.0/24', 'fd01::/64'] });
  zone.putNetwork({ id: 'bbbbbbbb', name: 'app', subnets: ['10.2.0.0/24'] });
  return zone;
}

const front = ['aaaaaaaa'];
const both = ['aaaaaaaa', 'bbbbbbbb'];

function addresses(zone: Zone, name: string, type = 'A', scope: readonly string[] = front): string[] | string {
  const answer = zone.resolve(name, type, scope);
  if (answer === null) return 'forward';
  if (!answer.exists) return 'nxdomain';
  return answer.answers.flatMap((record) => ('address' in record ? record.address : [])).sort();
}

t.test('a name is found bare, below its network, and below the zone, in its networks only', async (t) => {
  const zone = newZone();
  zone.putEndpoint(endpoint({ id: '1'.repeat(16), name: 'web', aliases: ['www'], addresses: ['10.1.0.2', 'fd01::2'] }));
  for (const name of ['web', 'www', 'web.frontend', `web.frontend.${domain}`, `web.${domain}`, '1'.repeat(16)]) {
    t.same(addresses(zone, name), ['10.1.0.2'], name);
    t.same(addresses(zone, name, 'AAAA'), ['fd01::2'], name);
    t.not(addresses(zone, name, 'A', ['bbbbbbbb']).toString(), '10.1.0.2', `${name} from elsewhere`);
  }
  t.equal(addresses(zone, `web.frontend.${domain}`, 'A', ['bbbbbbbb']), 'nxdomain');
  t.equal(
    addresses(zone, 'gone.frontend'),
    'nxdomain',
    'a name below one of the networks is never asked for elsewhere',
  );
  t.equal(addresses(zone, 'gone'), 'nxdomain');
  t.equal(addresses(zone, 'example.com'), 'forward');
  t.same(addresses(zone, `frontend.${domain}`), [], 'the network itself exists');
  t.same(addresses(zone, domain), []);
  t.equal(zone.resolve(domain, 'SOA', front)?.answers[0]?.type, 'SOA');
});

t.test('several endpoints of one name take turns at being first', async (t) => {
  const zone = newZone();
  for (const number of [2, 3, 4])
    zone.putEndpoint(endpoint({ id: String(number).repeat(16), name: 'web', addresses: [`10.1.0.${number}`] }));
  const firsts = new Set<string>();
  for (let round = 0; round < 3; round++) {
    const answer = zone.resolve('web', 'A', front);
    t.equal(answer?.answers.length, 3);
    const [first] = answer?.answers ?? [];
    if (first !== undefined && 'address' in first) firsts.add(first.address);
  }
  t.equal(firsts.size, 3);
});

t.test('names go with their endpoint, with its host, and come back', async (t) => {
  const zone = newZone();
  zone.putEndpoint(endpoint({ id: '1'.repeat(16), name: 'web', addresses: ['10.1.0.2'] }));
  zone.putEndpoint(endpoint({ id: '2'.repeat(16), name: 'web', addresses: ['10.1.0.3'], host: 'h2' }));
  zone.setDown(new Set(['h2']));
  t.same(addresses(zone, 'web'), ['10.1.0.2']);
  t.equal(zone.resolve('3.0.1.10.in-addr.arpa', 'PTR', front)?.exists, false);
  zone.dropEndpoint('1'.repeat(16));
  t.equal(addresses(zone, 'web'), 'nxdomain');
  t.equal(zone.resolve('web', 'A', front)?.reason, 'every endpoint of this name is on a host that is down');
  zone.setDown(new Set());
  t.same(addresses(zone, 'web'), ['10.1.0.3']);
  zone.putEndpoint(endpoint({ id: '2'.repeat(16), name: 'shop', addresses: ['10.1.0.3'], host: 'h2' }));
  t.equal(addresses(zone, 'web'), 'nxdomain', 'renamed');
  t.same(addresses(zone, 'shop'), ['10.1.0.3']);
  zone.putEndpoint(endpoint({ id: '2'.repeat(16), name: 'shop', addresses: ['10.1.0.3'], state: 'reserved' }));
  t.equal(addresses(zone, 'shop'), 'nxdomain', 'a reserved endpoint answers nothing');
});

t.test('a name between dots exists without records', async (t) => {
  const zone = newZone();
  zone.putEndpoint(endpoint({ id: '1'.repeat(16), name: 'a.b' }));
  t.same(addresses(zone, 'a.b'), ['10.1.0.2']);
  t.same(addresses(zone, `b.frontend.${domain}`), []);
  zone.dropEndpoint('1'.repeat(16));
  t.equal(addresses(zone, `b.frontend.${domain}`), 'nxdomain');
});

t.test('one sandbox on two networks sees both', async (t) => {
  const zone = newZone();
  zone.putEndpoint(endpoint({ id: '1'.repeat(16), name: 'web' }));
  zone.putEndpoint(endpoint({ id: '2'.repeat(16), name: 'web', network: 'bbbbbbbb', addresses: ['10.2.0.2'] }));
  t.same(addresses(zone, 'web', 'A', both), ['10.1.0.2', '10.2.0.2']);
  const first = (): string | undefined => zone.resolve('web', 'A', both)?.endpoints[0]?.network;
  t.same(new Set([first(), first()]), new Set(both), 'which take turns at being first');
  t.same(addresses(zone, 'web.app', 'A', both), ['10.2.0.2']);
  t.equal(addresses(zone, 'web.app', 'A', front), 'forward');
});

t.test('services are found by their names and numbers', async (t) => {
  const zone = newZone();
  const ports = [
    { hostAddress: null, hostPort: 8080, hostPortEnd: 8081, port: 80, portEnd: 81, protocol: 'tcp' },
  ] as const;
  const labels = { 'tsnet.port/dns': '53/udp', 'tsnet.port/bad': '70000/tcp', other: 'x' };
  zone.putEndpoint(endpoint({ id: '1'.repeat(16), name: 'web', labels, ports }));
  const ask = (name: string): unknown[] | undefined =>
    zone.resolve(name, 'SRV', front)?.answers.map((record) => ('port' in record ? record.port : null));
  t.same(ask('_dns._udp.web'), [53]);
  t.same(ask('_80._tcp.web'), [80]);
  t.same(ask('web')?.sort(), [53, 80, 81]);
  t.equal(zone.resolve('_dns._tcp.web', 'SRV', front)?.exists, false);
  t.same(zone.resolve('_dns._udp.web', 'A', front)?.answers, [], 'it exists, without an address');
  const [record] = zone.resolve('_dns._udp.web', 'SRV', front)?.answers ?? [];
  const target = record !== undefined && 'target' in record ? record.target : '';
  t.same(addresses(zone, target), ['10.1.0.2']);
  t.same(servicePorts({ labels: { 'tsnet.port/x': 'no' } }), []);
  zone.putEndpoint(endpoint({ id: '2'.repeat(16), name: 'web', addresses: ['10.1.0.9'] }));
  const { additional = [] } = zone.resolve('_80._tcp.web', 'SRV', front) ?? {};
  t.same(
    additional.map((record) => ('address' in record ? record.address : '')),
    ['10.1.0.2'],
    'beside them the addresses of those that have the service',
  );
  for (const name of ['_tcp.web', '_udp.web.frontend'])
    for (const type of ['A', 'SRV', 'TXT']) {
      const { exists, answers } = zone.resolve(name, type, front) ?? {};
      t.same({ exists, answers }, { exists: true, answers: [] }, `${name} exists, for others are below it`);
    }
  t.equal(zone.resolve('_sctp.web', 'A', front)?.exists, false);
});

t.test('what is below a name without a dot is not asked for elsewhere either', async (t) => {
  const zone = newZone();
  zone.putEndpoint(endpoint({ id: '1'.repeat(16), name: 'web' }));
  for (const name of [
    '_http._tcp.gone',
    '_tcp.gone',
    '_dmarc.web',
    '_dmarc.gone',
    '_x._y.gone',
    '_http._tcp.gone.frontend',
  ])
    t.equal(addresses(zone, name, 'SRV'), 'nxdomain', name);
  for (const name of ['_http._tcp.example.com', '_dmarc.example.com', '_http._tcp.web.app'])
    t.equal(addresses(zone, name, 'SRV'), 'forward', name);
});

t.test('a name that equals the network’s, and labels that endpoints have in common', async (t) => {
  const zone = newZone();
  t.same(addresses(zone, 'frontend'), [], 'the network alone has no address');
  const labels = { app: 'web' };
  zone.putEndpoint(endpoint({ id: '1'.repeat(16), name: 'Frontend', labels: { ...labels, one: '1' } }));
  zone.putEndpoint(endpoint({ id: '2'.repeat(16), name: 'frontend', addresses: ['10.1.0.3'], labels }));
  for (const name of ['frontend', 'frontend.frontend', `frontend.frontend.${domain}`])
    t.same(addresses(zone, name), ['10.1.0.2', '10.1.0.3'], name);
  t.equal(addresses(zone, 'frontend.frontend.frontend'), 'nxdomain');
  const texts = zone.resolve('frontend', 'TXT', front)?.answers.map((record) => ('text' in record ? record.text : ''));
  t.same(texts?.sort(), ['app=web', 'one=1'], 'each record once');
});

t.test('reverse names are read and written in both families', async (t) => {
  const zone = newZone();
  zone.putEndpoint(endpoint({ id: '1'.repeat(16), name: 'web', addresses: ['10.1.0.2', 'fd01::2'] }));
  zone.putEndpoint(endpoint({ id: '2'.repeat(16), addresses: ['10.1.0.3'] }));
  for (const address of ['10.1.0.2', 'fd01::2', 'fe80::1', '0.0.0.0'])
    t.equal(addressOfReverse(reverseOf(address)), address);
  const [record] = zone.resolve(reverseOf('fd01::2'), 'PTR', front)?.answers ?? [];
  t.match(record, { type: 'PTR', target: `web.frontend.${domain}` });
  const [unnamed] = zone.resolve(reverseOf('10.1.0.3'), 'PTR', front)?.answers ?? [];
  t.match(unnamed, { target: `${'2'.repeat(16)}.frontend.${domain}` });
  t.equal(zone.resolve(reverseOf('10.1.0.9'), 'PTR', front)?.exists, false);
  t.equal(zone.resolve(reverseOf('8.8.8.8'), 'PTR', front), null);
  for (const bad of ['1.10.in-addr.arpa', '256.1.1.1.in-addr.arpa', '01.1.1.1.in-addr.arpa', 'x.ip6.arpa'])
    t.equal(addressOfReverse(bad), null, bad);
});

t.test('only what can be a name is one', async (t) => {
  const names = endpointNames({
    id: '1'.repeat(16),
    name: 'Web',
    aliases: ['a_b'],
    callerId: 'F'.repeat(64),
    labels: {},
  });
  t.same(names.sort(), ['1'.repeat(16), 'ffffffffffff', 'web']);
});
