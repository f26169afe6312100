import type { ServiceCreate, ServiceView } from '../core/api/service.js';
import { parseAddr } from '../core/addr.js';
import { TsnetError } from '../core/errors.js';
import { singleCidr } from '../core/grid.js';
import { blockKey } from '../core/keys.js';
import type { Block, Network, Service } from '../core/model.js';
import { nextAddress, serviceBlocks, serviceOwner, servicePlaces, type ServicePlace } from '../core/service/address.js';
import { fixedAddresses, parseService, type ServiceDefinition } from '../core/service/parse.js';
import type { Txn } from '../lib/etcd/txn.js';
import { KeyedQueue } from '../lib/sync/keyed-queue.js';
import { releaseBlock, requestBlock } from './blocks.js';
import {
  commit,
  findNetwork,
  networkUnknown,
  now,
  readNetwork,
  settingsOf,
  type ControllerContext,
} from './context.js';
import { lookUpService, serviceUnknown, serviceView } from './service-views.js';
import { getBlock } from './store/blocks.js';
import { getAddressHolder } from './store/endpoints.js';
import { deleteService, getService, putNewService } from './store/services.js';

/** Creations through other controllers may choose the same address so many times. */
const mostAttempts = 20;
/** Those of one network through this one go in turn: together they would all choose the same address. */
const creations = new KeyedQueue();

interface Chosen {
  readonly place: ServicePlace;
  readonly address: string;
  readonly block: Block;
}

/**
 * Makes a service, with addresses out of blocks that belong to services.
 * Errors: ERR_NETWORK_UNKNOWN, ERR_SERVICE_EXISTS, ERR_PORT_IN_USE for a published port, those of `parseService` and of
 * `requestBlock`.
 */
export async function createService(context: ControllerContext, request: ServiceCreate): Promise<ServiceView> {
  const network = await findNetwork(context, request.network);
  const definition = parseService(request, network);
  const places = definition.mode === 'vip' ? servicePlaces(network, fixedAddresses(request)) : [];
  return creations.run(network.id, () => createAt(context, { network, definition, places }));
}

async function createAt(
  context: ControllerContext,
  asked: {
    readonly network: Network;
    readonly definition: ServiceDefinition;
    readonly places: readonly ServicePlace[];
  },
): Promise<ServiceView> {
  const { network, definition, places } = asked;
  checkGuarded(context, definition);
  checkPublished(context, definition);
  if (context.mirror.tables.service.get(network.id, definition.name) !== undefined)
    throw serviceExists(definition.name, network);
  const refused = new Set<string>();
  for (let attempt = 0; attempt < mostAttempts; attempt++) {
    const chosen: Chosen[] = [];
    for (const place of places) chosen.push(await chooseAddress(context, { network, place, refused }));
    const made = await commit(context, `service ${definition.name}`, (txn) => put(txn, definition, network, chosen));
    if ('generation' in made) return serviceView(context, made);
    const { taken } = made;
    if (taken.place.address !== undefined)
      throw new TsnetError('ERR_ADDRESS_IN_USE', `addresses: ${taken.address} is in use`, {
        details: { field: 'addresses', value: taken.address },
      });
    refused.add(taken.address);
  }
  throw new TsnetError('ERR_STORE_CONFLICT', `no address for service "${definition.name}": others took each one first`);
}

async function put(
  txn: Txn,
  definition: ServiceDefinition,
  { id, name }: Network,
  chosen: readonly Chosen[],
): Promise<Service | { readonly taken: Chosen }> {
  const network = await readNetwork(txn, id);
  if (network === undefined) throw networkUnknown(name);
  if ((await getService(txn, id, definition.name)) !== undefined) throw serviceExists(definition.name, network);
  await txn.load(chosen.map(({ block }) => blockKey(id, block.cidr)));
  for (const each of chosen) {
    const block = await getBlock(txn, id, each.block.cidr);
    const isOurs = block?.host === serviceOwner && !block.carved.includes(each.address);
    if (!isOurs || (await getAddressHolder(txn, id, each.address)) !== undefined) return { taken: each };
  }
  const addresses = chosen.map(({ address }) => address);
  const service: Service = {
    v: 1,
    generation: 1,
    ...definition,
    addresses,
    draining: [],
    createdAt: now(),
  };
  putNewService(txn, service);
  return service;
}

async function chooseAddress(
  context: ControllerContext,
  wanted: { readonly network: Network; readonly place: ServicePlace; readonly refused: ReadonlySet<string> },
): Promise<Chosen> {
  const { network, place, refused } = wanted;
  const { grid, subnet, address } = place;
  const { tables } = context.mirror;
  const request = { network: network.id, subnet };
  if (address !== undefined) {
    const { block } = await requestBlock(context, serviceOwner, { ...request, address });
    return { place, address, block };
  }
  const isV6 = grid.prefix.family === 6;
  const services = [...tables.service.group(network.id).values()].map(({ value }) => value);
  const ofFamily = services.flatMap(({ addresses, createdAt }) =>
    addresses.filter((one) => one.includes(':') === isV6).map((one) => ({ one, createdAt })),
  );
  const newest = ofFamily.reduce((a, b) => (b.createdAt >= a.createdAt ? b : a), { one: '', createdAt: '' }).one;
  const after = newest === '' ? undefined : newest;
  const taken = new Set(ofFamily.map(({ one }) => one));
  const isTaken = (one: string): boolean => taken.has(one) || refused.has(one);
  const blocks = [...tables.block.group(network.id).values()].map(({ value }) => value);
  for (const block of serviceBlocks(grid, blocks, after)) {
    const free = nextAddress(grid, block, isTaken, after);
    if (free !== null) return { place, address: free, block };
  }
  const { block } = await requestBlock(context, serviceOwner, request);
  const free = nextAddress(grid, block, isTaken);
  if (free !== null) return { place, address: free, block };
  throw new TsnetError('ERR_ADDRESS_EXHAUSTED', `subnet ${subnet} of network "${network.name}" has no address left`, {
    details: { network: network.name, subnet },
  });
}

/**
 * Refuses a port that hosts need for the cluster itself: every host would lead what comes for a controller to the
 * service's backends, tokens included. Errors: ERR_PORT_IN_USE.
 */
export function checkGuarded(context: ControllerContext, { publish = [] }: ServiceDefinition): void {
  const { vxlanPort, guarded = [] } = settingsOf(context);
  for (const { hostPort, protocol } of publish) {
    const isVxlan = protocol === 'udp' && hostPort === vxlanPort;
    if (!isVxlan && !(protocol === 'tcp' && guarded.some(({ port }) => port === hostPort))) continue;
    const holder = isVxlan ? 'VXLAN' : 'a controller or its etcd';
    throw new TsnetError('ERR_PORT_IN_USE', `publish: port ${hostPort}/${protocol} is held by ${holder}`, {
      details: { field: 'publish', value: hostPort, holder },
      hint: 'Choose another port: this one is needed by the cluster itself.',
    });
  }
}

/** Refuses a port of hosts that another service has. Errors: ERR_PORT_IN_USE. */
export function checkPublished(context: ControllerContext, { publish = [], network, name }: ServiceDefinition): void {
  for (const { value } of context.mirror.tables.service.all()) {
    if (value.network === network && value.name === name) continue;
    const clash = publish.find(({ hostPort, protocol }) =>
      value.publish?.some((other) => other.hostPort === hostPort && other.protocol === protocol),
    );
    if (clash !== undefined)
      throw new TsnetError(
        'ERR_PORT_IN_USE',
        `publish: port ${clash.hostPort}/${clash.protocol} is published by service "${value.name}"`,
        { details: { field: 'publish', value: clash.hostPort, holder: value.name } },
      );
  }
}

/** Removes a service; its addresses are free at once. Errors: ERR_SERVICE_UNKNOWN. */
export async function removeService(context: ControllerContext, ref: string): Promise<void> {
  const { network, name } = lookUpService(context, ref);
  const gone = await commit(context, `service ${name}`, async (txn) => {
    const service = await getService(txn, network, name);
    if (service === undefined) throw serviceUnknown(ref);
    deleteService(txn, service);
    return service;
  });
  // Addresses that were asked for by name go back; whole blocks stay until the network goes.
  for (const address of gone.addresses) {
    const cidr = singleCidr(parseAddr(address));
    const block = context.mirror.tables.block.get(network, cidr)?.value;
    if (block?.host !== serviceOwner) continue;
    const { generation } = block;
    await releaseBlock(context, serviceOwner, { network, cidr, generation }).catch((error: unknown) => {
      context.log.warn({ network, cidr, error: String(error) }, 'an address of a removed service was not given back');
    });
  }
}

function serviceExists(name: string, network: Network): TsnetError {
  return new TsnetError('ERR_SERVICE_EXISTS', `name: network "${network.name}" has a service "${name}" already`, {
    details: { field: 'name', value: name },
  });
}
