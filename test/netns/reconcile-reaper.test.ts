import t from 'tap';
import { LinkReaper } from '../../agent/reconcile/link-reaper.js';
import { NetlinkConnection } from '../../lib/netlink/connection.js';
import { RTM_DELLINK } from '../../lib/netlink/constants.js';
import { linkList } from '../../lib/netlink/link.js';
import { countingNative, newNetns } from './reconcile-fixture.js';

t.test('deletions that coincide share one request, and each has its own outcome', async (t) => {
  const host = await newNetns(t, 'reap');
  const counting = countingNative();
  const connection = await NetlinkConnection.open(counting.native, { netns: { path: host.path } });
  t.teardown(() => connection.close());
  for (let n = 0; n < 20; n++) host.ip('link', 'add', `v${n}`, 'type', 'veth', 'peer', 'name', `p${n}`);
  host.ip('link', 'add', 'other', 'type', 'bridge');
  const links = await linkList(connection);
  const reaper = new LinkReaper(connection, (group) => links.some((link) => link.group === group));
  const indexes = links.filter(({ ifname }) => /^v\d+$/.test(ifname)).map(({ ifindex }) => ifindex);
  t.equal(indexes.length, 20);
  const deletes = (): number => counting.sent.filter((type) => type === RTM_DELLINK).length;

  await Promise.all(indexes.slice(0, 10).map((ifindex) => reaper.delete(ifindex)));
  t.equal(deletes(), 1, 'ten links, one deletion');
  t.equal((await linkList(connection)).filter(({ kind }) => kind === 'veth').length, 20, 'ten pairs are left');

  const first = reaper.delete(indexes[10] ?? 0);
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  const others = indexes.slice(11).map((ifindex) => reaper.delete(ifindex));
  await Promise.all([first, ...others]);
  t.equal(deletes(), 3, 'one that was under way, and one for all that came meanwhile');
  t.same((await linkList(connection)).map(({ ifname }) => ifname).sort(), ['lo', 'other']);
});

t.test('a missing link is deleted already; one that cannot be deleted fails alone', async (t) => {
  const host = await newNetns(t, 'reap');
  const counting = countingNative();
  const connection = await NetlinkConnection.open(counting.native, { netns: { path: host.path } });
  t.teardown(() => connection.close());
  host.ip('link', 'add', 'b0', 'type', 'bridge');
  host.ip('link', 'add', 'b1', 'type', 'bridge');
  const links = await linkList(connection);
  const indexOf = (name: string): number => links.find(({ ifname }) => ifname === name)?.ifindex ?? 0;
  const reaper = new LinkReaper(connection, () => false);
  const outcomes = await Promise.allSettled(
    [indexOf('b0'), indexOf('lo'), 4711, indexOf('b1')].map((ifindex) => reaper.delete(ifindex)),
  );
  t.match(outcomes, [
    { status: 'fulfilled' },
    { status: 'rejected', reason: { code: 'EOPNOTSUPP' } },
    { status: 'fulfilled' },
    { status: 'fulfilled' },
  ]);
  t.same(
    (await linkList(connection)).map(({ ifname }) => ifname),
    ['lo'],
  );
  await reaper.delete(indexOf('b0'));
  t.pass('again is a success');
});

t.test('a group that somebody uses is passed over', async (t) => {
  const host = await newNetns(t, 'reap');
  const { native } = countingNative();
  const connection = await NetlinkConnection.open(native, { netns: { path: host.path } });
  t.teardown(() => connection.close());
  host.ip('link', 'add', 'theirs', 'group', `${0x74730000}`, 'type', 'bridge');
  host.ip('link', 'add', 'b0', 'type', 'bridge');
  host.ip('link', 'add', 'b1', 'type', 'bridge');
  const links = await linkList(connection);
  const reaper = new LinkReaper(connection, (group) => links.some((link) => link.group === group));
  const ours = links.filter(({ ifname }) => /^b\d$/.test(ifname));
  await Promise.all(ours.map(({ ifindex }) => reaper.delete(ifindex)));
  t.same((await linkList(connection)).map(({ ifname }) => ifname).sort(), ['lo', 'theirs']);
});
