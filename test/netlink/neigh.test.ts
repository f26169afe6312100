import t from 'tap';
import {
  AF_INET,
  AF_INET6,
  NTF_EXT_LEARNED,
  NTF_PROXY,
  NUD_NOARP,
  NUD_PERMANENT,
  NUD_REACHABLE,
  NUD_STALE,
} from '../../lib/netlink/constants.js';
import { linkAdd, linkGet } from '../../lib/netlink/link.js';
import {
  neighDelete,
  neighDeleteMessage,
  neighList,
  neighReplace,
  neighReplaceMessage,
} from '../../lib/netlink/neigh.js';
import { exchange } from '../../lib/netlink/exchange.js';
import { type Scratch, scratchNetns } from './scratch.js';

async function scratchLink(t: Parameters<typeof scratchNetns>[0]): Promise<Scratch & { ifindex: number }> {
  const scratch = await scratchNetns(t);
  await linkAdd(scratch.connection, { ifname: 'br0', kind: 'bridge', up: true });
  const { ifindex } = await linkGet(scratch.connection, 'br0');
  return { ...scratch, ifindex };
}

t.test('ip sees permanent and externally learned neighbours of both families', async (t) => {
  const { connection, ifindex, ipJson } = await scratchLink(t);
  await neighReplace(connection, { ifindex, dst: '10.9.0.7', lladdr: '02:00:00:00:00:07', protocol: 77 });
  await neighReplace(connection, { ifindex, dst: 'fd00::7', lladdr: '02:00:00:00:00:07', protocol: 77 });
  await neighReplace(connection, {
    ifindex,
    dst: '10.9.0.8',
    lladdr: '02:00:00:00:00:08',
    state: NUD_NOARP,
    flags: NTF_EXT_LEARNED,
  });
  const entry = (dst: string): unknown => ipJson('neigh', 'show', dst, 'dev', 'br0', 'nud', 'all')[0];
  t.match(entry('10.9.0.7'), { lladdr: '02:00:00:00:00:07', state: ['PERMANENT'], protocol: '77' });
  t.match(entry('fd00::7'), { lladdr: '02:00:00:00:00:07', state: ['PERMANENT'], protocol: '77' });
  t.match(entry('10.9.0.8'), { state: ['NOARP'], extern_learn: null });
  await neighReplace(connection, { ifindex, dst: '10.9.0.7', lladdr: '02:00:00:00:00:17', protocol: 77 });
  t.match(entry('10.9.0.7'), { lladdr: '02:00:00:00:00:17' });
  await neighDelete(connection, { ifindex, dst: '10.9.0.7' });
  await neighDelete(connection, { ifindex, dst: 'fd00::7' });
  t.equal(entry('10.9.0.7'), undefined);
  await t.rejects(neighDelete(connection, { ifindex, dst: '10.9.0.7' }), {
    code: 'ENOENT',
    request: `RTM_DELNEIGH 10.9.0.7 dev #${ifindex}`,
  });
});

t.test('neighbours that ip added are read, filtered by family and link', async (t) => {
  const { connection, ifindex, ip } = await scratchLink(t);
  ip('link', 'add', 'br1', 'up', 'type', 'bridge');
  ip('neigh', 'add', '10.9.0.1', 'lladdr', '02:00:00:00:00:01', 'dev', 'br0', 'nud', 'permanent', 'proto', '88');
  ip('neigh', 'add', '10.9.0.2', 'lladdr', '02:00:00:00:00:02', 'dev', 'br0', 'nud', 'stale');
  ip('neigh', 'add', 'fd00::3', 'lladdr', '02:00:00:00:00:03', 'dev', 'br0', 'nud', 'reachable');
  ip('neigh', 'add', '10.9.0.4', 'lladdr', '02:00:00:00:00:04', 'dev', 'br1', 'nud', 'permanent');
  const own = (await neighList(connection, { ifindex })).filter((neigh) => neigh.state !== NUD_NOARP);
  t.same(
    own
      .map(({ dst, lladdr, state, protocol }) => ({ dst, lladdr, state, protocol }))
      .sort((a, b) => (a.dst < b.dst ? -1 : 1)),
    [
      { dst: '10.9.0.1', lladdr: '02:00:00:00:00:01', state: NUD_PERMANENT, protocol: 88 },
      { dst: '10.9.0.2', lladdr: '02:00:00:00:00:02', state: NUD_STALE, protocol: undefined },
      { dst: 'fd00::3', lladdr: '02:00:00:00:00:03', state: NUD_REACHABLE, protocol: undefined },
    ],
  );
  t.ok((await neighList(connection, { family: AF_INET })).every((neigh) => !neigh.dst.includes(':')));
  t.ok((await neighList(connection, { family: AF_INET6 })).some((neigh) => neigh.dst === 'fd00::3'));
  t.ok((await neighList(connection)).some((neigh) => neigh.dst === '10.9.0.4'));
  for (const neigh of own) await neighDelete(connection, neigh);
  t.same(
    (await neighList(connection, { ifindex })).filter((neigh) => neigh.state !== NUD_NOARP),
    [],
  );
});

t.test('proxy entries are made, and are no part of the list', async (t) => {
  const { connection, ifindex, ipJson } = await scratchLink(t);
  await neighReplace(connection, { ifindex, dst: '10.9.0.99', flags: NTF_PROXY });
  t.match(ipJson('neigh', 'show', 'proxy'), [{ dst: '10.9.0.99', dev: 'br0' }]);
  t.notOk((await neighList(connection, { ifindex })).some((neigh) => neigh.dst === '10.9.0.99'));
  await neighDelete(connection, { ifindex, dst: '10.9.0.99', flags: NTF_PROXY });
  t.same(ipJson('neigh', 'show', 'proxy'), []);
});

t.test('a link that is not there is refused by name of the entry', async (t) => {
  const { connection } = await scratchLink(t);
  await t.rejects(neighReplace(connection, { ifindex: 9999, dst: '10.9.0.7', lladdr: '02:00:00:00:00:07' }), {
    code: 'ENODEV',
    message: 'RTM_NEWNEIGH 10.9.0.7 lladdr 02:00:00:00:00:07 dev #9999: ENODEV: No such device',
  });
});

t.test('a batch of thousands, half of it refused, loses no answer', async (t) => {
  const { connection, native, path, ifindex } = await scratchLink(t);
  const messages = Array.from({ length: 4000 }, (_, n) => {
    const dst = `10.${n % 2 === 0 ? 9 : 10}.${n >> 8}.${n & 255}`;
    const neigh = { ifindex, dst, lladdr: '02:00:00:00:00:07' };
    return n % 2 === 0 ? neighReplaceMessage(neigh) : neighDeleteMessage(neigh);
  });
  const codes = Array.from({ length: 4000 }, (_, n) => (n % 2 === 0 ? undefined : 'ENOENT'));
  const result = await connection.batch(messages);
  t.same(
    result.map((error) => error?.code),
    codes,
  );
  const again = await exchange(native, { path }, messages);
  t.same(
    again.map((error) => error?.code),
    codes,
  );
  const listed = await neighList(connection, { ifindex, family: AF_INET });
  t.equal(listed.filter((neigh) => neigh.dst.startsWith('10.9.')).length, 2000);
});
