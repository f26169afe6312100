import type { ServiceCreate, ServiceView } from '../core/api/service.js';
import { parseAddr } from '../core/addr.js';
import { TsnetError } from '../core/errors.js';
import { singleCidr } from '../core/grid.js';
import { blockKey } from '../core/keys.js';
import { addressInUse } from '../core/ipam.js';
import type { Network, Service } from '../core/model.js';
import { serviceOwner, servicePlaces, type ServicePlace } from '../core/service/address.js';
import { fixedAddresses, parseService, type ServiceDefinition } from '../core/service/parse.js';
import type { Txn } from '../lib/etcd/txn.js';
import { KeyedQueue } from '../lib/sync/keyed-queue.js';
import { releaseBlock } from './blocks.js';
import { commit, findNetwork, networkUnknown, now, readNetwork, type ControllerContext } from './context.js';
import { chooseAddress, holderText, type ChosenAddress } from './service-addresses.js';
import { checkGuarded, checkPublished, claimPublished } from './service-ports.js';
import { lookUpService, serviceUnknown, serviceView } from './service-views.js';
import { getBlock } from './store/blocks.js';
import { getAddressHolder } from './store/endpoints.js';
import { deleteService, getService, putNewService } from './store/services.js';

/** Creations through other controllers may choose the same address so many times. */
const mostAttempts = 20;
/** Those of one network through this one go in turn: together they would all choose the same address. */
const creations = new KeyedQueue();

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
    const chosen: ChosenAddress[] = [];
    for (const place of places) chosen.push(await chooseAddress(context, { network, place, refused }));
    const made = await commit(context, `service ${definition.name}`, (txn) =>
      put(context, txn, { definition, network, chosen }),
    );
    if ('generation' in made) return serviceView(context, made);
    const { taken, holder } = made;
    if (taken.place.address !== undefined) throw addressInUse(network, taken.address, holder);
    refused.add(taken.address);
  }
  throw new TsnetError('ERR_STORE_CONFLICT', `no address for service "${definition.name}": others took each one first`);
}

async function put(
  context: ControllerContext,
  txn: Txn,
  wanted: {
    readonly definition: ServiceDefinition;
    readonly network: Network;
    readonly chosen: readonly ChosenAddress[];
  },
): Promise<Service | { readonly taken: ChosenAddress; readonly holder: string }> {
  const { definition, chosen } = wanted;
  const { id, name } = wanted.network;
  const network = await readNetwork(txn, id);
  if (network === undefined) throw networkUnknown(name);
  if ((await getService(txn, id, definition.name)) !== undefined) throw serviceExists(definition.name, network);
  await txn.load(chosen.map(({ block }) => blockKey(id, block.cidr)));
  for (const each of chosen) {
    const block = await getBlock(txn, id, each.block.cidr);
    const holder = await getAddressHolder(txn, id, each.address);
    if (holder !== undefined) return { taken: each, holder: holderText(holder) };
    const isOurs = block?.host === serviceOwner && !block.carved.includes(each.address);
    if (!isOurs) return { taken: each, holder: 'another host' };
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
  await claimPublished(context, txn, service);
  putNewService(txn, service);
  return service;
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
