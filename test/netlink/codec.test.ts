import { deepStrictEqual } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import { DecodeError, Reader } from '../../lib/bytes/reader.js';
import { EncodeError, Writer } from '../../lib/bytes/writer.js';
import { type Addr, addrFromDump, decodeAddr, encodeAddr } from '../../lib/netlink/addr.js';
import { eachAttr, type RawAttr } from '../../lib/netlink/attr.js';
import { NLMSG_DONE, NLMSG_ERROR } from '../../lib/netlink/constants.js';
import { decodeFdb, encodeFdb, type Fdb, fdbFromDump } from '../../lib/netlink/fdb.js';
import { decodeLink, encodeLink, type Link, linkStats } from '../../lib/netlink/link-value.js';
import { type Answer, decodeDone, decodeError, eachMessage, type MessageHeader } from '../../lib/netlink/message.js';
import { decodeEvent } from '../../lib/netlink/monitor.js';
import { decodeNeigh, encodeNeigh, type Neigh, neighFromDump } from '../../lib/netlink/neigh.js';
import { decodeRoute, encodeRoute, type Route, routeFromDump } from '../../lib/netlink/route.js';
import { readCapture } from './scratch.js';

interface Codec {
  readonly name: string;
  readonly decode: (reader: Reader) => unknown;
  readonly encode: (writer: Writer, value: never) => void;
  readonly fromDump: (reader: Reader) => unknown;
}

const codecs: Codec[] = [
  { name: 'links', decode: decodeLink, encode: encodeLink, fromDump: decodeLink },
  { name: 'addrs', decode: decodeAddr, encode: encodeAddr, fromDump: addrFromDump },
  { name: 'routes', decode: decodeRoute, encode: encodeRoute, fromDump: routeFromDump },
  { name: 'neighs', decode: decodeNeigh, encode: encodeNeigh, fromDump: neighFromDump },
  { name: 'fdb', decode: decodeFdb, encode: encodeFdb, fromDump: fdbFromDump },
];

function bodies(capture: string): Buffer[] {
  const found: Buffer[] = [];
  for (const datagram of readCapture(capture)) {
    eachMessage(datagram, (header, reader) => {
      if (header.type !== NLMSG_DONE) found.push(datagram.subarray(reader.offset, reader.end));
    });
  }
  return found;
}

function decoded<T>(capture: string, decode: (reader: Reader) => T): T[] {
  return bodies(capture).map((body) => decode(new Reader(body, capture)));
}

function encoded<T>(encode: (writer: Writer, value: T) => void, value: T): Buffer {
  const writer = new Writer(16);
  encode(writer, value);
  return Buffer.from(writer.written());
}

/** Every attribute that a body has on its top level, as `type: bytes`. */
function attrsOf(body: Buffer, headerBytes: number): string[] {
  const reader = new Reader(body, 'test');
  reader.offset = headerBytes;
  const found: string[] = [];
  eachAttr(reader, (type) => {
    found.push(`${type}: ${body.toString('hex', reader.offset, reader.end)}`);
  });
  return found.sort();
}

t.test('a link dump of the kernel decodes to what was there', async (t) => {
  const links = new Map(decoded('links', decodeLink).map((link) => [link.ifname, link]));
  t.same([...links.keys()].sort(), ['br0', 'dm0', 'dm1', 'lo', 'mv0', 've0', 've1', 'vx0', 'vx6']);
  t.match(links.get('lo'), { ifindex: 1, type: 772, up: true, mtu: 65536, address: '00:00:00:00:00:00' });
  t.match(links.get('br0'), {
    alias: 'captured bridge',
    altNames: ['an-alternative-name-of-a-bridge'],
    kind: 'bridge',
    bridge: { mcastSnooping: false, nfCallIptables: true, nfCallIp6tables: false, ageingTimeMs: 300000 },
    address: '02:00:00:00:01:01',
    up: true,
  });
  t.match(links.get('vx0'), {
    kind: 'vxlan',
    vxlan: { id: 77, local: '198.18.0.1', port: 4789, learning: false, ttl: 7, gbp: true, l2miss: false, df: 0 },
    portKind: 'bridge',
    bridgePort: { learning: false, neighSuppress: true, hairpin: true, isolated: true, guard: false },
    master: links.get('br0')?.ifindex,
  });
  t.match(links.get('vx6'), {
    vxlan: { id: 78, local: 'fd00::1', group: 'fd00::2', learning: true, udpZeroCsum6Tx: true, df: 1 },
  });
  t.equal(links.get('vx6')?.bridgePort, undefined);
  t.match(links.get('mv0'), { kind: 'macvlan', macvlan: { mode: 4 }, link: links.get('dm0')?.ifindex });
  t.match(links.get('ve1'), { kind: 'veth', afSpec: { inet6: { addrGenMode: 1 } }, link: links.get('ve0')?.ifindex });
});

t.test('address, route, neighbour and forwarding dumps decode to what was there', async (t) => {
  const addrs = new Map(decoded('addrs', decodeAddr).map((addr) => [addr.address, addr]));
  t.match(addrs.get('10.9.0.1/24'), { broadcast: '10.9.0.255', label: 'br0', flags: 0x280, scope: 0 });
  t.match(addrs.get('10.8.0.1/32'), { peer: '10.8.0.2', label: 'dm0:p2p' });
  t.match(addrs.get('fd00:9::1/64'), { flags: 0xa2, cacheinfo: { preferredSec: 0, validSec: 0xffffffff } });
  t.match(addrs.get('fd00:8::1/128'), { peer: 'fd00:8::2' });
  t.equal(addrs.get('10.6.0.1/24')?.peer, undefined);

  const routes = decoded('routes', decodeRoute);
  const route = (dst: string, table = 254): Route | undefined =>
    routes.find((candidate) => candidate.dst === dst && candidate.table === table);
  t.match(route('10.20.0.0/16', 1000), {
    gateway: '10.6.0.9',
    protocol: 77,
    priority: 9,
    prefsrc: '10.6.0.1',
    metrics: { mtu: 1300, advmss: 1200 },
  });
  t.match(route('10.21.0.0/16'), { via: 'fd00:8::9', flags: 4 });
  t.match(route('10.22.0.0/16'), { type: 7 });
  t.ok((route('10.23.0.0/16')?.multipath?.length ?? 0) >= 32, 'both next hops are kept');
  t.match(route('fd00:21::/64'), { gateway: 'fd00:8::2', pref: 1, metrics: { mtu: 1290 }, protocol: 77 });
  t.ok(route('::1/128', 255) ?? route('::1/128'), 'a prefix of full length');

  const neighs = new Map(decoded('neighs', decodeNeigh).map((neigh) => [neigh.dst, neigh]));
  t.match(neighs.get('10.9.0.7'), { lladdr: '02:00:00:00:00:07', state: 0x80, protocol: 77 });
  t.match(neighs.get('10.9.0.8'), { state: 0x04 });
  t.match(neighs.get('fd00:9::7'), { flags: 0x10 });

  const fdbs = decoded('fdb', decodeFdb);
  const replicas = fdbs.filter((fdb) => fdb.lladdr === '00:00:00:00:00:00' && fdb.dst?.startsWith('198.18.'));
  t.same(replicas.map((fdb) => fdb.dst).sort(), ['198.18.0.2', '198.18.0.3']);
  t.match(
    fdbs.find((fdb) => fdb.lladdr === '02:00:00:00:00:09'),
    { dst: '198.18.0.4', vni: 99, port: 4790, flags: 2, viaIfindex: 8 },
  );
  const onBridge = fdbs.find((fdb) => fdb.lladdr === '02:00:00:00:00:0a');
  t.match(onBridge, { state: 0x40 });
  t.type(onBridge?.master, 'number');
  t.match(
    fdbs.find((fdb) => fdb.lladdr === '02:00:00:00:00:0b'),
    { dst: 'fd00::9', flags: 0x12 },
  );
});

for (const { name, decode, encode } of codecs) {
  t.test(`${name}: encoding a decoded capture again loses nothing`, async (t) => {
    for (const body of bodies(name)) {
      const value = decode(new Reader(body, name)) as never;
      const again = encoded(encode, value);
      t.same(decode(new Reader(again, name)), value);
    }
  });
}

t.test('routes, neighbours and forwarding entries keep every attribute byte for byte', async (t) => {
  const sizes = { routes: 12, neighs: 12, fdb: 12 };
  for (const { name, decode, encode } of codecs) {
    if (!(name in sizes)) continue;
    for (const body of bodies(name)) {
      const again = encoded(encode, decode(new Reader(body, name)) as never);
      t.same(attrsOf(again, 12), attrsOf(body, 12));
    }
  }
});

t.test('attributes that nobody knows survive', async (t) => {
  const unknown: RawAttr[] = [
    { type: 200, bytes: Uint8Array.of(1, 2, 3) },
    { type: 0x8000 | 300, bytes: Uint8Array.of(8, 0, 1, 0, 1, 2, 3, 4) },
    { type: 201, bytes: new Uint8Array(0) },
  ];
  const values: [(reader: Reader) => unknown, Buffer][] = [
    [decodeLink, encoded(encodeLink, { ifname: 'a', kind: 'bridge', bridge: { unknown }, unknown })],
    [decodeAddr, encoded(encodeAddr, { ifindex: 1, address: '10.0.0.1/8', unknown } as Addr)],
    [decodeRoute, encoded(encodeRoute, { dst: '10.0.0.0/8', metrics: { mtu: 9, unknown }, unknown } as Route)],
    [decodeNeigh, encoded(encodeNeigh, { ifindex: 1, dst: '10.0.0.1', unknown } as Neigh)],
    [decodeFdb, encoded(encodeFdb, { ifindex: 1, lladdr: '02:00:00:00:00:01', unknown } as Fdb)],
  ];
  for (const [decode, body] of values) t.match(decode(new Reader(body, 'test')), { unknown });
  const [decode, body] = values[0] as (typeof values)[0];
  t.match(decode(new Reader(body, 'test')), { bridge: { unknown } });
});

t.test('kinds and ports without a table are kept as bytes', async (t) => {
  const link = {
    ifindex: 4,
    ifname: 'x0',
    family: 0,
    type: 1,
    flags: 0x1003,
    up: true,
    arp: true,
    multicast: true,
    promisc: false,
    kind: 'geneve',
    kindBytes: Uint8Array.of(8, 0, 1, 0, 9, 0, 0, 0),
    portKind: 'bond',
    portKindBytes: Uint8Array.of(5, 0, 1, 0, 1, 0, 0, 0),
    infoUnknown: [{ type: 3, bytes: Uint8Array.of(1, 2, 3, 4) }],
  } satisfies Link;
  t.same(decodeLink(new Reader(encoded(encodeLink, link), 'link')), link);
});

t.test('what is cut short at any offset is a DecodeError or a clean result', async (t) => {
  for (const name of [...codecs.map((codec) => codec.name), 'errors']) {
    for (const datagram of readCapture(name)) {
      for (let length = 0; length < Math.min(datagram.length, 4096); length++) {
        const events: unknown[] = [];
        try {
          eachMessage(Buffer.from(datagram.subarray(0, length)), (header, reader) =>
            events.push(decodeAny(header, reader)),
          );
        } catch (error) {
          if (!(error instanceof DecodeError)) throw error;
        }
      }
    }
  }
  for (const { name, fromDump } of codecs) {
    const body = bodies(name)[0] ?? Buffer.alloc(0);
    let refused = 0;
    for (let length = 0; length < body.length; length++) {
      try {
        fromDump(new Reader(Buffer.from(body.subarray(0, length)), name));
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error;
        if (error.offset <= length && error.what !== '') refused++;
        else t.fail(`offset ${error.offset} of ${length}`);
      }
    }
    t.ok(refused > 0, `${name} notices`);
  }
});

function decodeAny(header: MessageHeader, reader: Reader): unknown {
  if (header.type === NLMSG_ERROR) return decodeError(reader, header.flags);
  if (header.type === NLMSG_DONE) return decodeDone(reader, header.flags);
  return decodeEvent(header, reader);
}

function assertBounded(datagram: Buffer): void {
  try {
    eachMessage(datagram, decodeAny);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
  }
}

t.test('random bytes and damaged captures throw nothing but DecodeError', async () => {
  const header = fc.tuple(fc.constantFrom(2, 3, 16, 17, 20, 24, 28, 29), fc.uint8Array({ maxLength: 200 }));
  fc.assert(
    fc.property(header, fc.integer({ min: 0, max: 0x3ff }), ([type, body], flags) => {
      const datagram = Buffer.alloc(16 + body.length);
      datagram.writeUInt32LE(datagram.length, 0);
      datagram.writeUInt16LE(type, 4);
      datagram.writeUInt16LE(flags, 6);
      datagram.set(body, 16);
      assertBounded(datagram);
    }),
    { numRuns: 5000 },
  );
  const captures = [...codecs.map((codec) => codec.name), 'errors'].flatMap(readCapture);
  const edit = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }));
  fc.assert(
    fc.property(fc.constantFrom(...captures), fc.array(edit, { minLength: 1, maxLength: 8 }), (capture, edits) => {
      const datagram = Buffer.from(capture);
      for (const [at, byte] of edits) datagram[at % datagram.length] = byte;
      assertBounded(datagram);
    }),
    { numRuns: 5000 },
  );
});

const u8 = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const text = fc.stringMatching(/^[a-z][a-z0-9é:._-]{0,13}$/);
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map((b) =>
  Buffer.from(b)
    .toString('hex')
    .replace(/..(?!$)/g, '$&:'),
);
const ip4 = fc.ipV4();
const ip6 = fc.constantFrom('fd00::1', '::', '2001:db8::1:0:0:1', 'fe80::42');
const ip = fc.oneof(ip4, ip6);
const unknown = fc.array(
  fc.record({ type: fc.integer({ min: 900, max: 0x3fff }), bytes: fc.uint8Array({ maxLength: 9 }) }),
  {
    minLength: 1,
    maxLength: 3,
  },
);
const flag = fc.boolean();

function survives<T>(
  codec: { encode: (w: Writer, v: T) => void; decode: (r: Reader) => T },
  values: fc.Arbitrary<unknown>,
): void {
  fc.assert(
    fc.property(values, (made) => {
      const value = structuredClone(made) as T;
      const body = encoded(codec.encode, value);
      if (body.length % 4 !== 0) throw new Error('not padded');
      deepStrictEqual(codec.decode(new Reader(body, 'test')), value);
    }),
    { numRuns: 300 },
  );
}

const optional = { requiredKeys: [] as [] };

t.test('decoding what was encoded gives the same link', async () => {
  const bridge = fc.record(
    {
      forwardDelayMs: u16.map((n) => n * 10),
      stpState: u32,
      vlanFiltering: flag,
      groupFwdMask: u16,
      mcastSnooping: flag,
      nfCallIptables: flag,
      vlanProtocol: u16,
      groupAddr: mac,
      unknown,
    },
    optional,
  );
  const vxlan = fc.record(
    {
      id: u32,
      local: ip,
      group: ip,
      link: u32,
      port: u16,
      portRange: fc.record({ low: u16, high: u16 }),
      ttl: u8,
      tos: u8,
      df: u8,
      label: u32,
      learning: flag,
      ageingSec: u32,
      limit: u32,
      udpCsum: flag,
      gbp: fc.constant(true),
      collectMetadata: flag,
    },
    optional,
  );
  const peer = fc.record({
    ifindex: u32,
    family: fc.constant(0),
    type: u16,
    flags: fc.constant(0x1001),
    up: fc.constant(true),
    arp: fc.constant(true),
    multicast: fc.constant(true),
    promisc: fc.constant(false),
    ifname: text,
    mtu: u32,
    address: mac,
    netnsFd: u32,
  });
  const port = fc.record(
    {
      state: u8,
      cost: u32,
      learning: flag,
      neighSuppress: flag,
      hairpin: flag,
      isolated: flag,
      unicastFlood: flag,
      unknown,
    },
    optional,
  );
  const header = {
    ifindex: u32,
    family: fc.constant(0),
    type: u16,
    flags: fc.constant(0x1083),
    up: fc.constant(true),
    arp: fc.constant(false),
    multicast: fc.constant(true),
    promisc: fc.constant(false),
    ifname: text,
  };
  const common = {
    mtu: u32,
    address: mac,
    txqlen: u32,
    group: u32,
    master: u32,
    link: u32,
    linkNetnsid: fc.integer({ min: -1, max: 99 }),
    alias: text,
    operstate: u8,
    altNames: fc.array(text),
    carrier: flag,
    unknown,
  };
  const required = { requiredKeys: [...Object.keys(header)] as (keyof typeof header)[] };
  const kinds = fc.oneof(
    fc.record({ kind: fc.constant('bridge'), bridge }),
    fc.record({ kind: fc.constant('vxlan'), vxlan, portKind: fc.constant('bridge'), bridgePort: port }),
    fc.record({ kind: fc.constant('veth'), veth: fc.record({ peer }) }),
    fc.record({ kind: fc.constant('macvlan'), macvlan: fc.record({ mode: u32, flags: u16 }) }),
    fc.record({ kind: fc.constant('dummy') }),
    fc.record({}),
  );
  const link = fc.tuple(fc.record({ ...header, ...common }, required), kinds).map(([a, b]) => ({ ...a, ...b }));
  survives<Link>({ encode: encodeLink, decode: decodeLink }, link);
});

t.test('decoding what was encoded gives the same address, route, neighbour and forwarding entry', async () => {
  const cacheinfo = fc.record({ preferredSec: u32, validSec: u32, cstamp: u32, tstamp: u32 });
  const addr = fc.record(
    {
      ifindex: u32,
      address: ip4.map((a) => `${a}/24`),
      peer: ip6,
      broadcast: ip4,
      label: text,
      scope: u8,
      flags: u32,
      priority: u32,
      protocol: u8,
      cacheinfo,
      unknown,
    },
    { requiredKeys: ['ifindex', 'address', 'scope', 'flags'] },
  );
  survives<Addr>({ encode: encodeAddr, decode: decodeAddr }, addr);
  const route = fc.record(
    {
      dst: fc.oneof(
        ip4.map((a) => `${a}/17`),
        ip6.map((a) => `${a}/64`),
        fc.constantFrom('0.0.0.0/0', '::/0'),
      ),
      src: ip6.map((a) => `${a}/64`),
      gateway: ip,
      via: ip,
      ifindex: u32,
      iif: u32,
      prefsrc: ip,
      priority: u32,
      table: u32,
      protocol: u8,
      scope: u8,
      type: u8,
      tos: u8,
      flags: u32,
      metrics: fc.record({ mtu: u32, hoplimit: u32, unknown: unknown }, optional),
      pref: u8,
      mark: u32,
      expires: u32,
      nhId: u32,
      multipath: fc.uint8Array({ maxLength: 40 }),
      unknown,
    },
    { requiredKeys: ['dst', 'table', 'protocol', 'scope', 'type', 'tos', 'flags'] },
  );
  survives<Route>({ encode: encodeRoute, decode: decodeRoute }, route);
  const nda = {
    lladdr: mac,
    probes: u32,
    vlan: u16,
    port: u16,
    vni: u32,
    viaIfindex: u32,
    master: u32,
    linkNetnsid: fc.integer({ min: -1, max: 9 }),
    srcVni: u32,
    protocol: u8,
    nhId: u32,
    flagsExt: u32,
    cacheinfo: fc.record({ confirmed: u32, used: u32, updated: u32, refcnt: u32 }),
    unknown,
  };
  const neigh = fc.record(
    { ifindex: u32, dst: ip, state: u16, flags: u8, type: u8, ...nda },
    { requiredKeys: ['ifindex', 'dst', 'state', 'flags', 'type'] },
  );
  survives<Neigh>({ encode: encodeNeigh, decode: decodeNeigh }, neigh);
  const fdb = fc.record(
    { ifindex: u32, dst: ip, state: u16, flags: u8, ...nda },
    { requiredKeys: ['ifindex', 'lladdr', 'state', 'flags'] },
  );
  survives<Fdb>({ encode: encodeFdb, decode: decodeFdb }, fdb);
});

t.test("captured refusals carry errno and the kernel's sentence", async (t) => {
  const answers: Answer[] = [];
  for (const datagram of readCapture('errors')) {
    eachMessage(datagram, (header, reader) => answers.push(decodeError(reader, header.flags)));
  }
  t.same(
    answers.map((answer) => answer.errno),
    [17, 22, 22, 101, 0, 19],
  );
  t.match(answers[1]?.extAck?.message, /mtu less than device minimum/);
  t.match(answers[2]?.extAck?.message, /mtu greater than device maximum/);
  t.match(answers[3]?.extAck?.message, /[Nn]exthop/);
});

t.test('a missing attribute and the offset of a bad one are read from the extended acknowledgement', async (t) => {
  const writer = new Writer();
  writer.u32le(-22 >>> 0);
  writer.zeros(16);
  writer.setU32le(4, 16);
  for (const [type, value] of [
    [2, 36],
    [5, 7],
    [6, 52],
  ] as const) {
    writer.u16le(8);
    writer.u16le(type);
    writer.u32le(value);
  }
  const answer = decodeError(new Reader(Buffer.from(writer.written()), 'test'), 0x300);
  t.same(answer, { errno: 22, extAck: { offset: 36, missingType: 7, missingNest: 52 } });
  t.same(decodeDone(new Reader(Buffer.alloc(0), 'done'), 0), { errno: 0 });
});

t.test('numbers out of range and attributes too long are refused before anything is sent', async (t) => {
  t.throws(() => encoded(encodeLink, { mtu: -1 }), EncodeError);
  t.throws(() => encoded(encodeLink, { mtu: 1.5 }), EncodeError);
  t.throws(() => encoded(encodeLink, { kind: 'vxlan', vxlan: { port: 65536 } }), EncodeError);
  t.throws(() => encoded(encodeLink, { alias: 'x'.repeat(70000) }), EncodeError);
  t.throws(() => encoded(encodeLink, { ifname: 'a\0b' }), { name: 'EncodeError', value: 'a\0b' });
  const kept = decodeLink(new Reader(encoded(encodeLink, { ifname: 'a', alias: 'größe 日本' }), 'link'));
  t.equal(kept.alias, 'größe 日本');
});

t.test('counters are read from the bytes the kernel sent, and only when asked for', async (t) => {
  const lo = decoded('links', decodeLink)[0];
  t.ok(lo?.stats64);
  t.match(lo === undefined ? undefined : linkStats(lo), { rxPackets: Number, txBytes: Number });
});
