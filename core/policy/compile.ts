import type { Family } from '../addr.js';
import { hash64 } from '../mac.js';
import type { Policy, PolicyProtocol, PolicyRule } from '../model.js';
import type { Direction } from './decide.js';
import { formatRange, mergePorts, mergeRanges, rangeOf, without } from './range.js';
import { matchesLabels, NetworkRefs, type PolicyEndpoint, type PolicyWorld } from './selector.js';

/** Equal in shape to lib/nft's. */
export interface PolicySet {
  readonly name: string;
  readonly key: readonly string[];
  readonly value?: readonly string[];
  readonly interval?: boolean;
}

export interface PolicyChain {
  readonly name: string;
  readonly hook?: { readonly type: 'filter'; readonly hook: 'forward'; readonly priority: number };
  readonly rules: readonly string[];
}

export interface PolicyTable {
  readonly family: 'inet';
  readonly name: typeof policyTableName;
  readonly sets: readonly PolicySet[];
  readonly chains: readonly PolicyChain[];
}

export interface PolicyElement {
  readonly set: string;
  readonly key: string;
  readonly value?: string;
}

export interface CompiledPolicies {
  /** Null: nothing is enforced on this host. */
  readonly table: PolicyTable | null;
  /** Those that say who is selected come first: what has to be loaded in parts denies too much for a moment, never too little. */
  readonly elements: readonly PolicyElement[];
  /** Networks whose bridge must show its frames to the table. */
  readonly networks: ReadonlySet<string>;
}

/** Policies that meet in an endpoint. */
interface PolicyGroup {
  readonly direction: Direction;
  /** Indexes into the policies. */
  readonly policies: readonly number[];
}

export const policyTableName = 'tsnet-policy';

const families = [
  { family: 4, ip: 'ip', type: 'ipv4_addr' },
  { family: 6, ip: 'ip6', type: 'ipv6_addr' },
] as const;

const protocols: readonly PolicyProtocol[] = ['tcp', 'udp', 'sctp', 'icmp'];
const familyOf = (address: string): Family => (address.includes(':') ? 6 : 4);
const short = (direction: Direction): string => (direction === 'ingress' ? 'in' : 'out');

/** The connection's ends as they are behind all translation, whichever way a packet goes. */
const endOf = {
  from: (ip: string) => `ct original ${ip} saddr`,
  to: (ip: string) => `ct reply ${ip} saddr`,
} as const;

interface Parts {
  readonly sets: PolicySet[];
  readonly elements: PolicyElement[];
}

/** What a rule says of the port: one expression for each protocol; [''] where it says nothing. */
function portTests(prefix: string, rule: PolicyRule, parts: Parts): string[] {
  const { ports = [] } = rule;
  if (ports.length === 0) return [''];
  return protocols.flatMap((protocol) => {
    const asked = ports.filter((each) => (each.protocol ?? 'tcp') === protocol);
    if (asked.length === 0) return [];
    if (protocol === 'icmp') return [' meta l4proto icmp', ' meta l4proto ipv6-icmp'];
    if (asked.some(({ port }) => port === undefined)) return [` meta l4proto ${protocol}`];
    const set = `${prefix}/${protocol}`;
    parts.sets.push({ name: set, key: ['inet_service'], interval: true });
    for (const { first, last } of mergePorts(asked))
      parts.elements.push({ set, key: first === last ? String(first) : `${first}-${last}` });
    return [` meta l4proto ${protocol} ct reply proto-src @${set}`];
  });
}

interface Scope {
  readonly endpoints: readonly PolicyEndpoint[];
  readonly refs: NetworkRefs;
  readonly direction: Direction;
}

/** What a rule says of the other end: one expression for each set that has elements or may come to have some. */
function peerTests(prefix: string, rule: PolicyRule, scope: Scope, parts: Parts): string[] {
  const { peers = [] } = rule;
  const { endpoints, refs, direction } = scope;
  if (peers.length === 0) return [''];
  const tests: string[] = [];
  const selectors = peers.flatMap((peer) =>
    peer.endpoints === undefined ? [] : [{ selector: peer.endpoints, limit: refs.ids(peer.networks) }],
  );
  const ranges = peers.flatMap((peer) => {
    if (peer.cidr !== undefined) return without(rangeOf(peer.cidr), (peer.except ?? []).map(rangeOf));
    if (peer.endpoints !== undefined) return [];
    return (peer.networks ?? []).flatMap((ref) => (refs.get(ref)?.subnets ?? []).map(({ subnet }) => rangeOf(subnet)));
  });
  const addresses = new Set(
    selectors.length === 0
      ? []
      : endpoints
          .filter(({ network, labels }) =>
            selectors.some(({ selector, limit }) => (limit?.has(network) ?? true) && matchesLabels(labels, selector)),
          )
          .flatMap((endpoint) => endpoint.addresses),
  );
  for (const { family, ip, type } of families) {
    const end = endOf[direction === 'ingress' ? 'from' : 'to'](ip);
    if (selectors.length > 0) {
      const set = `${prefix}/peers${family}`;
      parts.sets.push({ name: set, key: [type] });
      for (const address of addresses) if (familyOf(address) === family) parts.elements.push({ set, key: address });
      tests.push(`${end} @${set}`);
    }
    const merged = mergeRanges(ranges.filter(({ first }) => first.family === family));
    if (merged.length > 0) {
      const set = `${prefix}/nets${family}`;
      parts.sets.push({ name: set, key: [type], interval: true });
      for (const range of merged) parts.elements.push({ set, key: formatRange(range) });
      tests.push(`${end} @${set}`);
    }
  }
  return tests;
}

/** The rules of a policy in one direction: they return to where the connection's other end is looked at. */
function policyRules(policy: Policy, scope: Scope, parts: Parts): string[] {
  return (policy[scope.direction] ?? []).flatMap((rule, at) => {
    const prefix = `${short(scope.direction)}/${policy.name}/${at}`;
    const ports = portTests(prefix, rule, parts);
    const peers = peerTests(prefix, rule, scope, parts);
    return peers.flatMap((peer) => ports.map((port) => `${`${peer}${port}`.trim()} return`.trim()));
  });
}

/** Packets that conntrack knows nothing of, and connections met in the middle: who began them cannot be told. */
function strayRules(): string[] {
  return families.flatMap(({ family, ip }) =>
    ['saddr', 'daddr'].flatMap((end) => [
      `${ip} ${end} @selected${family} ct state invalid,untracked counter drop`,
      `${ip} ${end} @selected${family} ct state new tcp flags & (fin | syn | rst | ack) != syn counter drop`,
    ]),
  );
}

function forwardChain(): PolicyChain {
  return {
    name: 'forward',
    hook: { type: 'filter', hook: 'forward', priority: -4 },
    rules: [
      // What keeps IPv6 itself going, and errors that belong to a connection.
      'icmpv6 type { 130-137, 143 } accept',
      'meta l4proto { icmp, ipv6-icmp } ct state related accept',
      ...strayRules(),
      ...families.map(({ family, ip }) => `${endOf.from(ip)} vmap @out${family}`),
      ...families.map(({ family, ip }) => `${endOf.to(ip)} vmap @in${family}`),
    ],
  };
}

/** Names are told apart by a stroke, which no policy's name has. */
const longestName = 120;

/** The chain of policies that meet: it says which they are, where that is not too long. */
function chainName({ direction, policies }: PolicyGroup, all: readonly Policy[]): string {
  const names = policies.map((at) => all[at]?.name ?? '').join('/');
  const name = `${short(direction)}/${names}`;
  return name.length <= longestName ? name : `${short(direction)}/_/${hash64(names).toString(16)}`;
}

export interface CompileOptions {
  /** Whether an endpoint is of this host: each end of a connection is seen to by its own host. */
  readonly isLocal: (endpoint: PolicyEndpoint) => boolean;
  /** The table is there already: it stays while there are policies, also when they select nobody here any more. */
  readonly isLoaded?: boolean;
}

/**
 * Compiles policies for one host: an endpoint of this host that is selected is an element that leads to the chain of
 * those policies that meet in it; who they permit are sets. Rules grow with policies and with the ways in which they
 * meet, not with endpoints, addresses or ports. Chains and sets have their names from those of policies, so that of two
 * tables only what differs has to be changed.
 */
export function compilePolicies(world: PolicyWorld, { isLocal, isLoaded = false }: CompileOptions): CompiledPolicies {
  const { policies, endpoints } = world;
  const refs = new NetworkRefs(world.networks);
  const limits = policies.map((policy) => refs.ids(policy.networks));
  const groups = new Map<string, PolicyGroup>();
  const networks = new Set<string>();
  const selections: PolicyElement[] = [];
  for (const endpoint of endpoints) {
    if (!isLocal(endpoint) || refs.get(endpoint.network)?.driver === 'macvlan') continue;
    const selecting = policies.flatMap((policy, at) =>
      (limits[at]?.has(endpoint.network) ?? true) && matchesLabels(endpoint.labels, policy.selects) ? [at] : [],
    );
    for (const direction of ['egress', 'ingress'] as const) {
      const indexes = selecting.filter((at) => policies[at]?.[direction] !== undefined);
      if (indexes.length === 0) continue;
      const group: PolicyGroup = { direction, policies: indexes };
      const chain = chainName(group, policies);
      groups.set(chain, group);
      networks.add(endpoint.network);
      for (const address of endpoint.addresses) {
        const family = familyOf(address);
        selections.push({ set: `${short(direction)}${family}`, key: address, value: `jump ${chain}` });
        selections.push({ set: `selected${family}`, key: address });
      }
    }
  }
  if (groups.size === 0 && !(isLoaded && policies.length > 0)) return { table: null, elements: [], networks };

  const parts: Parts = { sets: [], elements: [] };
  const rules = new Map<string, string[]>();
  const used = new Set([...groups.values()].flatMap((group) => group.policies.map((at) => `${group.direction} ${at}`)));
  policies.forEach((policy, at) => {
    for (const direction of ['egress', 'ingress'] as const) {
      if (!used.has(`${direction} ${at}`)) continue;
      rules.set(`${direction} ${at}`, policyRules(policy, { endpoints, refs, direction }, parts));
    }
  });
  const chains = [...groups].map(([name, { direction, policies: indexes }]) => ({
    name,
    rules: [...indexes.flatMap((at) => rules.get(`${direction} ${at}`) ?? []), 'counter drop'],
  }));
  const sets: PolicySet[] = [
    ...families.flatMap(({ family, type }): PolicySet[] => [
      { name: `selected${family}`, key: [type] },
      { name: `out${family}`, key: [type], value: ['verdict'] },
      { name: `in${family}`, key: [type], value: ['verdict'] },
    ]),
    ...parts.sets,
  ];
  return {
    table: { family: 'inet', name: policyTableName, sets, chains: [...chains, forwardChain()] },
    elements: [...selections, ...parts.elements],
    networks,
  };
}
