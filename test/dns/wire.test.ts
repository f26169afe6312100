import packet from 'dns-packet';
import t from 'tap';
import type { DnsRecord } from '../../core/dns/record.js';
import { RCODE, TYPE } from '../../lib/dns/constants.js';
import { DnsError } from '../../lib/dns/error.js';
import { decodeMessage } from '../../lib/dns/message.js';
import { encodeName, readName } from '../../lib/dns/name.js';
import { encodeQuery, encodeQuestion, readQuery, type Query } from '../../lib/dns/query.js';
import { encodeAnswer } from '../../lib/dns/response.js';

/** Numbers that are the same in every run (mulberry32). */
function newRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296) * below);
  };
}

const letters = 'abcdefghijklmnopqrstuvwxyz0123456789';

function randomName(random: (below: number) => number, suffix: string): string {
  const labels = Array.from({ length: 1 + random(4) }, () =>
    Array.from({ length: 1 + random(20) }, () => letters[random(letters.length)]).join(''),
  );
  return `${labels.join('.')}${suffix}`;
}

function queryOf(name: string, type: number, udpBytes: number | null = 1232): Query {
  const bytes = encodeQuery({ id: 4711, question: encodeQuestion(encodeName(name), type), udpBytes });
  const received = readQuery(bytes);
  if (received.kind !== 'query') throw new Error(`not a query: ${received.kind}`);
  return received.query;
}

t.test('queries made by another program are read as they were meant', async (t) => {
  const random = newRandom(1);
  for (let round = 0; round < 500; round++) {
    const name = randomName(random, '.tsnet.internal');
    const hasEdns = random(2) === 0;
    const bytes = packet.encode({
      type: 'query',
      id: random(65_536),
      flags: packet.RECURSION_DESIRED,
      questions: [{ type: 'AAAA', name: name.toUpperCase() }],
      additionals: hasEdns
        ? [{ type: 'OPT', name: '.', udpPayloadSize: 4096, flags: packet.DNSSEC_OK, options: [] }]
        : [],
    });
    const received = readQuery(bytes);
    if (received.kind !== 'query') throw new Error(`round ${round}: ${received.kind}`);
    const { query } = received;
    t.equal(query.name, name);
    t.equal(query.type, TYPE.AAAA);
    t.same(query.edns, hasEdns ? { udpBytes: 4096, version: 0, wantsDnssec: true } : null);
  }
});

t.test('answers are read by another program as they were meant, each name once', async (t) => {
  const random = newRandom(2);
  for (let round = 0; round < 300; round++) {
    const name = randomName(random, '.frontend.tsnet.internal');
    const target = randomName(random, '.frontend.tsnet.internal');
    const ttl = random(6);
    const answers: DnsRecord[] = [
      { name, ttl, type: 'A', address: `10.${random(256)}.${random(256)}.${random(256)}` },
      { name, ttl, type: 'AAAA', address: 'fd00::1' },
      { name, ttl, type: 'PTR', target },
      { name, ttl, type: 'SRV', priority: random(9), weight: random(9), port: random(65_536), target },
      { name, ttl, type: 'TXT', text: 'tier=front' },
      { name: 'tsnet.internal', ttl, type: 'NS', target: 'ns.tsnet.internal' },
    ];
    const bytes = encodeAnswer(
      queryOf(name, TYPE.ANY),
      { rcode: RCODE.NOERROR, authoritative: true, answers, authority: [], additional: [] },
      65_535,
    );
    const theirs = packet.decode(bytes);
    t.equal(theirs.id, 4711);
    t.equal(theirs.questions?.[0]?.name, name);
    t.same(
      theirs.answers?.map((each) => [each.name, each.type]),
      answers.map((each) => [each.name, each.type]),
    );
    t.match(theirs.answers?.[3], { data: { target } });
    t.equal((theirs.answers?.[0] as { data?: string }).data, (answers[0] as { address: string }).address);
    const ours = decodeMessage(bytes);
    t.same(
      ours.answers.map((each) => each.name),
      answers.map((each) => each.name),
    );
    t.ok(bytes.length < packet.encodingLength({ type: 'response', questions: [], answers: theirs.answers ?? [] }));
  }
});

t.test('an answer never exceeds its limit, and says when it was cut', async (t) => {
  const answers: DnsRecord[] = Array.from({ length: 200 }, (_, index) => {
    return { name: 'web', ttl: 1, type: 'A', address: `10.0.0.${index}` } as const;
  });
  const answer = { rcode: 0, authoritative: true, answers, authority: [], additional: [] };
  for (const limit of [512, 513, 700, 1232, 65_535]) {
    for (const udpBytes of [null, 1232]) {
      const bytes = encodeAnswer(queryOf('web', TYPE.A, udpBytes), answer, limit);
      t.ok(bytes.length <= limit);
      const message = packet.decode(bytes);
      t.equal(message.flag_tc, limit < 4000, `TC at ${limit}`);
      t.equal(message.answers?.length === 200, limit === 65_535);
    }
  }
});

t.test('random and damaged packets are errors at most', async (t) => {
  const random = newRandom(3);
  const good = encodeAnswer(
    queryOf('web.frontend', TYPE.A),
    {
      rcode: 0,
      authoritative: true,
      answers: [{ name: 'web.frontend', ttl: 1, type: 'SRV', priority: 0, weight: 0, port: 1, target: 'x.frontend' }],
      authority: [],
      additional: [],
    },
    512,
  );
  let errors = 0;
  for (let round = 0; round < 20_000; round++) {
    const bytes =
      round % 2 === 0
        ? Buffer.from(Array.from({ length: random(80) }, () => random(256)))
        : Buffer.from(good.subarray(0, 1 + random(good.length)));
    if (round % 2 === 1) for (let times = random(4); times > 0; times--) bytes[random(bytes.length)] = random(256);
    readQuery(bytes);
    // As a query, so that the name is looked at.
    if (bytes.length > 6) bytes.writeUInt32BE(0x0100_0001, 2);
    readQuery(bytes);
    try {
      decodeMessage(bytes);
    } catch (error) {
      if (!(error instanceof DnsError)) throw error;
      errors += 1;
    }
  }
  t.ok(errors > 1000);
});

t.test('names that loop, are too long or lead forward are refused', async (t) => {
  const loop = Buffer.alloc(20);
  loop.writeUInt16BE(0xc00c, 12);
  t.throws(() => readName(loop, 12), DnsError);
  t.throws(() => readName(Buffer.from([0xc0, 2, 1, 97, 0]), 0), DnsError);
  t.throws(() => encodeName('a'.repeat(64)), DnsError);
  t.throws(() => encodeName(Array.from({ length: 64 }, () => 'abc').join('.')), DnsError);
  t.throws(() => encodeName('a..b'), DnsError);
  const odd = Buffer.from([3, 0x61, 0x2e, 0x00, 0]);
  const { name } = readName(odd, 0);
  t.equal(name, 'a\\.\\000');
  t.same(encodeName(name), odd);
});
