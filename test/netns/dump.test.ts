import t from 'tap';
import { dumpRoutes } from '../../agent/reconcile/dump.js';
import { scratchNetns } from '../netlink/scratch.js';

t.test('routes of a link are those with our mark, and none when it has just gone', async (t) => {
  const { connection, ip, ipJson } = await scratchNetns(t);
  ip('link', 'add', 'tsb-1', 'type', 'bridge');
  ip('link', 'set', 'tsb-1', 'up');
  ip('route', 'add', '10.9.0.0/16', 'dev', 'tsb-1', 'proto', '84');
  ip('route', 'add', '10.8.0.0/16', 'dev', 'tsb-1');
  const ifindex = Number(ipJson('link', 'show', 'tsb-1')[0]?.['ifindex']);
  const link = { ifindex, name: 'tsb-1' };
  t.same(await dumpRoutes(connection, link), [{ kind: 'route', dst: '10.9.0.0/16', link: 'tsb-1', source: null }]);
  ip('link', 'del', 'tsb-1');
  t.same(await dumpRoutes(connection, link), []);
});
