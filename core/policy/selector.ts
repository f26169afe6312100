import type { Endpoint, LabelRequirement, Labels, LabelSelector, Network, Policy } from '../model.js';

/** What policies look at of an endpoint. */
export type PolicyEndpoint = Pick<Endpoint, 'id' | 'network' | 'addresses' | 'labels'>;

/** All that a decision depends on. */
export interface PolicyWorld {
  readonly policies: readonly Policy[];
  readonly networks: readonly Pick<Network, 'id' | 'name' | 'subnets' | 'driver'>[];
  readonly endpoints: readonly PolicyEndpoint[];
}

function holds(labels: Labels, { key, operator, values = [] }: LabelRequirement): boolean {
  const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}

/** Reports whether labels meet every condition of a selector. A label that is absent is not in any list. */
export function matchesLabels(labels: Labels, selector: LabelSelector): boolean {
  const { matchLabels = {}, matchExpressions = [] } = selector;
  return (
    Object.entries(matchLabels).every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value) &&
    matchExpressions.every((requirement) => holds(labels, requirement))
  );
}

/** Finds networks by name or, where no network has that name, by id. */
export class NetworkRefs {
  readonly #byRef = new Map<string, PolicyWorld['networks'][number]>();

  constructor(networks: PolicyWorld['networks']) {
    for (const network of networks) this.#byRef.set(network.id, network);
    for (const network of networks) this.#byRef.set(network.name, network);
  }

  get(ref: string): PolicyWorld['networks'][number] | undefined {
    return this.#byRef.get(ref);
  }

  /** The ids of those that exist; null: no limit. */
  ids(refs: readonly string[] | undefined): ReadonlySet<string> | null {
    if (refs === undefined) return null;
    return new Set(refs.flatMap((ref) => this.get(ref)?.id ?? []));
  }
}

/** Reports whether a policy selects an endpoint. */
export function isSelected(policy: Policy, endpoint: PolicyEndpoint, refs: NetworkRefs): boolean {
  const limit = refs.ids(policy.networks);
  return (limit === null || limit.has(endpoint.network)) && matchesLabels(endpoint.labels, policy.selects);
}

/** What may not be meant by a policy; it holds all the same. */
export function policyWarnings(policy: Policy, world: Omit<PolicyWorld, 'policies'>): string[] {
  const refs = new NetworkRefs(world.networks);
  const rules = [...(policy.ingress ?? []), ...(policy.egress ?? [])];
  const named = [
    ...(policy.networks ?? []),
    ...rules.flatMap((rule) => (rule.peers ?? []).flatMap((peer) => peer.networks ?? [])),
  ];
  const warnings = [...new Set(named)]
    .filter((ref) => refs.get(ref) === undefined)
    .map((ref) => `network "${ref}" does not exist (yet)`);
  const selected = world.endpoints.filter((endpoint) => isSelected(policy, endpoint, refs));
  if (selected.length === 0) warnings.push('it selects no endpoint (yet)');
  const unguarded = new Set(
    selected.flatMap(({ network }) => {
      const found = refs.get(network);
      return found?.driver === 'macvlan' ? [found.name] : [];
    }),
  );
  for (const name of unguarded)
    warnings.push(`not enforced for endpoints of network "${name}": driver macvlan bypasses the host`);
  return warnings;
}
