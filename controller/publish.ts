import type { Publication, PublicationResult } from '../core/api/publication.js';
import { TsnetError } from '../core/errors.js';
import { carrierKey, endpointKey } from '../core/keys.js';
import { maxTxnOps, type KeyValue } from '../lib/etcd/client.js';
import type { Network } from '../core/model.js';
import { transact, Txn, type Committed } from '../lib/etcd/txn.js';
import { requireReady, settingsOf, type ControllerContext } from './context.js';
import { carrierClaimant, endpointClaimant, expected, type Claimant } from './expected.js';
import {
  dropCarrier,
  dropEndpoint,
  keysOfCarrier,
  keysOfEndpoint,
  takeCarrier,
  takeEndpoint,
} from './publish-records.js';
import { refillBlock, refillNetwork } from './publish-refill.js';
import { claimServiceAddresses, refillService } from './service-refill.js';

const maxRecords = 100;
/** An answer does not wait longer than this for its own effect to be seen. */
const spreadTimeoutMs = 500;
/** Keys that one transaction reads at most, leaving room below etcd's 128 operations. */
const maxKeys = 100;

/** One record of a publication, with what it costs in a transaction and how it is taken. */
interface Item {
  readonly key: string;
  readonly keys: number;
  /** Keys that `take` is known to read. */
  readonly reads?: readonly string[];
  /** The record as it stands so far. */
  readonly claimant?: Claimant | undefined;
  /** Takes the record in a transaction; throws a TsnetError to refuse it. */
  readonly take: (txn: Txn) => Promise<void>;
  /** Must have a transaction of its own: it lists what others of its kind change. */
  readonly isAlone?: boolean;
}

/**
 * Takes what a host says of itself, in the order networks, services, blocks, what is gone, carriers, endpoints. Each record
 * stands for itself: those refused are named in the result.
 * Errors: ERR_TOO_LARGE; ERR_STORE_UNREACHABLE, after which all may be sent again.
 */
export async function publish(
  context: ControllerContext,
  host: string,
  publication: Publication,
): Promise<PublicationResult> {
  requireReady(context);
  const items = itemsOf(context, host, publication);
  if (items.length > maxRecords) {
    throw new TsnetError(
      'ERR_TOO_LARGE',
      `a publication of ${items.length} records: at most ${maxRecords} are taken at once`,
    );
  }
  if (publication.services !== undefined) await claimServiceAddresses(context, publication.services);
  const refused: PublicationResult['refused'][number][] = [];
  let revision = 0;
  for (const portion of portionsOf(items)) {
    const taken = await takePortion(context, portion);
    refused.push(...taken.result);
    revision = Math.max(revision, taken.revision);
  }
  // Hosts on this controller have been sent it by the time the publisher is answered.
  await context.mirror.reached(revision, spreadTimeoutMs);
  return { refused };
}

type Refused = PublicationResult['refused'];

async function takePortion(context: ControllerContext, items: readonly Item[]): Promise<Committed<Refused>> {
  return (await takeExpected(context, items)) ?? takeRead(context, items);
}

/**
 * Takes records by what the mirror says of the store, which is one call instead of two. Only a commit compares: neither a
 * refusal nor a record that is in place already is believed of the mirror. Undefined where the store has to be read.
 */
async function takeExpected(
  { client, mirror }: ControllerContext,
  items: readonly Item[],
): Promise<Committed<Refused> | undefined> {
  if (!mirror.isConnected) return undefined;
  const kvs = new Map<string, KeyValue | undefined>();
  for (const { reads, claimant } of items) {
    if (reads === undefined) return undefined;
    for (const key of reads) if (!kvs.has(key)) kvs.set(key, expected(mirror.tables, key, claimant));
  }
  const txn = new Txn(client);
  txn.expect(kvs, mirror.revision);
  const refused = await takeEach(txn, items);
  if (refused.length > 0 || txn.size > maxTxnOps) return undefined;
  const revision = await txn.commit();
  return revision === undefined || revision === 0 ? undefined : { result: refused, revision };
}

async function takeRead(context: ControllerContext, items: readonly Item[]): Promise<Committed<Refused>> {
  return transact(
    context.client,
    async (txn) => {
      await txn.load(items.flatMap(({ reads = [] }) => reads));
      const refused = await takeEach(txn, items);
      if (txn.size > maxTxnOps && items.length > 1) throw new Oversize();
      return refused;
    },
    { what: 'publication' },
  ).catch(async (error: unknown) => {
    if (!(error instanceof Oversize)) throw error;
    const half = Math.ceil(items.length / 2);
    const first = await takeRead(context, items.slice(0, half));
    const second = await takeRead(context, items.slice(half));
    return { result: [...first.result, ...second.result], revision: Math.max(first.revision, second.revision) };
  });
}

async function takeEach(txn: Txn, items: readonly Item[]): Promise<Refused> {
  const refused: Refused[number][] = [];
  for (const item of items) {
    try {
      await item.take(txn);
    } catch (error) {
      if (
        !(error instanceof TsnetError) ||
        error.code === 'ERR_STORE_UNREACHABLE' ||
        error.code === 'ERR_STORE_CORRUPT'
      )
        throw error;
      refused.push({ key: item.key, code: error.code, message: error.message });
    }
  }
  return refused;
}

/** A portion turned out larger than was estimated from its records. */
class Oversize extends Error {}

function portionsOf(items: readonly Item[]): Item[][] {
  const portions: Item[][] = [];
  let current: Item[] = [];
  let keys = 0;
  for (const item of items) {
    if (current.length > 0 && (item.isAlone === true || current[0]?.isAlone === true || keys + item.keys > maxKeys)) {
      portions.push(current);
      current = [];
      keys = 0;
    }
    current.push(item);
    keys += item.keys;
  }
  if (current.length > 0) portions.push(current);
  return portions;
}

function itemsOf(context: ControllerContext, host: string, publication: Publication): Item[] {
  const mayManage = settingsOf(context).hostsManageNetworks;
  const { tables } = context.mirror;
  const known = (id: string): Network | undefined => tables.network.get('', id)?.value;
  const items: Item[] = [];
  for (const network of publication.networks ?? []) {
    items.push({
      key: `network/${network.id}/${network.id}`,
      keys: 8,
      isAlone: true,
      take: (txn) => refillNetwork(txn, network, mayManage),
    });
  }
  // Before blocks: a block that is granted or taken from now on leaves their addresses out.
  for (const service of publication.services ?? []) {
    items.push({
      key: `service/${service.network}/${service.name}`,
      keys: 5 + 4 * service.addresses.length,
      take: (txn) => refillService(context, txn, { service, mayManage }),
    });
  }
  for (const block of publication.blocks ?? []) {
    items.push({
      key: `block/${block.network}/${block.cidr}`,
      keys: 8,
      isAlone: true,
      take: (txn) => refillBlock(txn, host, block),
    });
  }
  for (const gone of publication.endpointsGone ?? []) {
    items.push({
      key: `endpoint/${gone.network}/${gone.id}`,
      keys: 5,
      reads: [endpointKey(gone.network, gone.id)],
      take: (txn) => dropEndpoint(txn, host, gone),
    });
  }
  for (const gone of publication.carriersGone ?? []) {
    items.push({
      key: `carrier/${gone.network}/${host}`,
      keys: 5,
      reads: [carrierKey(gone.network, host)],
      take: (txn) => dropCarrier(txn, host, gone),
    });
  }
  for (const carrier of publication.carriers ?? []) {
    const keys = 4 + 4 * carrier.addresses.length;
    items.push({
      key: `carrier/${carrier.network}/${carrier.host}`,
      keys,
      reads: keysOfCarrier(carrier, known),
      claimant: carrierClaimant(tables, carrier),
      take: (txn) => takeCarrier(txn, host, carrier),
    });
  }
  for (const endpoint of publication.endpoints ?? []) {
    const keys = 4 + 2 * endpoint.addresses.length;
    items.push({
      key: `endpoint/${endpoint.network}/${endpoint.id}`,
      keys,
      reads: keysOfEndpoint(endpoint, known),
      claimant: endpointClaimant(tables, endpoint),
      take: (txn) => takeEndpoint(txn, host, endpoint),
    });
  }
  return items;
}
