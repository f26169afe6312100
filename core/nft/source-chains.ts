import type { TableChain } from './chain.js';
import { both } from './families.js';

/** By which address a packet leaves: for outside, or toward a sandbox whose reply would otherwise go past this host. */
export const sourceChains: readonly TableChain[] = [
  {
    name: 'nat-post',
    hook: { type: 'nat', hook: 'postrouting', priority: 100 },
    rules: [
      'oifname @links goto toward-sandbox',
      ...both('IP daddr != @nets# snat IP to IP saddr map @source#', 'IP saddr @masq# IP daddr != @nets# masquerade'),
    ],
  },
  {
    name: 'toward-sandbox',
    rules: [
      'ct status & dnat != dnat return',
      ...both('IP daddr @detour# snat IP to IP daddr map @own#'),
      'ip saddr 127.0.0.0/8 snat ip to ip daddr map @own4',
      ...both(
        // All others of the outside keep their address.
        'IP saddr != @nets# return',
        // Back to the network that it came from, its own endpoint included: replies would go past this host.
        // By addresses, since br_netfilter tells this chain nothing of where a packet came in.
        'IP saddr . IP daddr @same# snat IP to IP daddr map @own#',
        'IP daddr @crossed# snat IP to IP daddr map @own#',
      ),
    ],
  },
];
