import t from 'tap';
import { formatPrefix } from '../../core/addr.js';
import { parseRoutes4, parseRoutes6 } from '../../controller/host-routes.js';

void t.test("this machine's IPv4 routes are read, but default routes and those of tsnet's links", async (t) => {
  const text = [
    'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT',
    'eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0',
    'eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0',
    'eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0',
    'eth2\t0000010A\t00000000\t0000\t0\t0\t0\t0000FFFF\t0\t0\t0',
    'tsb-0123abcd\t0000400A\t00000000\t0001\t0\t0\t0\t00F0FFFF\t0\t0\t0',
    '',
  ].join('\n');
  t.same(parseRoutes4(text).map(formatPrefix), ['192.168.2.0/24', '10.0.0.0/8']);
  t.same(parseRoutes4(''), []);
});

void t.test("this machine's IPv6 routes are read, but default, link-local and multicast ones", async (t) => {
  const rest =
    '00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001';
  const text = [
    `fd120034000000000000000000000000 40 ${rest} eth0`,
    `fe800000000000000000000000000000 40 ${rest} eth0`,
    `ff000000000000000000000000000000 08 ${rest} eth0`,
    `00000000000000000000000000000000 00 ${rest} eth0`,
    `fd740000000000000000000000000000 40 ${rest} tsb-0123abcd`,
    '',
  ].join('\n');
  t.same(parseRoutes6(text).map(formatPrefix), ['fd12:34::/64']);
});
