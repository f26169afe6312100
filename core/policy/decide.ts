import { containsAddr, parseAddr, parsePrefix, type Addr } from '../addr.js';
import type { PolicyAnswer, PolicyVerdict } from '../api/policy.js';
import type { Policy, PolicyPeer, PolicyPort, PolicyProtocol, PolicyRule } from '../model.js';
import { isSelected, matchesLabels, NetworkRefs, type PolicyEndpoint, type PolicyWorld } from './selector.js';

/** A connection to be: addresses as the ends themselves have them, and the port that is connected to. */
export interface PolicyFlow {
  readonly from: string;
  readonly to: string;
  readonly protocol: PolicyProtocol;
  readonly port: number;
}

export type Direction = 'ingress' | 'egress';

function isPort(flow: PolicyFlow, { protocol = 'tcp', port, endPort = port }: PolicyPort): boolean {
  if (protocol !== flow.protocol) return false;
  return port === undefined || endPort === undefined || (flow.port >= port && flow.port <= endPort);
}

interface Lookup {
  readonly refs: NetworkRefs;
  readonly byAddress: ReadonlyMap<string, PolicyEndpoint>;
}

const contains = (subnet: string, addr: Addr): boolean => containsAddr(parsePrefix(subnet), addr);

function isPeer(peer: PolicyPeer, address: string, { refs, byAddress }: Lookup): boolean {
  const addr = parseAddr(address);
  if (peer.cidr !== undefined)
    return contains(peer.cidr, addr) && !(peer.except ?? []).some((part) => contains(part, addr));
  if (peer.endpoints === undefined) {
    return (peer.networks ?? []).some((ref) => refs.get(ref)?.subnets.some(({ subnet }) => contains(subnet, addr)));
  }
  const endpoint = byAddress.get(address);
  if (endpoint === undefined || !matchesLabels(endpoint.labels, peer.endpoints)) return false;
  return refs.ids(peer.networks)?.has(endpoint.network) ?? true;
}

function isPermitted(rule: PolicyRule, flow: PolicyFlow, address: string, lookup: Lookup): boolean {
  const { peers = [], ports = [] } = rule;
  return (
    (peers.length === 0 || peers.some((peer) => isPeer(peer, address, lookup))) &&
    (ports.length === 0 || ports.some((port) => isPort(flow, port)))
  );
}

function verdictOf(world: PolicyWorld, direction: Direction, flow: PolicyFlow, lookup: Lookup): PolicyVerdict {
  const [end, peer] = direction === 'ingress' ? [flow.to, flow.from] : [flow.from, flow.to];
  const endpoint = lookup.byAddress.get(end);
  if (endpoint === undefined)
    return { allowed: true, policies: [], rule: null, reason: `${end} is no endpoint: no policy selects it` };
  if (lookup.refs.get(endpoint.network)?.driver === 'macvlan')
    return {
      allowed: true,
      policies: [],
      rule: null,
      reason: `${end} is on a macvlan network: policies are not enforced`,
    };
  const selecting: Policy[] = world.policies.filter(
    (policy) => policy[direction] !== undefined && isSelected(policy, endpoint, lookup.refs),
  );
  const policies = selecting.map(({ name }) => name);
  if (selecting.length === 0)
    return { allowed: true, policies, rule: null, reason: `no policy selects ${end} for ${direction}` };
  for (const policy of selecting) {
    const at = (policy[direction] ?? []).findIndex((rule) => isPermitted(rule, flow, peer, lookup));
    if (at >= 0) {
      const rule = `${policy.name} ${direction}[${at}]`;
      return { allowed: true, policies, rule, reason: `allowed by ${rule}` };
    }
  }
  const reason = `${end} is selected for ${direction} by ${policies.join(', ')}, and no rule of ${policies.length === 1 ? 'it' : 'them'} allows it`;
  return { allowed: false, policies, rule: null, reason: reason.slice(0, 1000) };
}

/** Says whether a connection is allowed, and by which rule: what leaves must be allowed, and what arrives as well. */
export function decide(world: PolicyWorld, flow: PolicyFlow): PolicyAnswer {
  const byAddress = new Map(
    world.endpoints.flatMap((endpoint) => endpoint.addresses.map((address) => [address, endpoint] as const)),
  );
  const lookup = { refs: new NetworkRefs(world.networks), byAddress };
  const { from, to } = flow;
  const egress = verdictOf(world, 'egress', flow, lookup);
  const ingress = verdictOf(world, 'ingress', flow, lookup);
  return { from, to, allowed: egress.allowed && ingress.allowed, egress, ingress };
}
