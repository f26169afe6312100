import { randomInt } from 'node:crypto';
import type { NetworkCreate, NetworkUpdate } from '../core/api/network.js';
import { TsnetError } from '../core/errors.js';
import { checkJoin, withJoined, withoutJoined } from '../core/join.js';
import { subnetsGuardKey } from '../core/keys.js';
import type { Network } from '../core/model.js';
import { applyLabels, checkLabels, parseNetworkName } from '../core/name.js';
import { planMoreSubnets, planSubnets, type SubnetContext } from '../core/subnets.js';
import { chooseVni, firstVni, lastVni } from '../core/vni.js';
import type { Txn } from '../lib/etcd/txn.js';
import {
  commitInTurn,
  findNetwork,
  networkUnknown,
  newId,
  now,
  readNetwork,
  requireReady,
  type ControllerContext,
} from './context.js';
import { checkDriverOptions } from './driver-options.js';
import { readHostRoutes } from './host-routes.js';
import { chooseMtu } from './mtu.js';
import { listEndpoints } from './store/endpoints.js';
import { listServices } from './store/services.js';
import {
  deleteNetwork,
  getNetwork,
  listNetworks,
  loadNetworkKeys,
  putNetwork,
  putNewNetwork,
  touchSubnetsGuard,
} from './store/networks.js';

/** How long a removed network cannot come back out of some host's journal. */
const tombstoneMs = 30 * 24 * 3600 * 1000;
const maxNamed = 10;

/** Makes a network. Errors: those of the rules in core/name, core/subnets and core/vni; ERR_NETWORK_NAME_IN_USE, ERR_INVALID_OPTION, ERR_INVALID_MTU, ERR_MTU_UNDERLAY. */
export async function createNetwork(context: ControllerContext, request: NetworkCreate): Promise<Network> {
  requireReady(context);
  const name = parseNetworkName(request.name);
  const driver = request.driver ?? 'overlay';
  const labels = request.labels ?? {};
  checkLabels(labels);
  const options = checkDriverOptions(driver, request.options ?? {});
  if (request.internal === true && options['masquerade-source'] !== undefined) {
    throw new TsnetError('ERR_INVALID_OPTION', 'options.masquerade-source: an internal network has no way out', {
      details: { field: 'options.masquerade-source', value: options['masquerade-source'] },
    });
  }
  const hostRoutes = await readHostRoutes();
  const id = newId('network');
  return commitInTurn(context, { guard: subnetsGuardKey, what: `network ${name}` }, async (txn) => {
    await touchSubnetsGuard(txn);
    const held = await loadNetworkKeys(txn, { id, name, vni: null });
    if (held.name !== undefined) throw nameInUse(name);
    const networks = await listNetworks(txn);
    const subnets = planSubnets({ ...request, driver }, { networks, hostRoutes, pools: context.pools });
    const network: Network = {
      v: 1,
      generation: 1,
      id,
      name,
      driver,
      subnets,
      vni: driver === 'overlay' ? freeVni(networks) : null,
      mtu: chooseMtu({ driver, asked: request.mtu, subnets, hosts: hostsOf(context) }),
      internal: request.internal ?? false,
      labels,
      options,
      createdAt: now(),
    };
    const joined = await joinNetworks(txn, network, { join: request.join ?? [] });
    putNewNetwork(txn, { ...joined, generation: 1 });
    return { ...joined, generation: 1 };
  });
}

/** Changes labels, adds subnets, joins and parts networks. Errors: ERR_NETWORK_UNKNOWN, ERR_JOIN_UNSUPPORTED, and as for creation. */
export async function updateNetwork(context: ControllerContext, ref: string, request: NetworkUpdate): Promise<Network> {
  requireReady(context);
  const hostRoutes = await readHostRoutes();
  return commitInTurn(context, { guard: subnetsGuardKey, what: `network ${ref}` }, async (txn) => {
    const network = await requireNetwork(txn, ref);
    const labels = applyLabels(network.labels, request.labels ?? {});
    checkLabels(labels);
    const subnets = await moreSubnets(txn, network, request.addSubnets ?? [], { hostRoutes, pools: context.pools });
    if (subnets.some(({ subnet }) => subnet.includes(':')))
      chooseMtu({ driver: network.driver, asked: network.mtu, subnets, hosts: [] });
    const joined = await joinNetworks(txn, { ...network, labels, subnets }, request);
    const changed: Network = { ...joined, generation: network.generation + 1 };
    putNetwork(txn, changed);
    return changed;
  });
}

/** Joins a network to others and takes it from others, which is written to theirs; its own record is the caller's to write. */
async function joinNetworks(
  txn: Txn,
  network: Network,
  change: { readonly join?: readonly string[]; readonly unjoin?: readonly string[] },
): Promise<Network> {
  let joined = network;
  const others = new Map<string, Network>();
  const other = async (ref: string): Promise<Network> => {
    const found = ref === network.name ? network : await requireNetwork(txn, ref);
    return others.get(found.id) ?? found;
  };
  for (const ref of change.unjoin ?? []) {
    const each = await other(ref);
    joined = withoutJoined(joined, each.id);
    others.set(each.id, withoutJoined(each, network.id));
  }
  for (const ref of change.join ?? []) {
    const each = await other(ref);
    checkJoin(network, each);
    joined = withJoined(joined, each);
    others.set(each.id, withJoined(each, network));
  }
  for (const each of others.values()) if (each.id !== network.id) putNetwork(txn, each);
  return joined;
}

async function moreSubnets(
  txn: Txn,
  network: Network,
  asked: NonNullable<NetworkUpdate['addSubnets']>,
  context: Omit<SubnetContext, 'networks'>,
): Promise<Network['subnets']> {
  if (asked.length === 0) return network.subnets;
  await touchSubnetsGuard(txn);
  return planMoreSubnets(network, asked, { ...context, networks: await listNetworks(txn) });
}

/** Removes a network with its blocks and carriers. Errors: ERR_NETWORK_UNKNOWN, ERR_NETWORK_IN_USE naming its endpoints or services. */
export async function removeNetwork(context: ControllerContext, ref: string): Promise<void> {
  await findNetwork(context, ref);
  const { leaseId } = await context.client.leaseGrant(tombstoneMs);
  await commitInTurn(context, { guard: subnetsGuardKey, what: `network ${ref}` }, async (txn) => {
    const network = await requireNetwork(txn, ref);
    const endpoints = await listEndpoints(txn, network.id);
    if (endpoints.length > 0) {
      const named = endpoints.slice(0, maxNamed).map((one) => `${one.name ?? one.id} on ${one.host}`);
      const rest = endpoints.length > maxNamed ? ` and ${endpoints.length - maxNamed} more` : '';
      throw new TsnetError(
        'ERR_NETWORK_IN_USE',
        `network "${network.name}" has endpoints: ${named.join(', ')}${rest}`,
        {
          details: { network: network.name, endpoints: endpoints.slice(0, maxNamed).map((one) => one.id) },
        },
      );
    }
    const services = await listServices(txn, network.id);
    if (services.length > 0) {
      const named = services.slice(0, maxNamed).map(({ name }) => name);
      throw new TsnetError('ERR_NETWORK_IN_USE', `network "${network.name}" has services: ${named.join(', ')}`, {
        details: { network: network.name, services: named },
        hint: 'Remove them first: tsnet service rm NAME.',
      });
    }
    await touchSubnetsGuard(txn);
    for (const id of network.joined ?? []) {
      const other = await getNetwork(txn, id);
      if (other !== undefined) putNetwork(txn, withoutJoined(other, network.id));
    }
    deleteNetwork(txn, network, leaseId);
  }).catch(async (error: unknown) => {
    await context.client.leaseRevoke(leaseId).catch(() => undefined);
    throw error;
  });
}

async function requireNetwork(txn: Txn, ref: string): Promise<Network> {
  const network = await readNetwork(txn, ref);
  if (network === undefined) throw networkUnknown(ref);
  return network;
}

function nameInUse(name: string): TsnetError {
  return new TsnetError('ERR_NETWORK_NAME_IN_USE', `name: a network "${name}" exists already`, {
    details: { field: 'name', value: name },
  });
}

function freeVni(networks: readonly Network[]): number {
  const taken = new Set(networks.flatMap(({ vni }) => (vni === null ? [] : [vni])));
  return chooseVni(taken, randomInt(lastVni - firstVni + 1));
}

function* hostsOf(context: ControllerContext): Generator<{ readonly vtep: string; readonly underlayMtu: number }> {
  for (const { value } of context.mirror.tables.host.all()) yield value;
}
