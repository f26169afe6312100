import type { Publication } from '../core/api/publication.js';
import { canonicalAddr, containsAddr, formatPrefix, parseAddr, type Addr } from '../core/addr.js';
import { TsnetError } from '../core/errors.js';
import { blockContaining, newGrid, singleCidr, type Grid } from '../core/grid.js';
import { addressInUse } from '../core/ipam.js';
import { parseMac } from '../core/mac.js';
import type { Carrier, Endpoint, Network } from '../core/model.js';
import { addressKey, blockKey, carrierKey, endpointKey, macKey, networkKey } from '../core/keys.js';
import type { Txn } from '../lib/etcd/txn.js';
import { networkUnknown } from './context.js';
import { getBlock } from './store/blocks.js';
import { deleteCarrier, getCarrier, hostHolder, putCarrier } from './store/carriers.js';
import { deleteEndpoint, getAddressHolder, getEndpoint, getMacHolder, putEndpoint } from './store/endpoints.js';
import { getNetwork } from './store/networks.js';

type EndpointGone = NonNullable<Publication['endpointsGone']>[number];
type CarrierGone = NonNullable<Publication['carriersGone']>[number];
/** A network as the controller has it in memory. */
type KnownNetwork = (id: string) => Network | undefined;

/**
 * The keys that taking a record will read, as far as they can be told beforehand: read with one call for a whole
 * publication, they save a call for each record. What is wrong or missing here is read when it is needed.
 */
export function keysOfEndpoint({ network, id, mac, addresses }: Endpoint, known: KnownNetwork): string[] {
  return [endpointKey(network, id), macKey(network, mac), ...keysOfAddresses(network, addresses, known)];
}

/** As `keysOfEndpoint`. */
export function keysOfCarrier({ network, host, addresses }: Carrier, known: KnownNetwork): string[] {
  return [carrierKey(network, host), ...keysOfAddresses(network, addresses, known)];
}

function keysOfAddresses(id: string, addresses: readonly string[], known: KnownNetwork): string[] {
  const network = known(id);
  const grids = network?.subnets.map(newGrid) ?? [];
  const keys = addresses.flatMap((address) => {
    try {
      const { whole, single } = placeOf(network ?? { name: id }, grids, address);
      return [addressKey(id, address), blockKey(id, whole), blockKey(id, single)];
    } catch {
      // What is wrong with it is said when the record is taken.
      return [];
    }
  });
  return [networkKey(id), ...keys];
}

/** Takes an endpoint's record, unless it is another host's, older, or collides. */
export async function takeEndpoint(txn: Txn, host: string, published: Endpoint): Promise<void> {
  refuseForeign(host, published.host, `endpoint ${published.id}`);
  const endpoint: Endpoint = {
    ...published,
    addresses: published.addresses.map((one) => canonicalAddr(one)),
    mac: parseMac(published.mac),
  };
  const network = await requireNetwork(txn, endpoint.network);
  const before = await getEndpoint(txn, network.id, endpoint.id);
  if (before !== undefined && before.host !== host) {
    throw new TsnetError('ERR_ENDPOINT_EXISTS', `id: ${endpoint.id} is an endpoint of host ${before.host}`, {
      details: { field: 'id', value: endpoint.id },
    });
  }
  if (before !== undefined && isSettled(`endpoint ${endpoint.id}`, before, endpoint)) return;
  await requireOwnBlocks(txn, { network, host, addresses: endpoint.addresses });
  for (const address of endpoint.addresses) {
    await requireFreeAddress(txn, { network, address, self: endpoint.id });
  }
  const macHolder = await getMacHolder(txn, network.id, endpoint.mac);
  if (macHolder !== undefined && macHolder !== endpoint.id) {
    throw new TsnetError(
      'ERR_MAC_IN_USE',
      `mac: ${endpoint.mac} of network "${network.name}" is held by endpoint ${macHolder}`,
      {
        details: { field: 'mac', value: endpoint.mac, holder: macHolder },
      },
    );
  }
  putEndpoint(txn, endpoint, before);
}

/** Takes that a host carries a network, with the host's own addresses there. */
export async function takeCarrier(txn: Txn, host: string, published: Carrier): Promise<void> {
  refuseForeign(host, published.host, 'carrier');
  const carrier: Carrier = {
    ...published,
    vtep: canonicalAddr(published.vtep, 'vtep'),
    addresses: published.addresses.map((one) => canonicalAddr(one)),
    mac: parseMac(published.mac),
  };
  const network = await requireNetwork(txn, carrier.network);
  const before = await getCarrier(txn, network.id, host);
  if (before !== undefined && isSettled(`carrier of ${host}`, before, carrier)) return;
  await requireOwnBlocks(txn, { network, host, addresses: carrier.addresses });
  for (const address of carrier.addresses) await requireFreeAddress(txn, { network, address, self: hostHolder(host) });
  putCarrier(txn, carrier, before);
}

/** Takes that an endpoint is gone; one that is not there is gone already. */
export async function dropEndpoint(txn: Txn, host: string, gone: EndpointGone): Promise<void> {
  const endpoint = await getEndpoint(txn, gone.network, gone.id);
  if (endpoint === undefined) return;
  refuseForeign(host, endpoint.host, `endpoint ${gone.id}`);
  refuseStale(`endpoint ${gone.id}`, endpoint.generation, gone.generation);
  deleteEndpoint(txn, endpoint);
}

/** Takes that a host carries a network no more. */
export async function dropCarrier(txn: Txn, host: string, gone: CarrierGone): Promise<void> {
  const carrier = await getCarrier(txn, gone.network, host);
  if (carrier === undefined) return;
  refuseStale(`carrier of ${host}`, carrier.generation, gone.generation);
  deleteCarrier(txn, carrier);
}

/** Whether the record is known as it stands. Errors: ERR_STALE_GENERATION for an older one, or another of the same generation. */
function isSettled(what: string, before: Endpoint | Carrier, published: Endpoint | Carrier): boolean {
  if (published.generation > before.generation) return false;
  if (published.generation === before.generation && isSameRecord(before, published)) return true;
  throw stale(what, before.generation, published.generation);
}

function refuseStale(what: string, current: number, generation: number): void {
  if (generation < current) throw stale(what, current, generation);
}

function stale(what: string, current: number, generation: number): TsnetError {
  return new TsnetError('ERR_STALE_GENERATION', `generation: ${generation} of ${what} is not newer than ${current}`, {
    details: { field: 'generation', value: generation, current },
  });
}

function isSameRecord(a: object, b: object): boolean {
  const sorted = (_key: string, value: unknown): unknown =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([x], [y]) => (x < y ? -1 : 1)))
      : value;
  return JSON.stringify(a, sorted) === JSON.stringify(b, sorted);
}

function refuseForeign(host: string, owner: string, what: string): void {
  if (owner === host) return;
  throw new TsnetError('ERR_FORBIDDEN', `host: ${what} belongs to host ${owner}, not ${host}`, {
    details: { field: 'host', value: owner },
  });
}

async function requireNetwork(txn: Txn, id: string): Promise<Network> {
  const network = await getNetwork(txn, id);
  if (network === undefined) throw networkUnknown(id);
  return network;
}

async function requireFreeAddress(
  txn: Txn,
  claim: { readonly network: Network; readonly address: string; readonly self: string },
): Promise<void> {
  const { network, address, self } = claim;
  const holder = await getAddressHolder(txn, network.id, address);
  if (holder === undefined || holder === self) return;
  const who = holder.startsWith('host:') ? `host ${holder.slice(5)}` : `endpoint ${holder}`;
  throw addressInUse(network, address, who);
}

/** Errors: ERR_ADDRESS_OUTSIDE_SUBNET; ERR_BLOCK_FENCED for an address in no block of the host. */
async function requireOwnBlocks(
  txn: Txn,
  claim: { readonly network: Network; readonly host: string; readonly addresses: readonly string[] },
): Promise<void> {
  const { network, host } = claim;
  const grids = network.subnets.map(newGrid);
  const places = claim.addresses.map((address) => placeOf(network, grids, address));
  for (const { address, whole, single } of places) {
    const block = await getBlock(txn, network.id, whole);
    const own = await getBlock(txn, network.id, single);
    if (own?.host === host || (block?.host === host && !block.carved.includes(address))) continue;
    const holder = own?.host ?? block?.host ?? 'nobody';
    throw new TsnetError(
      'ERR_BLOCK_FENCED',
      `address: ${address} of network "${network.name}" lies in no block of host ${host} (but of ${holder})`,
      {
        details: { field: 'address', value: address, holder },
      },
    );
  }
}

function placeOf(
  network: Pick<Network, 'name'>,
  grids: readonly Grid[],
  address: string,
): { readonly address: string; readonly whole: string; readonly single: string } {
  const addr: Addr = parseAddr(address);
  const grid = grids.find(({ prefix }) => containsAddr(prefix, addr));
  if (grid !== undefined)
    return { address, whole: formatPrefix(blockContaining(grid.prefix, addr)), single: singleCidr(addr) };
  throw new TsnetError(
    'ERR_ADDRESS_OUTSIDE_SUBNET',
    `address: ${address} lies in no subnet of network "${network.name}"`,
    {
      details: { field: 'address', value: address },
    },
  );
}
