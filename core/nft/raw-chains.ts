import { ownVxlanMatch, type TableChain } from './chain.js';
import { both } from './families.js';

/** What is looked at before connections are tracked: packets that must not be, and those that have no business here. */
export function rawChains(vxlanPort: number): TableChain[] {
  const ownVxlan = ownVxlanMatch(vxlanPort);
  return [
    {
      name: 'raw-in',
      hook: { type: 'filter', hook: 'prerouting', priority: -300 },
      rules: ['iifname @links goto raw-from-sandbox', `${ownVxlan} goto raw-from-vtep`],
    },
    {
      name: 'raw-from-sandbox',
      rules: [
        // route_localnet is on for these links: nothing of 127/8 may come in by them.
        'ip daddr 127.0.0.0/8 counter drop',
        'ip saddr 127.0.0.0/8 counter drop',
        'ip hdrlength > 5 goto raw-options',
      ],
    },
    {
      name: 'raw-options',
      rules: [
        // A route that the sender chose would be looked up behind all of this (RFC 791 §3.1).
        'ip option lsrr exists counter drop',
        'ip option ssrr exists counter drop',
      ],
    },
    { name: 'raw-from-vtep', rules: both('IP saddr @vteps# notrack') },
    {
      name: 'raw-out',
      hook: { type: 'filter', hook: 'output', priority: -300 },
      rules: [`${ownVxlan} goto raw-to-vtep`],
    },
    { name: 'raw-to-vtep', rules: both('IP daddr @vteps# notrack') },
  ];
}
