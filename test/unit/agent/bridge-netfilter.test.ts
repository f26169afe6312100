import t from 'tap';
import { BridgeNetfilter } from '../../../agent/bridge-netfilter.js';
import type { KernelObject } from '../../../core/kernel.js';
import { newLogger } from '../../../lib/log.js';

const bridge = { kind: 'bridge', name: 'tsb-1' } as unknown as KernelObject;
const filtered = { ...bridge, filtered: true } as KernelObject;

t.test('the module is loaded for the first bridge that is filtered, and its lack is a warning', async (t) => {
  let loads = 0;
  let isThere = false;
  const netfilter = new BridgeNetfilter({
    log: newLogger('test', 'silent'),
    isThere: () => isThere,
    load: async () => {
      loads += 1;
    },
  });
  netfilter.note([bridge]);
  t.same([loads, netfilter.warnings], [0, []], 'nobody needs it');
  netfilter.note([bridge, filtered]);
  netfilter.note([filtered]);
  t.equal(loads, 1);
  t.match(netfilter.warnings, [{ code: 'ERR_KERNEL_FEATURE', message: /modprobe br_netfilter/ }]);
  isThere = true;
  t.same(netfilter.warnings, [], 'it was loaded by hand');
});

t.test('nothing is loaded where it is there', (t) => {
  const load = (): Promise<void> => Promise.reject(new Error('loaded'));
  const netfilter = new BridgeNetfilter({ log: newLogger('test', 'silent'), isThere: () => true, load });
  netfilter.note([filtered]);
  t.same(netfilter.warnings, []);
  t.end();
});
