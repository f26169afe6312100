import type { HostRecords, HostRegister, HostRegistered, HostRemoval, HostToken } from '../core/api/host.js';
import { canonicalAddr, isMulticast, isUnspecified, parseAddr } from '../core/addr.js';
import { TsnetError } from '../core/errors.js';
import { newGrid } from '../core/grid.js';
import { planHostRemoval } from '../core/ipam-return.js';
import type { Host, Network } from '../core/model.js';
import type { Txn } from '../lib/etcd/txn.js';
import { commit, now, requireReady, settingsOf, type ControllerContext } from './context.js';
import { hostState } from './liveness.js';
import { getNextGeneration, listBlocks, putBlockChange } from './store/blocks.js';
import { deleteCarrier, getCarrier } from './store/carriers.js';
import { deleteCarve, getCarve } from './store/carves.js';
import { deleteEndpoint, getEndpoint } from './store/endpoints.js';
import { deleteHost, getHost, getLiveness, putHost } from './store/hosts.js';
import { getNetwork } from './store/networks.js';
import { deleteHostTokens, putHostToken } from './store/tokens.js';
import type { Table } from './tables.js';
import { hashToken, newToken } from './token-files.js';

/** Endpoints removed in one transaction. */
const portion = 12;

/** Puts a host's record. Errors: ERR_HOST_NAME_IN_USE when another live agent has the name. */
export async function registerHost(
  context: ControllerContext,
  name: string,
  request: HostRegister,
): Promise<HostRegistered> {
  requireReady(context);
  const vtep = canonicalAddr(request.vtep, 'vtep');
  const addr = parseAddr(vtep);
  if (isUnspecified(addr) || isMulticast(addr)) {
    throw new TsnetError('ERR_INVALID_ADDRESS', `vtep: ${vtep} is no address of a host`, {
      details: { field: 'vtep', value: vtep },
    });
  }
  const host = await commit(context, `host ${name}`, async (txn) => {
    const before = await getHost(txn, name);
    await refuseOther(txn, name, request.instance);
    const record: Host = {
      v: 1,
      generation: (before?.generation ?? 0) + 1,
      name,
      vtep,
      underlayMtu: request.underlayMtu,
      bootId: request.bootId,
      instance: request.instance,
      version: request.version,
      leaseId: before?.leaseId ?? '0',
      lastSeen: now(),
    };
    putHost(txn, record);
    return record;
  });
  const settings = context.mirror.tables.settings.get('', '')?.value ?? {
    v: 1,
    generation: 0,
    ...pickSettings(context),
  };
  return { host, settings, epoch: context.mirror.epoch };
}

function pickSettings(context: ControllerContext): {
  readonly vxlanPort: number;
  readonly livenessMs: number;
  readonly hostsManageNetworks: boolean;
} {
  const { vxlanPort, livenessMs, hostsManageNetworks } = context.options;
  return { vxlanPort, livenessMs, hostsManageNetworks };
}

/** What the store has of a host. Errors: ERR_HOST_UNKNOWN. */
export function hostRecords(context: ControllerContext, name: string): HostRecords {
  requireReady(context);
  const { tables } = context.mirror;
  const host = tables.host.get('', name)?.value;
  if (host === undefined) throw hostUnknown(name);
  const own = <T extends { readonly host: string | null }>(table: Table<T>): T[] =>
    [...table.all()].flatMap(({ value }) => (value.host === name ? [value] : []));
  const records = { endpoints: own(tables.endpoint), carriers: own(tables.carrier), blocks: own(tables.block) };
  const named = new Set(Object.values(records).flatMap((list) => list.map(({ network }) => network)));
  const networks = [...tables.network.all()].map(({ value }) => value).filter(({ id }) => named.has(id));
  return { host, ...records, networks };
}

/**
 * Makes a token that is this host's alone: the one before it, and the hosts' common one, are good for its name no longer.
 * The host need not be known yet.
 */
export async function renewHostToken(context: ControllerContext, name: string): Promise<HostToken> {
  requireReady(context);
  const token = newToken();
  await commit(context, `token of host ${name}`, (txn) => putHostToken(txn, name, hashToken(token)));
  return { host: name, token };
}

/** Refuses an agent while another one lives under the same host name. */
export async function refuseOther(txn: Txn, name: string, instance: string): Promise<void> {
  const liveness = await getLiveness(txn, name);
  if (liveness === undefined || liveness.instance === instance) return;
  throw new TsnetError('ERR_HOST_NAME_IN_USE', `host: another agent is alive under the name "${name}"`, {
    details: { field: 'host', value: name },
  });
}

/** Errors: ERR_HOST_UNKNOWN. */
export async function requireHost(txn: Txn, name: string): Promise<Host> {
  const host = await getHost(txn, name);
  if (host === undefined) throw hostUnknown(name);
  return host;
}

function hostUnknown(name: string): TsnetError {
  return new TsnetError('ERR_HOST_UNKNOWN', `host: "${name}" is not known`, {
    details: { field: 'host', value: name },
  });
}

/**
 * Removes a host with its endpoints, carriers, blocks and token. The host's record goes last, so that a removal that
 * was cut short can be repeated.
 * Errors: ERR_HOST_UNKNOWN; ERR_HOST_ALIVE unless the host is down or `isForced`.
 */
export async function removeHost(context: ControllerContext, name: string, isForced: boolean): Promise<HostRemoval> {
  requireReady(context);
  if (context.mirror.tables.host.get('', name) === undefined) throw hostUnknown(name);
  const state = hostState(context.mirror, name, settingsOf(context).livenessMs);
  if (state !== 'down' && !isForced) {
    const what = state === 'up' ? 'is alive' : 'may be alive: it is not known yet whether it is down';
    throw new TsnetError('ERR_HOST_ALIVE', `host: "${name}" ${what}`, {
      details: { field: 'host', value: name, state },
    });
  }
  context.hub.end(name, 'ERR_HOST_UNKNOWN', 'the host was removed');
  const endpoints = await removeEndpoints(context, name);
  await removeCarriers(context, name);
  await removeCarves(context, name);
  let blocks = 0;
  for (const network of networksWith(context, name)) blocks += await returnBlocks(context, network, name);
  await commit(context, `host ${name}`, async (txn) => {
    await getHost(txn, name);
    deleteHost(txn, name);
    await deleteHostTokens(txn, name);
  });
  return { name, blocks, endpoints };
}

async function removeEndpoints(context: ControllerContext, host: string): Promise<number> {
  const held = [...context.mirror.tables.endpoint.all()].map(({ value }) => value).filter((one) => one.host === host);
  let count = 0;
  for (let from = 0; from < held.length; from += portion) {
    count += await commit(context, `endpoints of host ${host}`, async (txn) => {
      let removed = 0;
      for (const { network, id } of held.slice(from, from + portion)) {
        const endpoint = await getEndpoint(txn, network, id);
        if (endpoint?.host !== host) continue;
        deleteEndpoint(txn, endpoint);
        removed += 1;
      }
      return removed;
    });
  }
  return count;
}

async function removeCarriers(context: ControllerContext, host: string): Promise<void> {
  const held = [...context.mirror.tables.carrier.all()].map(({ value }) => value).filter((one) => one.host === host);
  for (let from = 0; from < held.length; from += portion) {
    await commit(context, `carriers of host ${host}`, async (txn) => {
      for (const { network } of held.slice(from, from + portion)) {
        const carrier = await getCarrier(txn, network, host);
        if (carrier !== undefined) deleteCarrier(txn, carrier);
      }
    });
  }
}

/** What the host was asked to give up is not its own to give any more: an answer on its way must find nothing. */
async function removeCarves(context: ControllerContext, owner: string): Promise<void> {
  const open = [...context.mirror.tables.carve.group(owner).values()].map(({ value }) => value.id);
  for (let from = 0; from < open.length; from += portion) {
    await commit(context, `carves of host ${owner}`, async (txn) => {
      for (const id of open.slice(from, from + portion)) {
        if ((await getCarve(txn, owner, id)) !== undefined) deleteCarve(txn, owner, id);
      }
    });
  }
}

function networksWith(context: ControllerContext, host: string): ReadonlySet<string> {
  const networks = new Set<string>();
  for (const { value } of context.mirror.tables.block.all()) if (value.host === host) networks.add(value.network);
  return networks;
}

async function returnBlocks(context: ControllerContext, networkId: string, host: string): Promise<number> {
  let returned = 0;
  for (let hasMore = true; hasMore;) {
    const plan = await commit(context, `blocks of host ${host}`, async (txn) => {
      const network: Pick<Network, 'id' | 'name' | 'subnets'> | undefined = await getNetwork(txn, networkId);
      if (network === undefined) return undefined;
      const nextGeneration = await getNextGeneration(txn, networkId);
      const blocks = await listBlocks(txn, networkId);
      const change = planHostRemoval({ network, blocks, nextGeneration, grids: network.subnets.map(newGrid), host });
      putBlockChange(txn, networkId, change);
      return change;
    });
    returned += plan?.returned ?? 0;
    hasMore = plan?.hasMore ?? false;
  }
  return returned;
}
