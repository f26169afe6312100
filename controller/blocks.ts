import type { BlockGrant, BlockRelease, BlockRequest, CarveAnswer } from '../core/api/publication.js';
import { canonicalAddr, canonicalPrefix, containsAddr, parseAddr } from '../core/addr.js';
import { TsnetError } from '../core/errors.js';
import { newGrid, singleCidr, type Grid } from '../core/grid.js';
import { addressInUse, planBlock, planCarved, type BlockPlan } from '../core/ipam.js';
import { blocksGuardKey, hostKey, networkKey } from '../core/keys.js';
import { planRelease } from '../core/ipam-return.js';
import type { Block, Carve, Network } from '../core/model.js';
import { nextAddress, serviceOwner } from '../core/service/address.js';
import type { Txn } from '../lib/etcd/txn.js';
import {
  commit,
  commitInTurn,
  networkUnknown,
  newId,
  requireReady,
  settingsOf,
  type ControllerContext,
} from './context.js';
import { requireHost } from './hosts.js';
import { hostState } from './liveness.js';
import { getNextGeneration, listBlocks, putBlockChange } from './store/blocks.js';
import { deleteCarve, getCarve, putCarve, putCarveReply, type CarveReply } from './store/carves.js';
import { getAddressHolder } from './store/endpoints.js';
import { serviceAt } from './service-views.js';
import { getNetwork } from './store/networks.js';

/** How long an owner has to give up an address. */
const carveTimeoutMs = 3000;
/** When the store forgets a carve and its answer by itself. */
const carveLeaseMs = 60_000;

type CarvePlan = Extract<BlockPlan, { kind: 'carve' }>;

/**
 * Grants a host a block, or one address out of another host's block after that host has agreed.
 * Errors: ERR_NETWORK_UNKNOWN, ERR_HOST_UNKNOWN, ERR_ADDRESS_IN_USE, ERR_ADDRESS_HELD_ELSEWHERE, ERR_ADDRESS_EXHAUSTED and others
 * of `planBlock`.
 */
export async function requestBlock(
  context: ControllerContext,
  host: string,
  request: BlockRequest,
): Promise<BlockGrant> {
  requireReady(context);
  const end = performance.now() + carveTimeoutMs;
  const refusedBy = new Set<string>();
  let late: CarvePlan | undefined;
  for (;;) {
    const plan = await planGrant(context, host, { request, refusedBy }).catch((error: unknown) => {
      if (late !== undefined && error instanceof TsnetError && error.code === 'ERR_ADDRESS_EXHAUSTED')
        throw heldElsewhere(late);
      throw error;
    });
    if (plan.kind !== 'carve') return { block: plan.block };
    if (plan.owner === serviceOwner) {
      const given = await giveServiceAddress(context, plan, { network: request.network, host });
      if (given !== null) return { block: given };
      if (request.address !== undefined)
        throw addressInUse(
          { name: nameOf(context, request.network) },
          request.address,
          serviceAt(context, request.network, request.address),
        );
      refusedBy.add(plan.owner);
      continue;
    }
    const reply = await askOwner(context, { plan, network: request.network, host, timeoutMs: end - performance.now() });
    if (reply === undefined) {
      if (request.address !== undefined || performance.now() >= end) throw heldElsewhere(plan);
      late = plan;
    } else if (reply.address !== null) {
      const block = await carvedBlock(context, request.network, reply.address);
      if (block?.host === host) return { block };
    } else if (request.address !== undefined) {
      throw addressInUse(
        { name: nameOf(context, request.network) },
        request.address,
        reply.holder ?? `host ${plan.owner}`,
      );
    }
    refusedBy.add(plan.owner);
  }
}

async function planGrant(
  context: ControllerContext,
  host: string,
  asked: { readonly request: BlockRequest; readonly refusedBy: ReadonlySet<string> },
): Promise<BlockPlan> {
  const { request, refusedBy } = asked;
  const turn = { guard: blocksGuardKey(request.network), what: `blocks of network ${request.network}` };
  return commitInTurn(context, turn, async (txn) => {
    await txn.load([hostKey(host), networkKey(request.network), blocksGuardKey(request.network)]);
    if (host !== serviceOwner) await requireHost(txn, host);
    const network = await requireNetwork(txn, request.network);
    const state = {
      network,
      nextGeneration: await getNextGeneration(txn, network.id),
      blocks: await listBlocks(txn, network.id),
    };
    const address = request.address === undefined ? {} : { address: canonicalAddr(request.address) };
    const isAhead = request.ahead === true;
    const plan = planBlock({
      ...state,
      grid: gridOfSubnet(network, request.subnet),
      host,
      refusedBy,
      isAhead,
      ...address,
    });
    if (plan.kind === 'grant') putBlockChange(txn, network.id, plan);
    return plan;
  });
}

/** Gives an address out of a block of the services to a host; null when services use it, or all of the block. */
async function giveServiceAddress(
  context: ControllerContext,
  plan: CarvePlan,
  to: { readonly network: string; readonly host: string },
): Promise<Block | null> {
  return commit(context, `address of block ${plan.cidr}`, async (txn) => {
    const network = await requireNetwork(txn, to.network);
    const blocks = await listBlocks(txn, network.id);
    const block = blocks.find(({ cidr }) => cidr === plan.cidr);
    const state = { network, nextGeneration: await getNextGeneration(txn, network.id), blocks };
    if (block?.host !== serviceOwner) return null;
    const grid = gridOfAddress(network, plan.cidr.split('/', 1)[0] ?? '');
    const taken = new Set(
      [...context.mirror.tables.service.group(network.id).values()].flatMap(({ value }) => value.addresses),
    );
    const address = plan.address ?? nextAddress(grid, block, (one) => taken.has(one));
    if (address === null || (await getAddressHolder(txn, network.id, address)) !== undefined) return null;
    const given = planCarved({ ...state, grid, host: to.host, owner: serviceOwner, address });
    if (given.kind === 'grant') putBlockChange(txn, network.id, given);
    return given.kind === 'carve' ? null : given.block;
  });
}

async function askOwner(
  context: ControllerContext,
  question: { readonly plan: CarvePlan; readonly network: string; readonly host: string; readonly timeoutMs: number },
): Promise<CarveReply | undefined> {
  const { plan } = question;
  // Known to be down: waiting would change nothing.
  if (hostState(context.mirror, plan.owner, settingsOf(context).livenessMs) === 'down' || question.timeoutMs <= 0)
    return undefined;
  const id = newId('carve');
  const { leaseId } = await context.client.leaseGrant(carveLeaseMs);
  try {
    await commit(context, 'carve', async (txn) => {
      await requireNetwork(txn, question.network);
      const carve: Carve = {
        v: 1,
        generation: 1,
        id,
        network: question.network,
        cidr: plan.cidr,
        address: plan.address,
        owner: plan.owner,
        requester: question.host,
      };
      putCarve(txn, carve, leaseId);
    });
    const { tables } = context.mirror;
    const reply = (): CarveReply | undefined => context.mirror.tables['carve-answer'].get(plan.owner, id)?.value;
    await context.mirror.until(() => reply() !== undefined || context.mirror.tables !== tables, question.timeoutMs);
    // An answer that came while the carve was being taken back stands.
    return reply() ?? (await withdraw(context, plan.owner, id));
  } finally {
    await context.client.leaseRevoke(leaseId).catch(() => undefined);
  }
}

async function withdraw(context: ControllerContext, owner: string, id: string): Promise<CarveReply | undefined> {
  await commit(context, 'carve', async (txn) => {
    if ((await getCarve(txn, owner, id)) !== undefined) deleteCarve(txn, owner, id);
  });
  return context.mirror.tables['carve-answer'].get(owner, id)?.value;
}

/**
 * Takes an owner's answer: the address moves to the requester in one transaction, or the refusal is passed on.
 * Errors: ERR_NOT_FOUND when nobody waits any longer: the owner keeps the address.
 */
export async function answerCarve(
  context: ControllerContext,
  owner: string,
  id: string,
  answer: CarveAnswer,
): Promise<void> {
  requireReady(context);
  const { leaseId } = await context.client.leaseGrant(carveLeaseMs);
  await commit(context, `carve ${id}`, async (txn) => {
    const carve = await getCarve(txn, owner, id);
    if (carve === undefined)
      throw new TsnetError('ERR_NOT_FOUND', `carve: ${id} of host ${owner} is not waited for (any longer)`);
    const address = answer.address === null ? null : canonicalAddr(answer.address);
    if (address !== null) await giveAway(txn, carve, address);
    putCarveReply(txn, carve, { v: 1, generation: 1, address, holder: answer.holder ?? null }, leaseId);
  });
}

async function giveAway(txn: Txn, carve: Carve, address: string): Promise<void> {
  if (carve.address !== null && carve.address !== address) {
    throw new TsnetError('ERR_INVALID_REQUEST', `address: ${address} is not the one asked for, ${carve.address}`);
  }
  const network = await requireNetwork(txn, carve.network);
  const state = {
    network,
    nextGeneration: await getNextGeneration(txn, network.id),
    blocks: await listBlocks(txn, network.id),
  };
  const grid = gridOfAddress(network, address);
  const plan = planCarved({ ...state, grid, host: carve.requester, owner: carve.owner, address });
  if (plan.kind === 'grant') putBlockChange(txn, network.id, plan);
}

/** Takes a block back. Errors: ERR_NETWORK_UNKNOWN, ERR_STALE_GENERATION when it was granted anew since. */
export async function releaseBlock(context: ControllerContext, host: string, request: BlockRelease): Promise<void> {
  requireReady(context);
  const cidr = canonicalPrefix(request.cidr, 'cidr');
  const turn = { guard: blocksGuardKey(request.network), what: `block ${cidr}` };
  await commitInTurn(context, turn, async (txn) => {
    const network = await requireNetwork(txn, request.network);
    const state = {
      network,
      nextGeneration: await getNextGeneration(txn, network.id),
      blocks: await listBlocks(txn, network.id),
    };
    const grids = network.subnets.map(newGrid);
    const change = planRelease({ ...state, grids, host, cidr, generation: request.generation });
    if (change.put.length + change.remove.length > 0) putBlockChange(txn, network.id, change);
  });
}

async function carvedBlock(context: ControllerContext, network: string, address: string): Promise<Block | undefined> {
  const cidr = singleCidr(parseAddr(address));
  await context.mirror.until(() => context.mirror.tables.block.get(network, cidr) !== undefined, 1000);
  return context.mirror.tables.block.get(network, cidr)?.value;
}

async function requireNetwork(txn: Txn, id: string): Promise<Network> {
  const network = await getNetwork(txn, id);
  if (network === undefined) throw networkUnknown(id);
  return network;
}

function nameOf(context: ControllerContext, id: string): string {
  return context.mirror.tables.network.get('', id)?.value.name ?? id;
}

function gridOfSubnet(network: Network, text: string): Grid {
  const wanted = canonicalPrefix(text, 'subnet');
  const subnet = network.subnets.find((one) => one.subnet === wanted);
  if (subnet !== undefined) return newGrid(subnet);
  throw new TsnetError('ERR_INVALID_REQUEST', `subnet: ${wanted} is not one of network "${network.name}"`, {
    details: { field: 'subnet', value: wanted },
  });
}

function gridOfAddress(network: Network, address: string): Grid {
  const addr = parseAddr(address);
  const grid = network.subnets.map(newGrid).find(({ prefix }) => containsAddr(prefix, addr));
  if (grid !== undefined) return grid;
  throw new TsnetError(
    'ERR_ADDRESS_OUTSIDE_SUBNET',
    `address: ${address} lies in no subnet of network "${network.name}"`,
    {
      details: { field: 'address', value: address },
    },
  );
}

function heldElsewhere(plan: CarvePlan): TsnetError {
  const what = plan.address === null ? `an address of block ${plan.cidr}` : `address: ${plan.address}`;
  return new TsnetError(
    'ERR_ADDRESS_HELD_ELSEWHERE',
    `${what} lies with host ${plan.owner}, which did not give it up in time`,
    {
      details: { owner: plan.owner, cidr: plan.cidr },
    },
  );
}
