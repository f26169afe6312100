import t from 'tap';
import { AnswerMemory } from '../../agent/dns/answer-memory.js';
import { OwnTeller } from '../../agent/dns/own-teller.js';
import type { ToServer } from '../../agent/dns/protocol.js';
import { DnsTables } from '../../agent/dns/tables.js';
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

t.test('a change concerns those only who see its network, and sockets only where there are some', async (t) => {
  const tables = new DnsTables('tsnet.internal');
  for (const id of ['a', 'b']) t.ok(tables.apply(network(id)), 'a network may be listened for');
  const before = { a: tables.revisionOf(['a']), b: tables.revisionOf(['b']), both: tables.revisionOf(['a', 'b']) };
  t.notOk(tables.apply(endpoint('e1', 'a')));
  t.not(tables.revisionOf(['a']), before.a);
  t.not(tables.revisionOf(['a', 'b']), before.both);
  t.equal(tables.revisionOf(['b']), before.b, 'answers about another network stay');
  const now = tables.revisionOf(['a']);
  t.notOk(tables.apply(own('e1')), 'no socket for who asks the host');
  t.equal(tables.revisionOf(['a']), now, 'who is where changes no answer');
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
  const last = tables.revisionOf(['a']);
  tables.apply({ do: 'down', hosts: ['h2'] });
  t.not(tables.revisionOf(['a']), last, 'a host that is down changes what is answered');
  const seen = new Set<number>();
  for (let round = 0; round < 5; round++) {
    seen.add(tables.revisionOf(['a']));
    tables.apply({ do: 'gone', kind: 'network', id: 'a' });
    seen.add(tables.revisionOf(['a']));
    tables.apply(network('a'));
    tables.apply(endpoint('e1', 'a'));
  }
  t.equal(seen.size, 10, 'no revision comes twice');
});

t.test('answers are remembered by view until that view changes', async (t) => {
  const memory = new AnswerMemory();
  const query = Buffer.from('0001question');
  memory.put(query, { view: 'a', revision: 1 }, Buffer.from('..of a'));
  memory.put(query, { view: 'b', revision: 7 }, Buffer.from('..of b'));
  const get = (view: string, revision: number) => memory.get(query, view, revision)?.toString('latin1', 2);
  t.same([get('a', 1), get('b', 7), get('c', 1)], ['of a', 'of b', undefined]);
  t.same([get('a', 2), get('b', 7)], [undefined, 'of b'], 'the other view keeps its own');
  t.equal(get('a', 1), undefined, 'what was forgotten does not come back');
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
