import packet from 'dns-packet';
import t from 'tap';
import { AnswerMemory } from '../../agent/dns/answer-memory.js';
import { OwnTeller } from '../../agent/dns/own-teller.js';
import type { ToServer } from '../../agent/dns/protocol.js';
import { Forwarder } from '../../agent/dns/forwarder.js';
import { Responder } from '../../agent/dns/responder.js';
import { DnsTables, labelOf } from '../../agent/dns/tables.js';
import type { Network } from '../../core/model.js';
import type { OwnEndpoint } from '../../agent/journal/entries.js';
import { endpointId, newOwn } from '../unit/agent/records.js';

/** What the name server costs while endpoints come and go, by counts. */

type State = OwnEndpoint['record']['state'];

const network = (id: string): Extract<ToServer, { do: 'network' }> => ({
  do: 'network',
  value: { id, name: `net-${id}`, subnets: ['10.1.0.0/16'], internal: false, servers: [], listen: [] },
});

const endpoint = (id: string, network: string, host = 'h1'): Extract<ToServer, { do: 'endpoint' }> => ({
  do: 'endpoint',
  value: {
    id,
    network,
    host,
    generation: 1,
    name: `name-${id}`,
    aliases: [],
    callerId: id,
    state: 'attached',
    addresses: [`10.1.0.${id.length}`],
    labels: {},
  },
});

const own = (id: string, inside: string | null = null): Extract<ToServer, { do: 'own' }> => ({
  do: 'own',
  value: { endpoint: id, sandbox: `cookie-${id}`, inside },
});

t.test('an attach is told once, a detach once, and what is no change not at all', async (t) => {
  const told: string[] = [];
  const pieces: number[] = [];
  const entries = new Map<string, OwnEndpoint>();
  let changed = (_id: string): void => undefined;
  const teller = new OwnTeller({
    link: {
      tell: (message) => void told.push(message.do === 'gone' ? `gone ${message.kind}` : message.do),
      together: (telling) => {
        const before = told.length;
        telling();
        if (told.length > before) pieces.push(told.length - before);
      },
    },
    own: {
      get: (id) => entries.get(id),
      onChange: (listener) => {
        changed = listener;
        return () => undefined;
      },
    },
    knownNetwork: () => ({ driver: 'overlay' }) as Network,
    bootId: 'boot',
  });
  const id = endpointId(1);
  let generation = 1;
  const put = (state: State): void => {
    entries.set(id, newOwn({ id, state, generation }));
    changed(id);
    // As slow as can be: nothing is gathered.
    teller.flush();
  };
  put('reserved');
  t.same(told, [], 'a reserved one answers nothing');
  generation += 1;
  put('attached');
  put('attached');
  t.same(told, ['endpoint', 'own'], 'once, though it was put twice');
  generation += 1;
  put('attached');
  t.equal(told.length, 4, 'again when it is another one');
  put('detaching');
  entries.clear();
  changed(id);
  teller.flush();
  t.same(told.slice(4), ['gone endpoint', 'gone own']);
  t.same(pieces, [2, 2, 2]);
  put('attached');
  teller.tellAll([id]);
  t.equal(told.length, 10, 'all is told anew to one that knows nothing');
  teller.close();
});

t.test('a change concerns answers for its names only, and sockets only where there are some', async (t) => {
  const tables = new DnsTables('tsnet.internal');
  for (const id of ['a', 'b']) t.ok(tables.apply(network(id)), 'a network may be listened for');
  const of = (...names: string[]): number[] => names.map((name) => tables.revisionOf(labelOf(name)));
  const names = ['name-e1', 'name-e1.net-a.tsnet.internal', '_http._tcp.name-e1', '1.0.1.10.in-addr.arpa'];
  const others = ['name-e2', '_name-e1.name-e2', 'net-a', 'tsnet.internal'];
  let before = of(...names);
  const untouched = of(...others);
  t.notOk(tables.apply(endpoint('e1', 'a')));
  for (const [at, revision] of of(...names).entries()) t.not(revision, before[at], `for ${names[at]}`);
  t.same(of(...others), untouched, 'answers for other names stay');
  before = of(...names);
  t.notOk(tables.apply(own('e1')), 'no socket for who asks the host');
  t.same(of(...names), before, 'who is where changes no answer');
  const renamed = endpoint('e1', 'a');
  tables.apply({ ...renamed, value: { ...renamed.value, name: 'pod.space' } });
  for (const [at, revision] of of(...names).entries()) t.not(revision, before[at], `no longer ${names[at]}`);
  t.not(of('space.net-a')[0], untouched[0], 'a name that is there because others are below it');
  const scope = tables.scopeOf('e1');
  t.same(scope?.networks, ['a']);
  tables.apply(endpoint('other', 'a', 'h2'));
  t.equal(tables.scopeOf('e1'), scope, 'nor do others what a sandbox sees');
  t.ok(tables.apply(own('e2', 'pid:1')), 'a socket inside');
  t.ok(tables.apply(own('e2')), 'and none any more');
  t.notOk(tables.apply({ do: 'gone', kind: 'own', id: 'e2' }));
  tables.apply({ do: 'own', value: { endpoint: 'e1', sandbox: 'cookie-new', inside: null } });
  t.equal(tables.scopeOf('e1')?.client, 'cookie-new');
  tables.apply(endpoint('e3', 'b'));
  tables.apply({ do: 'own', value: { endpoint: 'e3', sandbox: 'cookie-new', inside: null } });
  t.same(tables.scopeOf('e1')?.networks, ['a', 'b'], 'on one more network');
  tables.apply({ do: 'gone', kind: 'endpoint', id: 'e3' });
  tables.apply({ do: 'gone', kind: 'own', id: 'e3' });
  t.same(tables.scopeOf('e1')?.networks, ['a'], 'and on one less');
  const last = of('name-other');
  tables.apply({ do: 'down', hosts: ['h2'] });
  t.not(of('name-other')[0], last[0], 'a host that is down changes what is answered');
  const seen = new Set<number>();
  for (let round = 0; round < 5; round++) {
    seen.add(tables.revisionOf('name-e1'));
    tables.apply({ do: 'gone', kind: 'network', id: 'a' });
    seen.add(tables.revisionOf('name-e1'));
    tables.apply(network('a'));
    tables.apply(endpoint('e1', 'a'));
  }
  t.equal(seen.size, 10, 'no revision comes twice');
  const one = of('name-e1');
  for (let count = 0; count < 6000; count += 1) {
    tables.apply(endpoint(`x${count}`, 'b'));
    tables.apply({ do: 'gone', kind: 'endpoint', id: `x${count}` });
  }
  t.not(of('name-e1')[0], one[0], 'where too much has changed to be counted, all has');
});

t.test('answers are remembered by view until what they depend on has changed', async (t) => {
  const memory = new AnswerMemory();
  const revisions = new Map([
    ['one', 1],
    ['two', 1],
  ]);
  const known = { revisionOf: (label: string) => revisions.get(label) ?? 0 };
  const [first, second] = [Buffer.from('0001first'), Buffer.from('0001second')];
  memory.put(first, { view: 'a', label: 'one', revisions: known }, Buffer.from('..of a'));
  memory.put(first, { view: 'b', label: 'one', revisions: known }, Buffer.from('..of b'));
  memory.put(second, { view: 'a', label: 'two', revisions: known }, Buffer.from('..the second'));
  const get = (query: Buffer, view: string) => memory.get(query, view, known)?.toString('latin1', 2);
  t.same([get(first, 'a'), get(first, 'b'), get(first, 'c')], ['of a', 'of b', undefined]);
  revisions.set('one', 2);
  t.same([get(first, 'a'), get(first, 'b'), get(second, 'a')], [undefined, undefined, 'the second']);
  memory.put(first, { view: 'a', label: 'one', revisions: known }, Buffer.from('..anew'));
  t.equal(get(first, 'a'), 'anew');
});

t.test('while others come and go, a name is answered from the memory, and never with what was', async (t) => {
  const tables = new DnsTables('tsnet.internal');
  const forwarder = new Forwarder({ isOurs: () => true });
  const responder = new Responder({ tables, forwarder, hostServers: () => [] });
  tables.apply(network('a'));
  tables.apply(endpoint('e1', 'a'));
  tables.apply(own('e1'));
  let lookUps = 0;
  const { zone } = tables;
  const resolve = zone.resolve.bind(zone);
  zone.resolve = (...question) => {
    lookUps += 1;
    return resolve(...question);
  };
  const asker = { address: '10.1.0.2', scope: () => tables.scopeOf('e1'), transport: 'udp' } as const;
  const ask = (name: string): string => {
    const answer = responder.respond(packet.encode({ type: 'query', id: 7, questions: [{ type: 'A', name }] }), asker);
    if (!Buffer.isBuffer(answer)) throw new Error('no answer at once');
    const rcode = (answer[3] ?? 0) & 15;
    if (rcode !== 0) return rcode === 3 ? 'NXDOMAIN' : `rcode ${rcode}`;
    return (packet.decode(answer).answers ?? []).map(({ data }) => String(data)).join();
  };
  t.same([ask('name-e1'), ask('name-late'), ask('space.net-a')], ['10.1.0.2', 'NXDOMAIN', 'NXDOMAIN']);
  for (let count = 0; count < 20; count += 1) {
    tables.apply(endpoint(`x${count}`, 'a'));
    t.equal(ask('name-e1'), '10.1.0.2');
    t.equal(ask('name-late'), 'NXDOMAIN');
  }
  t.equal(lookUps, 3, 'looked up once each');
  const late = endpoint('late', 'a');
  tables.apply({ ...late, value: { ...late.value, aliases: ['pod.space'] } });
  t.same([ask('name-late'), ask('space.net-a')], ['10.1.0.4', ''], 'there at once; that of a part has no record');
  tables.apply({ do: 'gone', kind: 'endpoint', id: 'late' });
  t.same([ask('name-late'), ask('space.net-a')], ['NXDOMAIN', 'NXDOMAIN'], 'gone at once');
  const moved = endpoint('e1', 'a');
  tables.apply({ ...moved, value: { ...moved.value, generation: 2, addresses: ['10.1.0.9'] } });
  t.equal(ask('name-e1'), '10.1.0.9', 'at another address');
});

t.test('who asks before it is known is answered as soon as it is', async (t) => {
  const tables = new DnsTables('tsnet.internal');
  tables.apply(network('a'));
  let isDone = false;
  const changed = tables.changed(20_000).then(() => (isDone = true));
  t.notOk(isDone);
  tables.apply(endpoint('e1', 'a'));
  await changed;
  t.ok(isDone, 'long before the time is over');
  const startMs = performance.now();
  await tables.changed(5);
  t.ok(performance.now() - startMs >= 4, 'without a change, after so long');
});
