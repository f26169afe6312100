import { canonicalAddr, isAddrText } from '../core/addr.js';
import type { PolicyAnswer, PolicyBody, PolicyQuestion, PolicyView } from '../core/api/policy.js';
import { TsnetError } from '../core/errors.js';
import { policyKey } from '../core/keys.js';
import type { Endpoint, Policy } from '../core/model.js';
import { decide } from '../core/policy/decide.js';
import { requirePolicy } from '../core/policy/parse.js';
import { isSelected, NetworkRefs, policyWarnings, type PolicyWorld } from '../core/policy/selector.js';
import type { Txn } from '../lib/etcd/txn.js';
import { commit, now, requireReady, type ControllerContext } from './context.js';
import { decodeRecord, encodeRecord } from './store/record.js';

/** Questions about ends with many addresses are answered for so many pairs. */
const maxPairs = 64;

async function getPolicy(txn: Txn, name: string): Promise<Policy | undefined> {
  const kv = await txn.get(policyKey(name));
  return kv === undefined ? undefined : decodeRecord<Policy>(kv);
}

function policyUnknown(name: string): TsnetError {
  return new TsnetError('ERR_POLICY_UNKNOWN', `policy: "${name}" does not exist`, {
    details: { field: 'name', value: name },
  });
}

/** Policies, networks and endpoints as the mirror has them. */
function worldOf(context: ControllerContext): PolicyWorld & { readonly endpoints: readonly Endpoint[] } {
  const { policy, network, endpoint } = context.mirror.tables;
  return {
    policies: [...policy.all()].map(({ value }) => value).sort((a, b) => (a.name < b.name ? -1 : 1)),
    networks: [...network.all()].map(({ value }) => value),
    endpoints: [...endpoint.all()].map(({ value }) => value),
  };
}

/** What users see of a policy, with what it selects now. */
export function policyView(context: ControllerContext, policy: Policy): PolicyView {
  const { name, networks, selects, ingress, egress, createdAt, generation } = policy;
  const world = worldOf(context);
  const refs = new NetworkRefs(world.networks);
  const selected = world.endpoints.filter((endpoint) => isSelected(policy, endpoint, refs)).length;
  return {
    name,
    ...(networks === undefined ? {} : { networks }),
    selects,
    ...(ingress === undefined ? {} : { ingress }),
    ...(egress === undefined ? {} : { egress }),
    createdAt,
    generation,
    selected,
    warnings: policyWarnings(policy, world),
  };
}

export function listPolicies(context: ControllerContext): PolicyView[] {
  requireReady(context);
  return worldOf(context).policies.map((policy) => policyView(context, policy));
}

/** Errors: ERR_POLICY_UNKNOWN. */
export function findPolicy(context: ControllerContext, name: string): PolicyView {
  requireReady(context);
  const stored = context.mirror.tables.policy.get('', name);
  if (stored === undefined) throw policyUnknown(name);
  return policyView(context, stored.value);
}

/** Reads a policy that can be enforced where it says. Errors: ERR_INVALID_POLICY, ERR_DRIVER_UNSUPPORTED. */
function enforceable(context: ControllerContext, request: unknown): PolicyBody {
  const body = requirePolicy(request);
  const refs = new NetworkRefs([...context.mirror.tables.network.all()].map(({ value }) => value));
  for (const [at, ref] of (body.networks ?? []).entries()) {
    if (refs.get(ref)?.driver !== 'macvlan') continue;
    throw new TsnetError('ERR_DRIVER_UNSUPPORTED', `networks[${at}]: driver macvlan has no policies`, {
      details: { field: `networks[${at}]`, value: ref },
      hint: 'What endpoints of a macvlan network send does not pass the host; give the LAN itself such rules.',
    });
  }
  return body;
}

/** Makes a policy. Errors: ERR_INVALID_POLICY, ERR_DRIVER_UNSUPPORTED, ERR_POLICY_EXISTS. */
export async function createPolicy(context: ControllerContext, request: unknown): Promise<PolicyView> {
  requireReady(context);
  const body = enforceable(context, request);
  const policy = await commit(context, `policy ${body.name}`, async (txn) => {
    if ((await getPolicy(txn, body.name)) !== undefined)
      throw new TsnetError('ERR_POLICY_EXISTS', `name: a policy "${body.name}" exists already`, {
        details: { field: 'name', value: body.name },
      });
    return putPolicy(txn, body, undefined);
  });
  return policyView(context, policy);
}

/** Makes a policy, or puts it in the place of the one with its name. Errors: ERR_INVALID_POLICY, ERR_DRIVER_UNSUPPORTED. */
export async function replacePolicy(context: ControllerContext, name: string, request: unknown): Promise<PolicyView> {
  requireReady(context);
  const body = enforceable(context, request);
  if (body.name !== name)
    throw new TsnetError('ERR_INVALID_POLICY', `name: "${body.name}" is not the "${name}" of the path`, {
      details: { field: 'name' },
    });
  const policy = await commit(context, `policy ${name}`, async (txn) =>
    putPolicy(txn, body, await getPolicy(txn, name)),
  );
  return policyView(context, policy);
}

function putPolicy(txn: Txn, body: PolicyBody, before: Policy | undefined): Policy {
  const policy: Policy = {
    v: 1,
    // One that is made anew after a removal must not be older than what an agent may still hold.
    generation: before === undefined ? Date.now() : before.generation + 1,
    ...body,
    createdAt: before?.createdAt ?? now(),
  };
  txn.put(policyKey(body.name), encodeRecord(policy));
  return policy;
}

/** Errors: ERR_POLICY_UNKNOWN. */
export async function removePolicy(context: ControllerContext, name: string): Promise<void> {
  requireReady(context);
  await commit(context, `policy ${name}`, async (txn) => {
    if ((await getPolicy(txn, name)) === undefined) throw policyUnknown(name);
    txn.delete(policyKey(name));
  });
}

/** Says for each pair of addresses of one family which rule decides. Errors: ERR_ENDPOINT_UNKNOWN, ERR_INVALID_POLICY. */
export function explainPolicies(context: ControllerContext, question: PolicyQuestion): PolicyAnswer[] {
  requireReady(context);
  const world = worldOf(context);
  const { protocol, port } = question;
  if (protocol !== 'icmp' && port === 0)
    throw new TsnetError('ERR_INVALID_POLICY', 'port: must be from 1 to 65535', { details: { field: 'port' } });
  const froms = addressesOf(world.endpoints, question.from, 'from');
  const tos = addressesOf(world.endpoints, question.to, 'to');
  return froms
    .flatMap((from) =>
      tos
        .filter((to) => to.includes(':') === from.includes(':'))
        .map((to) => decide(world, { from, to, protocol, port })),
    )
    .slice(0, maxPairs);
}

function addressesOf(endpoints: readonly Endpoint[], ref: string, field: string): readonly string[] {
  if (isAddrText(ref)) return [canonicalAddr(ref)];
  const found = endpoints.filter(({ id, name, aliases }) => id === ref || name === ref || aliases.includes(ref));
  if (found.length === 0)
    throw new TsnetError('ERR_ENDPOINT_UNKNOWN', `${field}: no endpoint is called "${ref}"`, {
      details: { field, value: ref },
      hint: 'Give a name or id out of `tsnet endpoint ls`, or an address.',
    });
  return found.flatMap(({ addresses }) => addresses);
}
