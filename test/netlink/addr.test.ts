import t from 'tap';
import { Writer } from '../../lib/bytes/writer.js';
import { addrAdd, addrDelete, addrList, addrReplace, addrReplaceMessage } from '../../lib/netlink/addr.js';
import {
  AF_INET6,
  IFA_F_NODAD,
  IFA_F_NOPREFIXROUTE,
  IFA_F_PERMANENT,
  INFINITY_LIFE_TIME,
  RT_SCOPE_HOST,
} from '../../lib/netlink/constants.js';
import { linkAdd, linkGet } from '../../lib/netlink/link.js';
import { type Scratch, scratchNetns } from './scratch.js';

async function scratchLink(t: Parameters<typeof scratchNetns>[0]): Promise<Scratch & { ifindex: number }> {
  const scratch = await scratchNetns(t);
  await linkAdd(scratch.connection, { ifname: 'br0', kind: 'bridge', up: true, afSpec: { inet6: { addrGenMode: 1 } } });
  const { ifindex } = await linkGet(scratch.connection, 'br0');
  return { ...scratch, ifindex };
}

function addrsOf(scratch: Scratch): Record<string, unknown>[] {
  const [link] = scratch.ipJson('addr', 'show', 'dev', 'br0');
  const addrs = (link?.['addr_info'] ?? []) as Record<string, unknown>[];
  return addrs.sort((a, b) => (String(a['local']) < String(b['local']) ? -1 : 1));
}

t.test('ip sees the addresses that were added, in both families', async (t) => {
  const scratch = await scratchLink(t);
  const { connection, ifindex } = scratch;
  t.same(addrsOf(scratch), [], 'no link-local address: the link went up after addrgenmode none');
  await addrReplace(connection, {
    ifindex,
    address: '10.9.0.2/24',
    broadcast: '10.9.0.255',
    label: 'br0:x',
    priority: 7,
    protocol: 77,
  });
  await addrReplace(connection, {
    ifindex,
    address: '10.8.0.1/32',
    peer: '10.8.0.2',
    flags: IFA_F_NOPREFIXROUTE,
    scope: RT_SCOPE_HOST,
  });
  await addrReplace(connection, {
    ifindex,
    address: 'fd00:9::1/64',
    flags: IFA_F_NODAD | IFA_F_NOPREFIXROUTE,
    cacheinfo: { preferredSec: 0, validSec: INFINITY_LIFE_TIME },
  });
  t.match(addrsOf(scratch), [
    { local: '10.8.0.1', address: '10.8.0.2', prefixlen: 32, noprefixroute: true, scope: 'host' },
    { local: '10.9.0.2', prefixlen: 24, broadcast: '10.9.0.255', label: 'br0:x', metric: 7, scope: 'global' },
    { local: 'fd00:9::1', prefixlen: 64, nodad: true, noprefixroute: true, deprecated: true, preferred_life_time: 0 },
  ]);
  const listed = await addrList(connection, { ifindex });
  t.match(listed, [
    { address: '10.8.0.1/32', peer: '10.8.0.2' },
    { address: '10.9.0.2/24', protocol: 77, label: 'br0:x', priority: 7 },
    { address: 'fd00:9::1/64', cacheinfo: { preferredSec: 0, validSec: INFINITY_LIFE_TIME } },
  ]);
  t.ok(listed.every((addr) => ((addr.flags ?? 0) & IFA_F_PERMANENT) !== 0));
  for (const addr of listed) await addrDelete(connection, addr);
  t.same(addrsOf(scratch), []);
});

t.test('addresses that ip added are read, filtered by link and by family', async (t) => {
  const { connection, ifindex, ip } = await scratchLink(t);
  ip('link', 'set', 'lo', 'up');
  ip('addr', 'add', '10.9.0.3/28', 'brd', '+', 'dev', 'br0');
  ip('addr', 'add', 'fd00::3/120', 'dev', 'br0', 'nodad', 'preferred_lft', '100', 'valid_lft', '200');
  const all = await addrList(connection);
  t.same(all.map((addr) => addr.address).sort(), ['10.9.0.3/28', '127.0.0.1/8', '::1/128', 'fd00::3/120']);
  t.match(
    all.find((addr) => addr.address === '10.9.0.3/28'),
    { ifindex, broadcast: '10.9.0.15', label: 'br0' },
  );
  const [six, ...others] = await addrList(connection, { ifindex, family: AF_INET6 });
  t.equal(six?.address, 'fd00::3/120');
  t.ok((six?.cacheinfo?.preferredSec ?? 0) > 90 && (six?.cacheinfo?.validSec ?? 0) > 190);
  t.same(others, []);
});

t.test('adding twice is EEXIST, replacing twice is not, and refusals name the address', async (t) => {
  const { connection, ifindex } = await scratchLink(t);
  const addr = { ifindex, address: '10.9.0.2/24' };
  await addrAdd(connection, addr);
  await t.rejects(addrAdd(connection, addr), { code: 'EEXIST', request: `RTM_NEWADDR 10.9.0.2/24 dev #${ifindex}` });
  await addrReplace(connection, addr);
  t.equal((await addrList(connection, { ifindex })).length, 1);
  await addrDelete(connection, addr);
  await t.rejects(addrDelete(connection, addr), { code: 'EADDRNOTAVAIL' });
  await t.rejects(addrReplace(connection, { ifindex: 9999, address: '10.9.0.2/24' }), { code: 'ENODEV' });
  const [refused] = await connection.batch([
    addrReplaceMessage({ ifindex, address: 'fd00::1/64', broadcast: '10.0.0.1' }),
  ]);
  t.equal(refused, undefined, 'IPv6 has no broadcast: the kernel drops it');
  t.throws(() => addrReplaceMessage({ ifindex, address: '10.9.0.2/240' }).body(new Writer()), { name: 'EncodeError' });
});
