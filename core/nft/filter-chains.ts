import { ownVxlanMatch, vxlanMatch, type TableChain } from './chain.js';
import { both } from './families.js';

/** Mark of accepted packets, for a rule in another table. */
export const acceptedMark = 0x1000;

/** What sandboxes may reach and who may reach them: the host itself, each other, other networks and the outside. */
export function filterChains(vxlanPort: number): TableChain[] {
  const [vxlan, ownVxlan] = [vxlanMatch(vxlanPort), ownVxlanMatch(vxlanPort)];
  return [
    {
      name: 'input',
      hook: { type: 'filter', hook: 'input', priority: -5 },
      // From a sandbox none is accepted, whoever it says it is.
      rules: ['iifname @links goto to-host', `${ownVxlan} goto from-vtep`],
    },
    { name: 'from-vtep', rules: both('IP saddr != @vteps# counter drop') },
    {
      name: 'to-host',
      rules: [
        `${vxlan} counter drop`,
        // Replies to what the host began by a published port are translated back by now.
        'ip daddr 127.0.0.0/8 ct state { new, invalid, untracked } counter drop',
        'tcp dport @guarded-ports counter drop',
        ...both(
          'IP daddr . th dport @guarded# counter drop',
          // Only the network's own gateway and host address are local to its bridge.
          'IP daddr @nets# fib daddr . iif type != { local, broadcast, multicast } counter drop',
        ),
      ],
    },
    {
      name: 'forward',
      hook: { type: 'filter', hook: 'forward', priority: -5 },
      rules: [
        'iifname @links goto from-sandbox',
        'oifname @links goto to-sandbox',
        // With bridge-nf-call-iptables, what a bridge of others merely passes on comes by here too, as from and to it.
        'iifname . oifname @passing return',
        'meta nfproto @closed counter drop',
      ],
    },
    {
      name: 'from-sandbox',
      rules: [
        'iifname . oifname @joined goto accepted',
        // Sources that are not of this link's networks.
        'fib saddr . iif oif missing counter drop',
        `${vxlan} counter drop`,
        ...both('IP daddr . th dport @guarded# counter drop'),
        // Wherever it goes: most packets of published ports are looked up no further.
        'ct status dnat ct state established,related goto accepted',
        'oifname @links goto across',
        // To a network that this host does not carry.
        ...both('IP daddr @nets# goto translated'),
        'ct state established,related goto accepted',
        'ct state invalid counter drop',
        'iifname != @open counter drop',
        'oifname @apart accept',
        'goto accepted',
      ],
    },
    {
      name: 'across',
      rules: [
        // Stateless: where the sandboxes are on different hosts, each host sees one direction only.
        'iifname . oifname @routed goto accepted',
        'goto translated',
      ],
    },
    {
      name: 'translated',
      rules: [
        // Not by being established alone: what was so while two networks were joined ends with it.
        'iifname @open ct status dnat goto accepted',
        'counter drop',
      ],
    },
    {
      name: 'to-sandbox',
      rules: ['ct state established,related goto accepted', 'ct status dnat goto accepted', 'counter drop'],
    },
    { name: 'accepted', rules: [`meta mark set meta mark | 0x${acceptedMark.toString(16)} accept`] },
  ];
}
