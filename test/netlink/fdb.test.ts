import t from 'tap';
import { NTF_EXT_LEARNED, NTF_MASTER, NTF_SELF, NUD_NOARP, NUD_PERMANENT } from '../../lib/netlink/constants.js';
import {
  type Fdb,
  fdbAdd,
  fdbAppend,
  fdbAppendMessage,
  fdbDelete,
  fdbList,
  fdbReplace,
} from '../../lib/netlink/fdb.js';
import { linkAdd, linkGet } from '../../lib/netlink/link.js';
import { type Scratch, scratchNetns } from './scratch.js';

const zero = '00:00:00:00:00:00';
const mac = '02:00:00:00:00:07';

/** A VXLAN device as the port of a bridge. */
async function scratchOverlay(
  t: Parameters<typeof scratchNetns>[0],
): Promise<Scratch & { ifindex: number; master: number }> {
  const scratch = await scratchNetns(t);
  const { connection } = scratch;
  await linkAdd(connection, { ifname: 'br0', kind: 'bridge', up: true });
  const { ifindex: master } = await linkGet(connection, 'br0');
  await linkAdd(connection, {
    ifname: 'vx0',
    kind: 'vxlan',
    master,
    up: true,
    vxlan: { id: 77, local: '198.18.0.1', port: 4789, learning: false },
    bridgePort: { learning: false },
  });
  return { ...scratch, ifindex: (await linkGet(connection, 'vx0')).ifindex, master };
}

function ofMac(entries: readonly Record<string, unknown>[], wanted: string): Record<string, unknown>[] {
  return entries.filter((entry) => entry['mac'] === wanted);
}

t.test('the replication list grows by append, each destination once, and shrinks by delete', async (t) => {
  const { connection, ifindex, bridgeJson } = await scratchOverlay(t);
  const replicas = (): unknown[] =>
    ofMac(bridgeJson('fdb', 'show', 'dev', 'vx0'), zero)
      .map((entry) => entry['dst'])
      .sort();
  const append = ['198.18.0.2', '198.18.0.3', '198.18.0.3', '198.18.0.4'].map((dst) =>
    fdbAppendMessage({ ifindex, lladdr: zero, dst }),
  );
  t.same(await connection.batch(append), [undefined, undefined, undefined, undefined]);
  t.same(replicas(), ['198.18.0.2', '198.18.0.3', '198.18.0.4']);
  await fdbDelete(connection, { ifindex, lladdr: zero, dst: '198.18.0.3' });
  t.same(replicas(), ['198.18.0.2', '198.18.0.4']);
  await fdbDelete(connection, { ifindex, lladdr: zero, dst: '198.18.0.99' });
  t.same(replicas(), ['198.18.0.2', '198.18.0.4'], 'deleting a destination that is not there changes nothing');
  await t.rejects(fdbReplace(connection, { ifindex, lladdr: zero, dst: '198.18.0.5' }), {
    code: 'EOPNOTSUPP',
    message: /: Cannot replace non-unicast fdb entries$/,
  });
  await fdbDelete(connection, { ifindex, lladdr: zero });
  t.same(replicas(), []);
  await t.rejects(fdbDelete(connection, { ifindex, lladdr: zero }), {
    code: 'ENOENT',
    request: `RTM_DELNEIGH fdb ${zero} dev #${ifindex}`,
  });
});

t.test('a MAC has one VTEP, which replace moves; append does not', async (t) => {
  const { connection, ifindex, bridgeJson } = await scratchOverlay(t);
  const dsts = (): unknown[] => ofMac(bridgeJson('fdb', 'show', 'dev', 'vx0'), mac).map((entry) => entry['dst']);
  await fdbReplace(connection, { ifindex, lladdr: mac, dst: '198.18.0.2' });
  await fdbReplace(connection, { ifindex, lladdr: mac, dst: '198.18.0.3' });
  t.same(dsts(), ['198.18.0.3']);
  await fdbAppend(connection, { ifindex, lladdr: mac, dst: '198.18.0.4' });
  t.same(dsts(), ['198.18.0.3'], 'the kernel ignores it');
  await t.rejects(fdbAdd(connection, { ifindex, lladdr: mac, dst: '198.18.0.3' }), { code: 'EEXIST' });
  await fdbDelete(connection, { ifindex, lladdr: mac, dst: '198.18.0.3' });
  t.same(dsts(), []);
});

t.test('port, VNI, link and marks of an entry reach the kernel and come back', async (t) => {
  const { connection, ifindex, master, bridgeJson } = await scratchOverlay(t);
  const fdb: Fdb = {
    ifindex,
    lladdr: mac,
    dst: '198.18.0.2',
    vni: 99,
    port: 4790,
    viaIfindex: master,
    flags: NTF_SELF | NTF_EXT_LEARNED,
  };
  await fdbAdd(connection, fdb);
  t.match(ofMac(bridgeJson('fdb', 'show', 'dev', 'vx0'), mac), [
    { dst: '198.18.0.2', vni: 99, port: 4790, viaIf: 'br0', flags: ['self', 'extern_learn'] },
  ]);
  const read = (await fdbList(connection, { ifindex })).filter((entry) => entry.lladdr === mac);
  t.match(read, [{ ...fdb, state: NUD_NOARP | NUD_PERMANENT }]);
  t.equal(read.length, 1);
});

t.test("a MAC behind a port is the bridge's entry, static unless told otherwise", async (t) => {
  const { connection, ifindex, master, bridgeJson } = await scratchOverlay(t);
  await fdbReplace(connection, { ifindex, lladdr: mac, flags: NTF_MASTER });
  t.match(ofMac(bridgeJson('fdb', 'show', 'br', 'br0'), mac), [{ ifname: 'vx0', master: 'br0', state: 'static' }]);
  const read = (await fdbList(connection, { master })).filter((entry) => entry.lladdr === mac);
  t.match(read, [{ ifindex, master, state: NUD_NOARP }]);
  await fdbDelete(connection, { ifindex, lladdr: mac, flags: NTF_MASTER });
  t.same(ofMac(bridgeJson('fdb', 'show', 'br', 'br0'), mac), []);
});

t.test('entries that bridge added are read, of one link or of one bridge', async (t) => {
  const { connection, ifindex, master, bridge, ip } = await scratchOverlay(t);
  ip('link', 'add', 'vx6', 'type', 'vxlan', 'id', '5', 'local', 'fd00::1', 'dstport', '4790');
  bridge('fdb', 'append', zero, 'dev', 'vx6', 'dst', 'fd00::2', 'self');
  bridge('fdb', 'add', mac, 'dev', 'vx0', 'dst', '198.18.0.9', 'self', 'static');
  const six = (await linkGet(connection, 'vx6')).ifindex;
  t.match(await fdbList(connection, { ifindex: six }), [
    { ifindex: six, lladdr: zero, dst: 'fd00::2', flags: NTF_SELF },
  ]);
  t.match(
    (await fdbList(connection, { ifindex })).filter((fdb) => fdb.dst !== undefined),
    [{ lladdr: mac, dst: '198.18.0.9' }],
  );
  const all = await fdbList(connection);
  t.ok(all.some((fdb) => fdb.ifindex === six) && all.some((fdb) => fdb.ifindex === ifindex));
  const ofBridge = await fdbList(connection, { master });
  t.ok(ofBridge.length > 0 && ofBridge.every((fdb) => fdb.ifindex !== six));
});
