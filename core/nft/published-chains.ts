import { portProtocols } from './table-sets.js';
import type { TableChain } from './chain.js';
import { both } from './families.js';

/** Published ports: where what comes to an address of the host is led to an endpoint. */
export const publishedChains: readonly TableChain[] = [
  {
    name: 'nat-in',
    hook: { type: 'nat', hook: 'prerouting', priority: -100 },
    rules: [
      // It comes before the kernel's own check of addresses that have no business on the wire.
      'ip daddr 127.0.0.0/8 return',
      'ip6 daddr ::1 return',
      'fib daddr type local jump published',
    ],
  },
  {
    name: 'nat-out',
    hook: { type: 'nat', hook: 'output', priority: -100 },
    rules: [
      // No answer would come back to it, as there is no route_localnet for IPv6: refused, not left waiting.
      'ip6 daddr ::1 return',
      'fib daddr type local jump published',
    ],
  },
  {
    name: 'published',
    rules: both(
      'dnat IP to IP daddr . meta l4proto . th dport map @port-at#',
      'dnat IP to meta l4proto . th dport map @port#',
      'dnat IP to IP daddr . meta l4proto . th dport map @range-at#',
      ...portProtocols.map((protocol) => `dnat IP to ${protocol} dport map @range-${protocol}#`),
    ),
  },
];
